"""What flows into a method, and out of one that blocks, item by item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from .calling import STREAM_CREDIT
from .kind import Kind


async def one_by_one(items: Iterable[Any]) -> AsyncIterator[Any]:
    """The items of a generator that blocks, with a turn for the loop after each."""
    for item in items:
        yield item
        await asyncio.sleep(0)


class InputStream(AsyncIterator[Any]):
    """What a channel's caller sends, as the method reads it; credit goes back as it is consumed, by `give_credit`,
    which takes a number of items. Items beyond it break the wire."""

    def __init__(
        self, give_credit: Callable[[int], None], loop: asyncio.AbstractEventLoop, decode: Callable[[bytes], Any]
    ) -> None:
        self.give_credit, self.loop, self.decode = give_credit, loop, decode
        self.items: list[bytes] = []
        self.taken = 0
        self.ended = False
        self.waiter: asyncio.Future[None] | None = None

    def received(self, kind: int, body: bytes) -> bool:
        """Take an item, or the end; False when there was no credit for it."""
        if kind != Kind.ITEM:
            self.ended = True
        elif len(self.items) >= STREAM_CREDIT:  # those that were taken, and not credited yet, are among them
            return False
        else:
            self.items.append(body)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
        return True

    async def __anext__(self) -> Any:
        while self.taken >= len(self.items):
            if self.ended:
                raise StopAsyncIteration
            self.waiter = self.loop.create_future()
            await self.waiter
        body = self.items[self.taken]
        self.taken += 1
        if self.taken >= STREAM_CREDIT // 2:
            del self.items[: self.taken]
            self.give_credit(self.taken)
            self.taken = 0
        return self.decode(body)
