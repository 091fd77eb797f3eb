"""Measurements: `python -m benchmarks`. README.md beside this file says how."""
