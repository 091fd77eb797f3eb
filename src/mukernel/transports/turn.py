"""Turn: a task that waits for room on a wire, among others."""

from __future__ import annotations

import asyncio


class Turn:
    """One who waits for room on a wire: called when it is its turn, or ended when there is nothing to wait for."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()

    def __call__(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def end(self, _: object) -> None:
        self()
