"""The scenarios are those of the benchmarks, in small: what is measured there is what is tested here."""

import sys
from pathlib import Path

# Other processes import the plug-ins by name, so `benchmarks` must be importable: it lies in the root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
