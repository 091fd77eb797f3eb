"""The command line: ordinary clients of a running kernel's control interface."""
