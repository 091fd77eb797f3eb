"""Http: the interface by which plug-ins reach the web."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import msgspec

from ...contract import Buffer, Interface, idempotent

Headers: TypeAlias = dict[str, str]


class HttpError(Exception):
    """No response came of a request: the message says of which origin, and why. A status such as 404 is a response."""


class OriginRefused(HttpError):
    """The origin is not among those that the driver may reach, or it has an address that it must not have."""


class OriginUnreachable(HttpError):
    """No connection, or one that broke before the response was there."""


class HttpTimeout(HttpError):
    """The response, or the next part of it, did not come in time."""


class TooLarge(HttpError):
    """A body is larger than the driver takes."""


class HttpResponse(msgspec.Struct):
    """A whole response. `url`: where it came from, after redirects; `headers`: as they came, in their order."""

    status: int
    reason: str
    url: str
    headers: list[tuple[str, str]]
    body: Buffer

    def header(self, name: str, default: str = "") -> str:
        """The values of a header, in whatever case it is written, joined by commas."""
        return joined(self.headers, name, default)

    def text(self, encoding: str = "utf-8") -> str:
        return str(self.body.view, encoding)

    def json(self) -> Any:
        return msgspec.json.decode(self.body.view)


class HttpPart(msgspec.Struct):
    """An item of a streamed response. The first has `status`, `reason`, `url` and `headers`; the others have `data`."""

    status: int = 0
    reason: str = ""
    url: str = ""
    headers: list[tuple[str, str]] = []
    data: Buffer | None = None


class Http(
    Interface, version="1.0", raises=(OriginRefused, OriginUnreachable, HttpTimeout, TooLarge, HttpError, ValueError)
):  # fmt: skip
    """Makes requests to the origins that its operator allows. `timeout`: seconds, at most those of the driver. Bodies
    come as the server sends them. ValueError for what is no URL, method or header."""

    @idempotent
    async def get(self, url: str, headers: Headers = {}, timeout: float | None = None) -> HttpResponse:  # noqa: B006
        """GET, following redirects; made again where the driver is killed meanwhile."""
        raise NotImplementedError

    @idempotent
    async def head(self, url: str, headers: Headers = {}, timeout: float | None = None) -> HttpResponse:  # noqa: B006
        """HEAD, following redirects; made again where the driver is killed meanwhile."""
        raise NotImplementedError

    async def request(
        self, method: str, url: str, headers: Headers = {}, body: Buffer | None = None,  # noqa: B006
        timeout: float | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Any method. Of a redirect that would send the body to another origin, the redirect is the response. After a
        crash in the middle it is not known what became of it: the caller gets PluginCrashed."""
        raise NotImplementedError

    def stream(
        self, method: str, url: str, body: AsyncIterator[Buffer], headers: Headers = {},  # noqa: B006
        timeout: float | None = None,
    ) -> AsyncIterator[HttpPart]:  # fmt: skip
        """A request and a response of any length, each in parts that are sent and fetched no faster than they are read.
        `timeout`: between two parts. `opened(http, …)` makes it handy."""
        raise NotImplementedError


def joined(headers: list[tuple[str, str]], name: str, default: str) -> str:
    found = [value for each, value in headers if each.lower() == name.lower()]
    return ", ".join(found) if found else default
