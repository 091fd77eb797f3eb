"""`python -m mukernel.demo`: the same as `mukernel demo`."""

from __future__ import annotations

import argparse
import sys

from . import scene

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mukernel.demo", description=scene.__doc__)
    scene.add_arguments(parser)
    sys.exit(scene.main(parser.parse_args()))
