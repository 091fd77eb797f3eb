"""HttpDriver: the plug-in that serves Http from the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from ...contract import Buffer, ContractError, Granted, Plugin
from ...core.checks import checked_bytes, checked_count, wrong
from ...core.quantity import duration
from ...transports.granted import caller_grant
from .body import StreamedBody, WholeBody
from .headers import Request, checked_headers, checked_method, redirected
from .interface import Headers, Http, HttpError, HttpPart, HttpResponse, TooLarge
from .origin import AllowedOrigins, Target, listed, read_url
from .session import check_installed, explained, new_session, trusted

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from yarl import URL

MOST_CONNECTIONS = 10_000
MOST_REDIRECTS = 100
LOOKS = ("GET", "HEAD", "OPTIONS")  # methods that the right "read" allows
Body: TypeAlias = WholeBody | StreamedBody | None


class HttpDriver(Plugin, Http):
    """`origins`: what may be reached, exactly. `private_origins`: those of them that may have addresses which are not
    public. `headers`: what is sent to an origin with each request, such as a key that no plug-in is to know. `timeout`:
    the longest time of a whole exchange, or between two parts of a stream. `max_request`, `max_response`: sizes of
    whole bodies; `max_stream`: of one that is streamed. `ca_file`: certificates to trust instead of the system's."""

    grant_rights = ("read", "write", "https", "http")

    def __init__(
        self, *, origins: list[str], private_origins: list[str] | None = None,
        headers: dict[str, dict[str, str]] | None = None, timeout: float | str = 30.0, max_request: int | str = "64M",
        max_response: int | str = "64M", max_stream: int | str = "4G", max_redirects: int = 10, connections: int = 100,
        ca_file: str = "",
    ) -> None:  # fmt: skip
        check_installed()
        self.allowed = AllowedOrigins(origins, private_origins or ())
        self.secrets = dict(map(self.own_headers, (headers or {}).items()))
        self.timeout = checked_timeout(timeout)
        self.max_request = checked_bytes("config.max_request", max_request)
        self.max_response = checked_bytes("config.max_response", max_response)
        self.max_stream = checked_bytes("config.max_stream", max_stream)
        self.max_redirects = checked_count("config.max_redirects", max_redirects, 0, MOST_REDIRECTS)
        self.connections = checked_count("config.connections", connections, 1, MOST_CONNECTIONS)
        self.trusted = trusted(ca_file)

    @staticmethod
    def config_problems(**config: object) -> list[str]:
        try:
            check_installed()
        except ContractError as error:
            return [str(error).removeprefix("config.")]
        return []

    def own_headers(self, given: tuple[str, Mapping[str, str]]) -> tuple[Any, dict[str, str]]:
        wildcard, origin = listed("headers", given[0])
        if wildcard or origin not in self.allowed.exact:
            raise ContractError(f"config.headers: got {given[0]!r}, wanted one of `origins` that has no '*'")
        try:
            return origin, checked_headers(given[1])
        except ValueError as error:
            raise ContractError(f"config.headers.{given[0]}: {error}") from None

    async def start(self) -> None:
        self.session = new_session(self.allowed, self.connections, self.trusted)

    async def stop(self) -> None:
        await self.session.close()

    # -- what is served -----------------------------------------------------------------------------------------

    async def get(self, url: str, headers: Headers = {}, timeout: float | None = None) -> HttpResponse:  # noqa: B006
        return await self.whole("GET", url, headers, None, timeout)

    async def head(self, url: str, headers: Headers = {}, timeout: float | None = None) -> HttpResponse:  # noqa: B006
        return await self.whole("HEAD", url, headers, None, timeout)

    async def request(
        self, method: str, url: str, headers: Headers = {}, body: Buffer | None = None,  # noqa: B006
        timeout: float | None = None,
    ) -> HttpResponse:  # fmt: skip
        if body is not None and len(body) > self.max_request:
            raise TooLarge(f"body: got {len(body):,} bytes, wanted at most {self.max_request:,} (max_request)")
        return await self.whole(method, url, headers, body.view if body is not None else None, timeout)

    async def whole(
        self, method: str, url: str, headers: Headers, body: memoryview | None, timeout: float | None
    ) -> HttpResponse:
        request = Request(checked_method(method), read_url(url), checked_headers(headers), body is not None)
        given, seconds, content = WholeBody(body) if body is not None else None, self.seconds(timeout), bytearray()
        with explained(request.target.origin, seconds):
            async with asyncio.timeout(seconds), self.exchanged(request, given, None, seconds) as (response, target):
                async for piece in response.content.iter_any():
                    content += piece
                    if len(content) > self.max_response:
                        raise too_large(target, self.max_response, "max_response")
                return HttpResponse(
                    response.status, reason(response), str(target), fields(response), Buffer(content)
                )  # fmt: skip

    async def stream(
        self, method: str, url: str, body: AsyncIterator[Buffer], headers: Headers = {},  # noqa: B006
        timeout: float | None = None,
    ) -> AsyncIterator[HttpPart]:  # fmt: skip
        method = checked_method(method)
        has_body = method not in LOOKS  # which have none, and are followed wherever they lead
        request = Request(method, read_url(url), checked_headers(headers), has_body)
        seconds, left = self.seconds(timeout), self.max_stream
        sent = StreamedBody(body, self.max_stream) if has_body else None
        async with self.exchanged(request, sent, seconds, seconds) as (response, target):
            yield HttpPart(response.status, reason(response), str(target), fields(response))
            pieces = response.content.iter_any()
            while True:
                with explained(target.origin, seconds, sent):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                left -= len(piece)
                if left < 0:
                    raise too_large(target, self.max_stream, "max_stream")
                yield HttpPart(data=Buffer(piece))

    # -- one exchange -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def exchanged(
        self, request: Request, body: Body, pause: float | None, seconds: float
    ) -> AsyncIterator[tuple[ClientResponse, Target]]:
        """The response at the end of the redirects, before its body is read, and where it came from. `pause`: seconds
        that a connection may take, and the server be silent. In the end its connection is let go of, and closed where
        something is left to read."""
        import aiohttp

        grant = caller_grant(self)
        timeout = aiohttp.ClientTimeout(total=None, connect=pause, sock_read=pause)
        for _ in range(self.max_redirects + 1):
            target = request.target
            self.check(request, grant)
            # What the operator has set goes before what the caller says, and to no other origin.
            headers = {**request.headers, **self.secrets.get(target.origin, {})}
            if request.has_body and isinstance(body, WholeBody):
                headers["content-length"] = str(len(body.content))
            with explained(target.origin, seconds, body):
                response = await self.session.request(
                    request.method, the_same(target), headers=headers, data=body if request.has_body else None,
                    allow_redirects=False, timeout=timeout,
                )  # fmt: skip
            try:
                follows = redirected(request, response.status, location(response))
                if follows is not None and follows.has_body and isinstance(body, StreamedBody):
                    follows = None  # what was streamed is gone: the redirect is the response
                if follows is None:
                    yield response, target
                    return
            finally:
                response.close()
            request = follows
        raise HttpError(f"{request.target.origin}: more than {self.max_redirects} redirects (max_redirects)")

    def check(self, request: Request, grant: Granted | None) -> None:
        """The one place where it is decided whether a request is made, at each of its redirects. Raises OriginRefused;
        PermissionDenied for what its caller was not granted."""
        if grant is not None:
            place = request.target.place
            scheme, _, rest = place.partition(":")
            if not grant.allows(scheme, rest):  # "Http:https://api.example.com": the scheme is the right
                grant.check("read" if request.method in LOOKS else "write", place)
        self.allowed.check(request.target.origin)

    def seconds(self, timeout: float | None) -> float:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout: got {timeout}, wanted more than 0 seconds")
        return self.timeout if timeout is None else min(timeout, self.timeout)


def the_same(target: Target) -> URL:
    """The URL for aiohttp, which reads it once more. Raises HttpError where it reads another origin than we did."""
    from yarl import URL

    url = URL(str(target), encoded=True)
    if (url.scheme, url.raw_host, url.port) != (target.origin.scheme, target.origin.host, target.origin.port):
        raise HttpError(f"{target.origin}: the URL can be read in two ways")
    return url


def fields(response: ClientResponse) -> list[tuple[str, str]]:
    """The headers of a response: bytes, read as Latin-1, which has a character for each."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]


def location(response: ClientResponse) -> str | None:
    found = (value for name, value in response.raw_headers if name.lower() == b"location")
    return next((value.decode("latin-1") for value in found), None)


def reason(response: ClientResponse) -> str:
    return (response.reason or "").encode("utf-8", "surrogateescape").decode("latin-1")


def too_large(target: Target, most: int, option: str) -> TooLarge:
    return TooLarge(f"{target.origin} answers with more than {most:,} bytes ({option}): stream it, or ask for less")


def checked_timeout(given: object) -> float:
    """Seconds, more than 0, as a number or a text such as "5s". Raises ContractError."""
    try:
        seconds = duration(given)
    except ValueError as wanted:
        raise wrong("config.timeout", given, str(wanted)) from None
    if not seconds:
        raise wrong("config.timeout", given, "more than 0")
    return seconds
