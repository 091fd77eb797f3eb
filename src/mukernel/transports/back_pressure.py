"""Back-pressure by memory: items of a stream wait while what was sent before them has used up the quota."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .lane import Lane
from .segment import NotReceivedYet

A_MOMENT = 0.001  # seconds; the system does not say when a packet of a lane has been received


class HeldBack:
    """Encodes one item for `lane`, as often as it takes: while that lane has something that its receiver has not
    received, no room for one item more is no error."""

    def __init__(self, lane: Lane | None, encode: Callable[[Any], Any]) -> None:
        self.lane, self.encode = lane, encode
        self.last = False  # all has been received: there will be no more room than there is

    def attempt(self, value: Any) -> Any:
        """The body, or None: try again in a moment. Raises what `encode` does."""
        try:
            return self.encode(value)
        except NotReceivedYet:
            if self.last:
                raise
        self.last = self.lane is None or not self.lane.in_flight()
        return None


async def encoded(loop: asyncio.AbstractEventLoop, lane: Lane | None, encode: Callable[[Any], Any], value: Any) -> Any:
    """The body of an item, as soon as there is room for what it lends. Raises what `encode` does."""
    held_back = HeldBack(lane, encode)
    while (body := held_back.attempt(value)) is None:
        turn = loop.create_future()
        loop.call_later(A_MOMENT, end_of, turn)
        await turn
    return body


def end_of(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


__all__ = ["A_MOMENT", "HeldBack", "encoded"]
