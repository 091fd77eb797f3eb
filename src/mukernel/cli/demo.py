"""`mukernel demo`: watch it happen."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    from ..demo import arguments, scene  # only this command needs them

    parser.description = (
        "Index the source of Python's standard library (or of FOLDER) with plug-ins, and swap, move,\n"
        "scale and kill them while they answer a steady load of queries. Ends within a minute, whatever\n"
        "FOLDER holds: indexing stops after 25 seconds, and what was indexed by then is searched. Exits\n"
        "with 1 if one call was lost.\n\n"
        "Of FOLDER, and what lies below it, .py files are indexed. Left out, and counted in the summary, are\n"
        "folders named test, tests, idle_test, site-packages, dist-packages or node_modules, hidden folders,\n"
        "virtual environments, links, and files above 2,000,000 bytes; FOLDER itself may have any name. The\n"
        "index takes some MB of the folder for temporary files: TMPDIR says which that is."
    )
    parser.epilog = "examples:\n  mukernel demo\n  mukernel demo ~/src/project --keep"
    arguments.add_arguments(parser)
    parser.set_defaults(run=scene.main)
