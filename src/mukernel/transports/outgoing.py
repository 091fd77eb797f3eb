"""Outgoing: the items of a stream that a server runs, on credit, and in turns with all else that its loop does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .back_pressure import attempt, encoded
from .inputs import one_by_one
from .kind import Kind
from .lane import loaded
from .running import Running

ITEM = int(Kind.ITEM)
STEP_NS = 1_000_000  # a stream that has taken the loop for so long gives it a turn: there may be many


async def send_items(call: Running, items: Any, loop: Any, now_ns: Callable[[], int]) -> None:
    """Send what `items` yields, as far as there is credit. `items`: an iterator, or an async one, which is closed at
    the end, however that comes."""
    method, wire, number = call.method, call.wire, call.message.call
    ends = now_ns() + STEP_NS
    try:
        async for item in items if hasattr(items, "__aiter__") else one_by_one(items):
            while call.credit <= 0:  # before it is encoded: what waits here does not count against the quota
                if call.ending is not None:
                    raise call.ending
                call.more_credit = loop.create_future()
                await call.more_credit
                ends = now_ns() + STEP_NS
            body = attempt(method.encode_item, item) or await encoded(loop, method.encode_item, item)
            call.credit -= 1
            wire.post(ITEM, number, loaded(wire.lane, body))
            del body, item
            if now_ns() > ends:
                await asyncio.sleep(0)
                ends = now_ns() + STEP_NS
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


__all__ = ["send_items"]
