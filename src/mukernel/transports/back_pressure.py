"""Back-pressure by memory: items of a stream wait while what was sent before them has used up the quota."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .segment import NotReceivedYet

A_MOMENT = 0.001  # seconds; the system does not say when a packet of a lane has been received


def attempt(encode: Callable[[Any], Any], value: Any) -> Any:
    """The body of an item, which is never empty. None: try again in a moment, for whoever was sent something by this
    process, be it in another stream, has not received it yet. Raises what `encode` does otherwise: there will be no
    more room."""
    try:
        return encode(value)
    except NotReceivedYet:
        return None


async def encoded(loop: asyncio.AbstractEventLoop, encode: Callable[[Any], Any], value: Any) -> Any:
    """The body of an item, as soon as there is room for what it lends. Raises what `encode` does."""
    while (body := attempt(encode, value)) is None:
        turn = loop.create_future()
        loop.call_later(A_MOMENT, end_of, turn)
        await turn
    return body


def end_of(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


__all__ = ["A_MOMENT", "attempt", "encoded"]
