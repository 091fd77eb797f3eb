"""Bodies of requests, as aiohttp takes them: something to iterate over, anew for each attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ...contract import Buffer
from .interface import OriginUnreachable, TooLarge

PIECE = 1 << 20  # bytes of a whole body that are handed to the system at once: others have a turn in between


class WholeBody:
    """One that is there. It can be sent again: by a redirect, and where a kept connection turns out to be closed."""

    def __init__(self, content: memoryview) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self.content), PIECE):
            yield self.content[start : start + PIECE]


class StreamedBody:
    """One that comes bit by bit, of at most `most` bytes. `error`: why it broke off, which aiohttp does not tell."""

    def __init__(self, pieces: AsyncIterator[Buffer], most: int) -> None:
        self.pieces, self.most = pieces, most
        self.begun = False
        self.error: Exception | None = None

    def __aiter__(self) -> AsyncIterator[memoryview]:
        if self.begun:
            raise OriginUnreachable("the connection broke before the response was there, and what was streamed is gone")
        self.begun = True
        return self.bounded()

    async def bounded(self) -> AsyncIterator[memoryview]:
        left = self.most
        try:
            async for piece in self.pieces:
                left -= len(piece)
                if left < 0:
                    raise TooLarge(f"body: got more than {self.most:,} bytes, wanted no more (max_stream)")
                if len(piece):
                    yield piece.view
        except Exception as error:
            self.error = error
            raise
