"""`mukernel memory`: the shared memory that plug-ins hold."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..core.control import ProcessMemory
from ..core.messages import HeldSegment
from ..core.quantity import size_text
from .client import shown
from .options import add_options
from .terminal import Terminal

HEADER = ("PROCESS", "PID", "PLUGINS", "HELD", "QUOTA", "LENT", "SEGMENTS")
RIGHT = ("PID", "HELD", "QUOTA", "LENT", "SEGMENTS")
PIECES = ("PROCESS", "MEMORY", "SIZE", "FROM", "STATE", "CONTENT")

DESCRIPTION = """\
List the shared memory that the processes of a running application hold: arrays, Buffers and Arrow tables that they
made, or got from others and still look into.

HELD counts against QUOTA (`shared_memory`); so does LENT, what a process has sent and nobody has received yet. With
--segments each piece has a line. MEMORY is the same number wherever it is the same memory: the last line counts each
once. STATE is "written" while its maker fills it, "sent" when nobody else can write it any more, "final" when nobody
at all can."""

EXAMPLES = """\
examples:
  mukernel memory
  mukernel memory filter --segments
  mukernel memory --json"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("name", metavar="PLUGIN", nargs="?", help="the processes of one plug-in (default: all)")
    parser.add_argument("--segments", action="store_true", help="a line for each piece, the largest first")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    def lines(processes: list[ProcessMemory], terminal: Terminal) -> Iterator[str]:
        yield terminal.table(HEADER, [row(each, terminal) for each in processes], RIGHT)
        pieces = [(each.process, piece) for each in processes if each.inventory for piece in each.inventory.segments]
        if arguments.segments and pieces:
            yield ""
            yield terminal.table(PIECES, [piece_row(name, piece) for name, piece in pieces], ("MEMORY", "SIZE"))
        sizes = {piece.memory: piece.size for _, piece in pieces}
        yield f"{size_text(sum(sizes.values()))} in {len(sizes)} pieces of memory"

    return shown(arguments, lambda control: control.memory(arguments.name), lines)


def row(memory: ProcessMemory, terminal: Terminal) -> list[str]:
    """The cells of one process, in the order of HEADER."""
    held = memory.inventory
    name, plugins = terminal.paint(memory.process, "bold"), ", ".join(memory.plugins) or "-"
    if held is None:
        return [name, str(memory.pid), plugins, "not answering", "-", "-", "-"]
    return [
        name, str(memory.pid), plugins, size_text(held.held), size_text(held.quota), size_text(held.lent),
        str(held.count),
    ]  # fmt: skip


def piece_row(process: str, piece: HeldSegment) -> list[str]:
    """The cells of one piece, in the order of PIECES."""
    origin = "made here" if piece.made else "received"
    return [process, str(piece.memory), size_text(piece.size), origin, piece.state, piece.content or "-"]
