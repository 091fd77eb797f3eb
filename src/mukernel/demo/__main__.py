"""`python -m mukernel.demo`: the same as `mukernel demo`."""

from __future__ import annotations

import sys

from .scene import run_command

if __name__ == "__main__":
    sys.exit(run_command())
