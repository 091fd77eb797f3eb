"""Leaving: a server that is replaced, moved or stopped ends what would not end by itself, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ...contract import Unavailable
from ...transports.running import Running, served_stream

T = TypeVar("T")


class Leaving:
    """That of one server, which its streams wait for beside all else. After one that came to nothing, since the swap
    was rolled back, streams that begin get another."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.streams: dict[Running, str] = {}  # those that would wait for readers who take nothing

    def begin(self) -> None:
        self.begun.set()
        for stream, told in self.streams.items():
            stream.end(left(told))

    @contextmanager
    def ending(self, method: str, told: str) -> Iterator[None]:
        """To be ended where its reader takes nothing, too, if it is in another process."""
        stream = served_stream(method)
        if stream is not None:
            self.streams[stream] = told
        try:
            yield
        finally:
            if stream is not None:
                self.streams.pop(stream, None)

    async def unless_begun(self, awaited: Awaitable[T], told: str) -> T:
        """What is awaited. Raises Unavailable as soon as the server leaves; `told`: what that means for who is told."""
        work, begun = asyncio.ensure_future(awaited), asyncio.ensure_future(self.begun.wait())
        try:
            await asyncio.wait((work, begun), return_when=asyncio.FIRST_COMPLETED)
            if self.begun.is_set():
                raise left(told)
            return work.result()
        finally:
            work.cancel()
            begun.cancel()


def left(told: str) -> Unavailable:
    return Unavailable(f"the file server is replaced, moved or stopped: {told}")
