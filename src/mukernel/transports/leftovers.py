"""Leftovers: what came by the lanes of a server, or lies in them still, and is of no message any more.

What a call lends that was cancelled behind others is let go of when it is the first in its lane. A server that is
replaced, or dies, before that can't tell its successor, to which it looks like what is of a message that has not come
yet: so it is let go of when it was seen for a while, and no message waits that could be its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .contract import Wire
from .lane import Lane

PERIOD = 0.5  # seconds between two looks; whoever lends something sends the message in the next moment


class Leftovers:
    """Those of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.seen: dict[Lane, set[bytes]] = {}  # the tokens that were there at the last look, where there were any
        self.timer: asyncio.TimerHandle | None = None

    def attach(self, wire: Wire, nothing_waits: Callable[[], bool]) -> None:
        """`nothing_waits`: was every message taken that has come by the wire?"""
        if (lane := wire.lane) is not None:
            lane.nothing_waits[wire], lane.when_left = nothing_waits, self.watch
            if lane.first():
                self.watch(lane)

    def detach(self, wire: Wire) -> None:
        if wire.lane is not None:
            wire.lane.nothing_waits.pop(wire, None)

    def watch(self, lane: Lane) -> None:
        """Look at it again until nothing is there."""
        if lane not in self.seen:
            self.seen[lane] = lane.tokens()
            if self.timer is None:
                self.timer = self.loop.call_later(PERIOD, self.look)

    def look(self) -> None:
        self.timer = None
        for lane, seen in list(self.seen.items()):
            lane.clear(seen)
            self.seen[lane] = lane.tokens()
            if not self.seen[lane]:
                del self.seen[lane]
        if self.seen:
            self.timer = self.loop.call_later(PERIOD, self.look)
