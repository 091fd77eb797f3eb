"""`mukernel stack`: where a plug-in stands, whatever it is doing."""

from __future__ import annotations

import argparse

from .client import shown
from .options import add_options

DESCRIPTION = """\
Show where each process of a plug-in stands: what the system says it is doing, and the Python stack of each of its
threads, the innermost function first.

It is shown whatever the process does: in a loop, in a deadlock, in a function written in C, while it is being started;
it goes on as before. A process that a signal has stopped can't answer, and is said to be stopped."""

EXAMPLES = """\
examples:
  mukernel stack catalog
  mukernel stack catalog --json"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("name", metavar="NAME", help="of the plug-in")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return shown(
        arguments,
        lambda control: control.stack(arguments.name),
        lambda stacks, terminal: ["\n\n".join(each.text for each in stacks) or f"{arguments.name} has no process now"],
    )
