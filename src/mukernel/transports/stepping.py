"""Stepping: a `def` stream whose generator runs in threads, so that it may block and the event loop goes on.

Each step takes a thread, and whichever is free will do. A stream that kept one to its end would keep it from methods
while its own reader gives no credit: a few slow readers would stop the plug-in. One that came back to the same thread
would wait there for a method that may last, or that waits for this very stream, though others are free. So what belongs
to a thread (a `threading.local`, an RLock, a connection of sqlite3 that checks its thread) does not outlast a `yield`;
what belongs to a context does, since every step of a stream runs in one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from typing import Any

from .method_pool import InThread, MethodPool

END = object()


class Steps:
    """The steps of one stream, one after the other. `begin` gives its items, and is the first one's beginning."""

    def __init__(self, pool: MethodPool, begin: Callable[[], Any]) -> None:
        self.pool, self.begin, self.context = pool, begin, copy_context()
        self.items: Any = None
        self.each: Iterator[Any] | None = None
        self.ended = self.outlived = False  # outlived: by a step, which a thread is still at

    def step(self) -> Any:
        """In a thread: the next item, or END."""
        if self.each is None:
            self.items = self.begin()
            if hasattr(self.items, "__aiter__"):
                return END
            self.each = iter(self.items)
        item = next(self.each, END)
        if item is END:
            self.ended = True
            if hasattr(self.items, "close"):
                self.items.close()
        return item

    async def next(self) -> Any:
        return await self.pool.step(self.step, self.context, self.outlive)

    def outlive(self, step: asyncio.Future[Any]) -> None:
        """The call has ended before a step of it: two threads can't be in one generator, so that is closed next."""
        self.outlived = True
        step.add_done_callback(self.begin_to_close)

    def begin_to_close(self, _: object = None) -> asyncio.Future[Any] | None:
        close = None if self.ended else getattr(self.items, "close", None)
        if close is None:
            return None
        self.closing = InThread(self.context, close, ())
        return self.pool.begin(self.closing)

    async def close(self) -> None:
        """Raises what the generator does as it is closed."""
        closing = None if self.outlived else self.begin_to_close()
        if closing is not None:
            await asyncio.shield(closing)
            _, error = self.closing.taken()
            if error is not None:
                raise error


async def in_threads(pool: MethodPool, begin: Callable[[], Any]) -> AsyncIterator[Any]:
    """The items that `begin` gives, each of them, and the end, in a thread of `pool`; `begin`, too. Async ones, which a
    `def` may give as well, on the loop."""
    steps = Steps(pool, begin)
    try:
        while (item := await steps.next()) is not END:
            yield item
            del item  # its memory may be what the next one needs
    finally:
        await steps.close()
    if hasattr(steps.items, "__aiter__"):
        async with contextlib.aclosing(steps.items) as items:
            async for item in items:
                yield item


__all__ = ["in_threads"]
