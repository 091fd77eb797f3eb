"""Journal: what happened to the plug-ins of one kernel, for whoever asks and whoever listens."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..kernel.clock import Clock

log = logging.getLogger("mukernel")
REMEMBERED = 1000  # events kept for those who ask
LONGEST_DETAIL = 10_000  # characters: a plug-in may have said it


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to a plug-in. `at`: seconds of the kernel's clock; `pause`: seconds, where there was
    one."""

    at: float
    what: str
    plugin: str
    detail: str = ""
    pause: float | None = None


class Journal:
    """Keeps the last events, and tells each to its listeners as it happens."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events: deque[Happening] = deque(maxlen=REMEMBERED)
        self.listeners: list[Callable[[Happening], object]] = []  # called with each event, as it happens

    def record(self, what: str, plugin: str, detail: str = "", pause: float | None = None) -> None:
        """Note an event; `pause` in seconds. What a listener raises is logged: whoever tells of an event, such as the
        supervisor, goes on. But SystemExit and KeyboardInterrupt end the program, as everywhere in asyncio."""
        happening = Happening(self.clock.now(), what, plugin, detail[:LONGEST_DETAIL], pause)
        self.events.append(happening)
        for listener in tuple(self.listeners):  # one may take itself off the list
            try:
                listener(happening)
            except (Exception, asyncio.CancelledError):  # of what it waited for: nobody cancelled the work that tells
                log.exception("the listener %r failed at %r of plug-in %r", listener, what, plugin)
