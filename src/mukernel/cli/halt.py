"""`mukernel stop`, `start`: end a plug-in and keep its declaration; start it again as it was."""

from __future__ import annotations

import argparse

from ..core.control import Control
from .client import with_control
from .options import add_options
from .terminal import Terminal

STOP = """\
Stop a plug-in: what runs is finished, what waits is refused, calls fail with Unavailable until it is started
again. With no NAME and --all, end the whole application, in order."""
START = "Start a stopped plug-in again, with its options and no state; whoever called it before calls it again."


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description = STOP if command == "stop" else START
    parser.epilog = f"examples:\n  mukernel {command} catalog" + (
        "\n  mukernel stop --all" if command == "stop" else ""
    )
    if command == "stop":
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("name", metavar="NAME", nargs="?", help="of the plug-in")
        which.add_argument("--all", action="store_true", help="end the application")
    else:
        parser.add_argument("name", metavar="NAME", help="of the plug-in")
    add_options(parser, json=False, changes=True)
    parser.set_defaults(run=stop if command == "stop" else start)


def stop(arguments: argparse.Namespace) -> int:
    async def work(control: Control) -> int:
        if arguments.all:
            name = (await control.about()).name
            await control.shutdown()
            Terminal().say(f"{name} is ending")
        else:
            await control.stop_plugin(arguments.name)
            Terminal().say(f"{arguments.name} is stopped; `mukernel start {arguments.name}` starts it again")
        return 0

    return with_control(work, arguments)


def start(arguments: argparse.Namespace) -> int:
    async def work(control: Control) -> int:
        await control.start_plugin(arguments.name)
        Terminal().say(f"{arguments.name} serves")
        return 0

    return with_control(work, arguments)
