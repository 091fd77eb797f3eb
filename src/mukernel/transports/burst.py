"""Burst: how long calls may keep an event loop before its other work gets a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

BURST_NS = 5_000_000
HEAVY_NS = 100_000  # calls that take longer than this, in the mean of a burst that was cut off, compute


class Burst:
    """Of one server. `over`: it has kept the loop long enough: nothing more is started before `go_on`, which is called
    when the loop has had a turn. `heavy`: its calls compute, so that the next is to be chosen among all that wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, go_on: Callable[[], None], context: Context) -> None:
        self.loop, self.go_on, self.context = loop, go_on, context
        self.over = self.heavy = False

    def lasts(self, ns: int, calls: int = 1) -> bool:
        """So many calls have been started in so long, and that is not too much yet?"""
        if ns <= BURST_NS:
            return True
        self.heavy = ns > calls * HEAVY_NS
        if not self.over:
            self.over = True
            self.loop.call_soon(self.turn, context=self.context.copy())
        return False

    def turn(self) -> None:
        self.over = False
        self.go_on()
