"""Overdue: what a process has for each thing that the kernel tells it to do. One that answers its heartbeat, but does
not do that, is ended: whoever asked is not to wait for it for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from ..contract import MukernelError
from . import hooks, messages

SLACK = 5.0  # seconds beyond its own time: the process keeps to that by itself, unless it is hostile


def time_for(command: messages.Message) -> float | None:
    """Seconds, from when a process has taken it up; None: any, since somebody else sees to that."""
    match command:
        case messages.Quiesce() | messages.Stop():
            return command.drain + hooks.PATIENCE + 2 * hooks.CLEAN_UP
        case messages.Activate():
            return hooks.PATIENCE + hooks.CLEAN_UP
        case messages.Build() | messages.Ping():  # the restart policy, by its `hang`
            return None
    return SLACK


@contextmanager
def ended_if_overdue(
    command: messages.Message, ping: Callable[[], Awaitable[None]], silence: float | None, end: Callable[[str], None]
) -> Iterator[None]:
    """While this lasts `command` is waited for. `end` is called, with what to say of the process ("it ..."), where it
    takes longer than its time and SLACK.

    Only time in which the process is there counts: it may be busy with a method, for as long as its policy lets it.
    So it is pinged, by the same link, and answers that when it has taken up the command. `silence`: seconds after which
    that is not waited for any longer, as one may answer other pings alone; None: as long as it takes.
    """
    seconds, loop = time_for(command), asyncio.get_running_loop()
    if seconds is None:
        yield
        return

    async def watch() -> None:
        with contextlib.suppress(TimeoutError, MukernelError):  # whatever it answers
            async with asyncio.timeout(silence):
                await ping()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await loop.create_future()  # cancelled by the answer, also if it comes in the same turn of the loop
        end(f"gave no answer to {type(command).__name__} within {seconds + SLACK:g} s and was ended")

    watching: list[asyncio.Task[None]] = []
    waiting = loop.call_later(SLACK, lambda: watching.append(loop.create_task(watch())))
    try:
        yield
    finally:
        waiting.cancel()
        for task in watching:
            task.cancel()
