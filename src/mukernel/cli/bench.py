"""`mukernel bench`: how many calls a second a running plug-in answers."""

from __future__ import annotations

import argparse

import msgspec

from ..core.control import Control
from ..core.described import served_method
from ..core.quantity import duration, duration_text
from .arguments import read_arguments
from .client import split_method, with_control
from .options import add_options
from .terminal import Terminal, UsageError, as_json

DESCRIPTION = """\
Call a method from the kernel's own process, from many tasks at once, and print how many calls a second were
answered and how long they took. An inline plug-in is called as its neighbours call it; one in a process
through shared memory. The calls are real: choose a method that may be called many times. A call that has not
returned 5 s after the end is cancelled, and counts as failed."""
EXAMPLES = """\
examples:
  mukernel bench Greeter.greet name=Ada
  mukernel bench Greeter.greet name=Ada --callers 64 --seconds 5 --json"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("method", metavar="INTERFACE.METHOD")
    parser.add_argument("arguments", metavar="NAME=VALUE", nargs="*", default=[], help="as of `mukernel call`")
    parser.add_argument("--plugin", metavar="NAME", help="which plug-in, where several serve the interface")
    parser.add_argument(
        "--callers", type=int, default=16, metavar="COUNT", help="tasks that call at once (default: 16)"
    )
    parser.add_argument("--seconds", default="3", metavar="TIME", help="how long, at most 60 (default: 3)")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        seconds = duration(arguments.seconds)
    except ValueError as wanted:
        raise UsageError(f"--seconds: got {arguments.seconds!r}, wanted {wanted}") from None
    interface, name = split_method(arguments.method)

    async def measure(control: Control) -> int:
        served = await control.serving(interface, arguments.plugin)
        values = read_arguments(arguments.arguments, served.interface, served_method(served.interface, name))
        report = await control.bench(served.interface.name, name, values, served.plugin, arguments.callers, seconds)
        if arguments.json:
            text = as_json({**msgspec.structs.asdict(report), "rate": report.rate})
        else:
            text = (
                f"{report.method} of {report.plugin} ({report.placement}), {report.callers} callers, "
                f"{report.seconds:.1f} s:\n"
                f"{report.rate:,.0f} calls/s   p50 {duration_text(report.p50)}   "
                f"p99 {duration_text(report.p99)}"
            )
            if report.errors:
                text += f"\n{report.errors:,} calls failed, the first with: {report.error}"
        return Terminal().say_at_the_end(text, 1 if report.errors else 0)

    return with_control(measure, arguments)
