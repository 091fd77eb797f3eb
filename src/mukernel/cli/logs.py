"""`mukernel logs`: what plug-ins have printed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from ..contract import NotFound
from ..core.control import Control, LogFile
from .client import clock, with_control
from .options import add_options
from .terminal import Terminal, UsageError, as_json

KERNEL = "kernel"  # whose log is that of what runs inline; no plug-in has its name
LOOK = 0.2  # seconds between two looks for more, with --follow
TAIL = 64 * 1024  # bytes from the end in which the last lines are looked for, doubled until they are found

DESCRIPTION = """\
Show the last lines that plug-ins have printed and logged. A plug-in with a process of its own has a log of
its own; those that share a process share its log. Those that run inline log (`logging`) into the kernel's, and what
they print is on the terminal of `mukernel run`."""
EXAMPLES = """\
examples:
  mukernel logs greeter
  mukernel logs greeter --follow
  mukernel logs --lines 100        every log"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("name", metavar="NAME", nargs="?", help="of a plug-in, or `kernel` (default: all)")
    parser.add_argument(
        "-n", "--lines", type=int, default=20, metavar="COUNT", help="how many lines of each (default: 20)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on showing what comes, until Ctrl-C")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.lines < 0:
        raise UsageError(f"--lines: got {arguments.lines}, wanted 0 or more")
    if arguments.json and arguments.follow:
        raise UsageError("--json and --follow don't go together: a script reads the file that --json names")

    async def logs_of(control: Control) -> int:
        ends = show(chosen(await control.logs(), arguments.name), arguments)
        if arguments.follow:
            await follow(ends, control)
        return 0

    return with_control(logs_of, arguments)


def chosen(found: list[LogFile], name: str | None) -> list[str]:
    """The paths of the logs that are meant. Raises NotFound."""
    if name is not None:
        known = ", ".join(each.plugin for each in found) or "none: this kernel keeps no logs"
        found = [each for each in found if each.plugin == name]
        if not found:
            raise NotFound(f"there is no log of {name!r}; there are: {known}")
        if found[0].plugin != KERNEL and os.path.basename(found[0].path) == f"{KERNEL}.log":
            Terminal(sys.stderr).say(
                f"note: {name} runs inline: it logs into the kernel's log, which follows; what it prints is "
                "on the terminal of `mukernel run`"
            )
    return list(dict.fromkeys(each.path for each in found))


def show(paths: Sequence[str], arguments: argparse.Namespace) -> dict[str, int]:
    """Print the last lines of each file; return how far each was read."""
    terminal = Terminal()
    ends = {}
    for path in paths:
        found, ends[path] = last_lines(path, arguments.lines)
        if len(found) < arguments.lines:  # the rest may have been put aside
            found = last_lines(f"{path}.1", arguments.lines - len(found))[0] + found
        if arguments.json:
            terminal.say(as_json({"path": path, "lines": found}))
            continue
        if len(paths) > 1 and (found or arguments.follow):
            terminal.say(terminal.paint(f"==> {path} <==", "bold"))
        for line in found:
            terminal.say(line)
    return ends


def last_lines(path: str, count: int) -> tuple[list[str], int]:
    """The last lines of a file, and where it ends; none for a file that is not there yet."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            reach = TAIL
            while True:
                start = max(0, end - reach)
                file.seek(start)
                lines = file.read(end - start).split(b"\n")
                lines = lines if lines[-1] else lines[:-1]
                if start == 0 or len(lines) > count:
                    kept = lines[-count:] if count else []
                    return [line.decode(errors="replace") for line in kept], end
                reach *= 2
    except FileNotFoundError:
        return [], 0


async def follow(ends: dict[str, int], control: Control) -> None:
    """Print what is added to each file, until the kernel has gone. Raises Unavailable then. `ends`: how far each was
    read."""
    until_gone = asyncio.create_task(still_there(control))
    try:
        while not until_gone.done():
            show_added(ends)
            await asyncio.wait((until_gone,), timeout=LOOK)
        show_added(ends)  # its last words
        until_gone.result()
    finally:
        until_gone.cancel()


async def still_there(control: Control) -> None:
    """Raises Unavailable when the kernel has gone."""
    while True:
        await control.about()
        await clock.sleep(LOOK)


def show_added(ends: dict[str, int]) -> None:
    for path, end in ends.items():
        added, ends[path] = added_since(path, end)
        Terminal().say(added, end="")


def added_since(path: str, end: int) -> tuple[str, int]:
    """What a file holds beyond byte `end`, and where it ends now. One that has become shorter was begun
    anew."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(end if size >= end else 0)
            return file.read().decode(errors="replace"), file.tell()
    except FileNotFoundError:
        return "", end
