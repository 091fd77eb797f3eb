"""`mukernel top`: the plug-ins of a running application, again and again."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine

from ..core.control import About, Control, PluginStatus
from ..core.quantity import duration, duration_text, size_text
from .client import clock, with_control
from .options import add_options
from .ps import HEADER, RIGHT, row
from .terminal import Terminal, UsageError, as_json

MORE = ("CPU%", "CALLS/S")
CLEAR, HIDE_CURSOR, SHOW_CURSOR = "\x1b[H\x1b[J", "\x1b[?25l", "\x1b[?25h"

EXAMPLES = """\
examples:
  mukernel top                    until Ctrl-C
  mukernel top --every 200ms
  mukernel top --once --json      one look, over one interval, for scripts"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description = (
        "Watch the plug-ins of a running application: the columns of `mukernel ps`, the share of a processor that "
        "each has had since the last look (100%: one of them all the time), and calls a second."
    )
    parser.epilog = EXAMPLES
    parser.add_argument("--every", default="1s", metavar="TIME", help="between two looks (default: 1s)")
    parser.add_argument("--once", action="store_true", help="show one interval, then end")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        every = duration(arguments.every)
        if every <= 0:
            raise ValueError("a time above 0")
    except ValueError as wanted:
        raise UsageError(f"--every: got {arguments.every!r}, wanted {wanted}") from None
    if arguments.json and not arguments.once:
        raise UsageError("--json wants --once: a script reads one look")

    async def watch(control: Control) -> int:
        terminal = Terminal()
        live = terminal.is_terminal and not arguments.once
        looking = look_on(control, terminal, live)
        return await (ended_by_signals(looking) if live else looking)

    async def look_on(control: Control, terminal: Terminal, live: bool) -> int:
        before, at = await control.ps(), clock.now()
        try:
            if live:
                sys.stdout.write(HIDE_CURSOR)
            while True:
                await clock.sleep(every)
                after, now = await control.ps(), clock.now()
                rates, shares = calls_a_second(before, after, now - at), cpu_shares(before, after, now - at)
                if arguments.json:
                    more = [{"rate": rates.get(each.name), "cpu_share": shares.get(each.name)} for each in after]
                    terminal.say(as_json([{**as_dict(each), **it} for each, it in zip(after, more, strict=True)]))
                    return 0
                about = await control.about()
                if live:
                    sys.stdout.write(CLEAR)
                terminal.say(picture(terminal, about, after, rates, shares))
                if arguments.once:
                    return 0
                before, at = after, now
        finally:
            if live:
                with contextlib.suppress(OSError):  # the terminal may be gone
                    sys.stdout.write(SHOW_CURSOR)
                    sys.stdout.flush()

    return with_control(watch, arguments)


async def ended_by_signals(work: Coroutine[None, None, int]) -> int:
    """`work`, which SIGTERM, and SIGHUP of a terminal that is closed, end as Ctrl-C does: the cursor is shown again."""
    task = asyncio.ensure_future(work)
    heard: list[int] = []

    def end(number: int) -> None:
        heard.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not heard:
            raise
        return 128 + heard[0]


def calls_a_second(before: list[PluginStatus], after: list[PluginStatus], seconds: float) -> dict[str, float]:
    """By plug-in; none for those that nothing counts, or whose count began anew with another instance."""
    counts = {each.name: each.calls for each in before}
    rates = {}
    for each in after:
        earlier = counts.get(each.name)
        if each.calls is not None and earlier is not None and each.calls >= earlier and seconds > 0:
            rates[each.name] = (each.calls - earlier) / seconds
    return rates


def cpu_shares(before: list[PluginStatus], after: list[PluginStatus], seconds: float) -> dict[str, float]:
    """By plug-in, 1.0 for all of one processor; none for those whose processes are the kernel's, or not those of the
    look before."""
    had = {each.name: each for each in before}
    shares = {}
    for each in after:
        earlier = had.get(each.name)
        if each.cpu is not None and earlier is not None and earlier.cpu is not None and earlier.pids == each.pids:
            shares[each.name] = max(0.0, each.cpu - earlier.cpu) / seconds
    return shares


def picture(
    terminal: Terminal, about: About, plugins: list[PluginStatus], rates: dict[str, float], shares: dict[str, float]
) -> str:
    """What is shown at one moment."""
    up = duration_text(max(0.0, clock.wall().timestamp() - about.started))
    total = f"{sum(rates.values()):,.0f} calls/s"
    name, memory = terminal.paint(about.name, "bold"), size_text(about.memory)
    head = f"{name}  kernel {about.pid}  up {up}  {memory}  {total}"
    rows = [
        [
            *row(each, terminal),
            f"{shares[each.name]:.0%}" if each.name in shares else "-",
            f"{rates[each.name]:,.0f}" if each.name in rates else "-",
        ]
        for each in plugins
    ]
    return head + "\n\n" + terminal.table((*HEADER, *MORE), rows, (*RIGHT, *MORE))


def as_dict(plugin: PluginStatus) -> dict[str, object]:
    return {name: getattr(plugin, name) for name in plugin.__struct_fields__}
