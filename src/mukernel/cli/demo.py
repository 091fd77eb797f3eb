"""`mukernel demo`: watch it happen."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    from ..demo import scene  # only this command needs it

    parser.description = (
        "Index the source of Python's standard library (or of FOLDER) with plug-ins, and swap, move,\n"
        "scale and kill them while they answer a steady load of queries. Ends within a minute, whatever\n"
        "FOLDER holds: indexing stops after 25 seconds, and what was indexed by then is searched. Exits\n"
        "with 1 if one call was lost."
    )
    parser.epilog = "examples:\n  mukernel demo\n  mukernel demo ~/src/project --keep"
    scene.add_arguments(parser)
    parser.set_defaults(run=scene.main)
