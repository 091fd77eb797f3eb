"""Session: connections of aiohttp that lead only to addresses which were checked, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...contract import ContractError
from .interface import HttpError, HttpTimeout, OriginRefused, OriginUnreachable
from .origin import AllowedOrigins, Origin

if TYPE_CHECKING:
    from aiohttp import ClientSession


def check_installed() -> None:
    """Raises ContractError."""
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise ContractError("config.origins: the HTTP driver needs aiohttp: pip install 'mukernel[http]'") from None


def trusted(ca_file: str) -> ssl.SSLContext:
    """Certificates are those of the system, or of a file. Raises ContractError."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:
        raise ContractError(f"config.ca_file: {ca_file!r} can't be read as certificates (PEM): {error}") from None


def new_session(allowed: AllowedOrigins, connections: int, context: ssl.SSLContext) -> ClientSession:
    """Without cookies, redirects and decompression; nothing of it comes from the environment, proxies and .netrc
    neither."""
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class CheckedResolver(AbstractResolver):
        """A connection is made to what this returns, and to nothing else: a name that leads elsewhere a moment later
        has led nowhere."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            loop = asyncio.get_running_loop()
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
            found = [(kind, str(place[0])) for kind, _, _, _, place in infos]
            usable = [(kind, address) for kind, address in found if allowed.usable(host, port, address)]
            if not usable:
                addresses = ", ".join(address for _, address in found)
                raise OriginRefused(
                    f"{host}:{port} leads to {addresses}, which is not a public address; if that is meant, list its "
                    "origin in `private_origins`, too"
                )
            return [
                ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
                for kind, address in usable
            ]

        async def close(self) -> None:
            pass

    connector = aiohttp.TCPConnector(
        limit=connections, resolver=CheckedResolver(), ssl=context, use_dns_cache=False, enable_cleanup_closed=False
    )
    return aiohttp.ClientSession(
        connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
        raise_for_status=False, skip_auto_headers=("Content-Type",),
        headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "mukernel"},
    )  # fmt: skip


@contextmanager
def explained(origin: Origin, seconds: float, body: object = None) -> Iterator[None]:
    """What aiohttp raises, as the errors of the interface; what the body of a request raised, as it was."""
    import aiohttp

    try:
        yield
    except (TimeoutError, OSError, ValueError, aiohttp.ClientError, aiohttp.http.HttpProcessingError) as error:
        own = getattr(body, "error", None)
        raise (own if own is not None else meaning(error, origin, seconds)) from None


def meaning(error: Exception, origin: Origin, seconds: float) -> HttpError:
    import aiohttp

    if isinstance(error, TimeoutError):
        return HttpTimeout(f"{origin} did not answer within {seconds:g} s")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return OriginUnreachable(f"{origin} shows no certificate that is trusted: {said(error)}")
    if isinstance(error, (OSError, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        return OriginUnreachable(f"{origin} can't be reached, or broke off: {said(error)}")
    return HttpError(f"{origin} answers with what is no HTTP: {said(error)}")


def said(error: Any) -> str:
    return (str(error) or type(error).__name__)[:500]
