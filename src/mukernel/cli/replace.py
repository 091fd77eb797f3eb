"""`mukernel swap`, `rollback`, `move`, `scale`, `restart`: what replaces instances while they are being called."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable

import msgspec

from ..core.control import Control
from ..core.quantity import duration, duration_text
from ..core.replacement import SwapReport
from ..deployment.request import read_request
from .client import with_control
from .options import add_options
from .terminal import Terminal, UsageError, as_json

SWAP = """\
Replace a plug-in by another version while it is being called. The new version is built, checked and warmed
while the old one serves; then it takes over the mailbox and the state. Any step that fails leaves the old
version serving.

USE is a "module:Class", a "file.py:Class" or an entry point; without it, the plug-in's own source is loaded
again. Or it is installed first, beside the version that runs, into an environment of its own: a requirement such as
"shop-catalog==2.1", a wheel, a directory, "git+https://..."; `mukernel rollback` goes back."""
ROLLBACK = """\
Replace a plug-in by the version before the last swap, with its configuration, as a swap does: nothing is lost. A second
rollback goes back to the one before that, and so on: the last ten are known, as long as the application runs. A swap
goes forward again. There is no way back to what files held before the last swap loaded them again. An environment that
was removed since is made again, from what is locked."""
MOVE = """\
Let a plug-in run somewhere else, with its state, while it is being called.

PLACEMENT is inline (in the kernel's own process), process (in one of its own) or process:NAME (in one that it
shares); sandbox or sandbox:NAME: the same, and the system keeps that process from all that it was not granted."""
SCALE = "Run more or fewer instances of a plug-in; those that leave first serve what they were sent."
RESTART = "Replace each instance of a plug-in by a fresh one, its state carried over; revive one that was given up."
DONE = {"swap": "swapped", "rollback": "taken back", "move": "moved", "scale": "scaled", "restart": "restarted"}
EXAMPLES = {
    "swap": "  mukernel swap greeter hello.polite:Polite\n"
    "  mukernel swap greeter --config polite=true\n"
    "  mukernel swap greeter\n"
    "  mukernel swap catalog shop-catalog==2.1\n"
    "  mukernel swap catalog git+https://example.org/shop.git@main --upgrade",
    "rollback": "  mukernel rollback catalog",
    "move": "  mukernel move greeter process\n  mukernel move greeter inline",
    "scale": "  mukernel scale catalog 3",
    "restart": "  mukernel restart catalog",
}


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description = {"swap": SWAP, "rollback": ROLLBACK, "move": MOVE, "scale": SCALE, "restart": RESTART}[command]
    parser.epilog = "examples:\n" + EXAMPLES[command]
    parser.add_argument("name", metavar="NAME", help="of the plug-in")
    if command == "swap":
        parser.add_argument("use", metavar="USE", nargs="?", help="what to load instead")
        parser.add_argument(
            "--config", metavar="KEY=VALUE", action="append", default=[],
            help="a setting of the new version, VALUE as JSON or text; given once, all others are left out",
        )  # fmt: skip
        parser.add_argument(
            "--drain", metavar="TIME",
            help="how long running calls may take to end, for this swap alone (default: as configured)",
        )  # fmt: skip
        parser.add_argument(
            "--python", metavar="VERSION", default="",
            help="of the environment that is installed, such as 3.13 or a path (default: as it is)",
        )  # fmt: skip
        parser.add_argument(
            "--upgrade", action="store_true",
            help="choose what is installed anew, whatever is locked, as after a push",
        )  # fmt: skip
    elif command == "move":
        parser.add_argument(
            "placement", metavar="PLACEMENT", help="inline, process, process:NAME, sandbox or sandbox:NAME"
        )
    elif command == "scale":
        parser.add_argument("replicas", metavar="COUNT", type=int, help="how many instances")
    add_options(parser, changes=True)
    runs = {"swap": swap, "rollback": rollback, "move": move, "scale": scale, "restart": restart}
    parser.set_defaults(run=runs[command])


def swap(arguments: argparse.Namespace) -> int:
    config = settings(arguments.config) if arguments.config else None
    drain = None
    if arguments.drain is not None:
        try:
            drain = duration(arguments.drain)
        except ValueError as wanted:
            raise UsageError(f"--drain: got {arguments.drain!r}, wanted {wanted}") from None
    use = arguments.use
    if use is not None and use.rpartition(":")[0].endswith(".py"):
        file, _, name = use.rpartition(":")
        if os.path.exists(file):  # a file as we see it; else one of the application's folder
            use = f"{os.path.abspath(file)}:{name}"
    elif use is not None:
        use = as_seen_here(use)
    python, upgrade = arguments.python, arguments.upgrade
    return replaced(arguments, lambda control: control.swap(arguments.name, use, config, drain, python, upgrade))


def as_seen_here(use: str) -> str:
    """A wheel or a directory that is there is meant as we see it; else as in the application's folder."""
    request = read_request(use, os.getcwd())
    if request is None or request.kind not in ("wheel", "directory") or not os.path.exists(request.target):
        return use
    path = request.target + ("/" if request.kind == "directory" else "")
    return f"{path}:{request.entry}" if request.entry else path


def rollback(arguments: argparse.Namespace) -> int:
    return replaced(arguments, lambda control: control.rollback(arguments.name))


def move(arguments: argparse.Namespace) -> int:
    return replaced(arguments, lambda control: control.move(arguments.name, arguments.placement))


def scale(arguments: argparse.Namespace) -> int:
    return replaced(arguments, lambda control: control.scale(arguments.name, arguments.replicas))


def restart(arguments: argparse.Namespace) -> int:
    return replaced(arguments, lambda control: control.restart(arguments.name))


def replaced(arguments: argparse.Namespace, ask: Callable[[Control], Awaitable[SwapReport]]) -> int:
    async def work(control: Control) -> int:
        report = await ask(control)
        status = 1 if report.rolled_back else 0
        if arguments.json:
            text = as_json({**msgspec.to_builtins(report), "lost": report.ledger.lost})
            return Terminal().say_at_the_end(text, status)
        if report.rolled_back:
            with contextlib.suppress(BrokenPipeError):
                Terminal(sys.stderr).complain(report_text(report, arguments.verbose))
        else:
            Terminal().say(report_text(report))
        return status

    return with_control(work, arguments)


def settings(given: list[str]) -> dict[str, object]:
    """KEY=VALUE pairs. Raises UsageError."""
    values: dict[str, object] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--config: got {text!r}, wanted KEY=VALUE")
        try:
            values[key] = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            values[key] = value
    return values


def report_text(report: SwapReport, verbose: bool = False) -> str:
    """A report for people: what happened, how long callers waited, and the account of their calls."""
    if report.rolled_back:
        reason = report.reason or "no reason was given"
        if not verbose:
            reason, traceback, _ = reason.partition("\n\nThe other side's traceback:")
            reason += " (--verbose shows the traceback)" if traceback else ""
        return f"{report.plugin}: the {report.what} was rolled back, {report.serves}: {reason}"
    done = DONE.get(report.what, report.what)
    pause = f"pause {duration_text(report.pause)}, " if report.pause else ""
    ledger = report.ledger
    account = (
        f"calls: {ledger.accepted} accepted, {ledger.replied} answered, {ledger.refused} refused, "
        f"{ledger.running + ledger.waiting} under way, {ledger.lost} lost"
    )
    return (
        f"{report.plugin} {done}: {report.before} → {report.after} "
        f"({pause}{duration_text(report.total)} in all; "
        f"{report.drained} drained, {report.carried_over} carried over)\n{account}"
    )
