"""A bell: whoever waits for something to change is woken when it may have."""

from __future__ import annotations

import asyncio


class Bell:
    """Look first, then wait, with no `await` between: then nothing is missed."""

    def __init__(self) -> None:
        self.waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        waiting, self.waiting = self.waiting, set()
        for each in waiting:
            release(each)

    async def wait(self, seconds: float) -> None:
        """Until it rings, or so long."""
        loop = asyncio.get_running_loop()
        rung: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(max(seconds, 0), release, rung)
        self.waiting.add(rung)
        try:
            await rung
        finally:
            timer.cancel()
            self.waiting.discard(rung)


def release(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
