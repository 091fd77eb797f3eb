"""opened(http, …): the caller's side of a streamed request, as a block."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ...contract import Buffer
from .interface import Headers, Http, HttpPart, joined


class HttpStream:
    """A response whose body is read in parts: `async for piece in stream`, each a Buffer. Once."""

    def __init__(self, first: HttpPart, rest: AsyncIterator[HttpPart]) -> None:
        self.status, self.reason, self.url, self.headers = first.status, first.reason, first.url, first.headers
        self.rest = rest

    def header(self, name: str, default: str = "") -> str:
        return joined(self.headers, name, default)

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        async for part in self.rest:
            if part.data is not None:
                yield part.data


async def nothing() -> AsyncIterator[Buffer]:
    """The body of a request that has none."""
    if False:
        yield


@asynccontextmanager
async def opened(
    http: Http, method: str, url: str, *, body: AsyncIterator[Buffer] | None = None, headers: Headers | None = None,
    timeout: float | None = None,
) -> AsyncIterator[HttpStream]:  # fmt: skip
    """`async with opened(http, "GET", url) as response:`; the connection is let go of at the end of the block. Raises
    what `Http.stream` does; PluginCrashed in the middle, since it is not made again."""
    parts = http.stream(method, url, nothing() if body is None else body, headers or {}, timeout)
    try:
        yield HttpStream(await anext(parts), parts)
    finally:
        await parts.aclose()  # type: ignore[attr-defined]
