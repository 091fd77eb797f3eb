"""Leaving: a server that is replaced, moved or stopped ends what would not end by itself, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ...contract import Unavailable

T = TypeVar("T")


class Leaving:
    """That of one server, which its streams wait for beside all else. After one that came to nothing, since the swap
    was rolled back, streams that begin get another."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def unless_begun(self, awaited: Awaitable[T], told: str) -> T:
        """What is awaited. Raises Unavailable as soon as the server leaves; `told`: what that means for who is told."""
        work, begun = asyncio.ensure_future(awaited), asyncio.ensure_future(self.begun.wait())
        try:
            await asyncio.wait((work, begun), return_when=asyncio.FIRST_COMPLETED)
            if self.begun.is_set():
                raise Unavailable(f"the file server is replaced, moved or stopped: {told}")
            return work.result()
        finally:
            work.cancel()
            begun.cancel()
