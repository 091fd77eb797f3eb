"""Headers and redirects: what a request may say, and what of it goes along to where a redirect leads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit, urlunsplit

from .interface import HttpError
from .origin import Target, read_url

MOST_HEADERS = 100
LONGEST_VALUE = 8190  # characters
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
# What belongs to the connection, or says where a body ends: two ways of saying that are how requests are smuggled.
OF_THE_DRIVER = {
    "connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
# All that goes along to another origin: any other header may hold a secret.
HARMLESS = {
    "accept", "accept-encoding", "accept-language", "cache-control", "if-match", "if-modified-since", "if-none-match",
    "if-range", "if-unmodified-since", "range", "user-agent",
}  # fmt: skip
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Request:
    """What is asked for. `has_body`: one is sent with it."""

    method: str
    target: Target
    headers: Mapping[str, str]
    has_body: bool = False


def checked_method(method: str) -> str:
    """Raises ValueError for what is none, or makes a tunnel of a connection."""
    if not TOKEN.fullmatch(method) or method.upper() in ("CONNECT", "TRACE"):
        raise ValueError(f"method: got {method!r:.50}, wanted GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, or alike")
    return method.upper()


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers by their names in lower case. Raises ValueError."""
    if len(headers) > MOST_HEADERS:
        raise ValueError(f"headers: got {len(headers)}, wanted at most {MOST_HEADERS}")
    found: dict[str, str] = {}
    for name, value in headers.items():
        if not TOKEN.fullmatch(name) or len(value) > LONGEST_VALUE or not _VALUE.fullmatch(value):
            raise ValueError(
                f"headers: got {name!r:.130} with a value of {len(value)} characters, wanted a name of letters, digits "
                f"and dashes, and at most {LONGEST_VALUE} characters of ASCII without control characters"
            )
        if name.lower() in OF_THE_DRIVER:
            raise ValueError(f"headers: got {name!r}, which the driver sets itself")
        if name.lower() in found:
            raise ValueError(f"headers: got {name!r} twice, wanted one, with its values joined by commas")
        found[name.lower()] = value
    return found


def redirected(request: Request, status: int, location: str | None) -> Request | None:
    """The request that a response leads to; None: the response is the answer, as also where the body would have to go
    to another origin. Raises HttpError for a place that is none."""
    if status not in REDIRECTS or location is None:
        return None
    try:
        # Headers are read as Latin-1; what is beyond ASCII stands there for bytes of UTF-8.
        plain = re.sub(r"[^!-~]", lambda each: f"%{ord(each[0]):02X}", location.strip())
        joined = urlsplit(urljoin(str(request.target), plain))  # which leads dots upwards, too
        target = read_url(urlunsplit(joined))
    except ValueError as error:
        raise HttpError(f"{request.target.origin} redirects to {location!r:.200}: {error}") from None
    method, has_body = request.method, request.has_body
    if (status == 303 and method not in ("GET", "HEAD")) or (status in (301, 302) and method == "POST"):
        method, has_body = "GET", False
    headers = dict(request.headers)
    if request.has_body and not has_body:
        headers = {name: value for name, value in headers.items() if not name.startswith("content-")}
    if target.origin != request.target.origin:
        if has_body:
            return None
        headers = {name: value for name, value in headers.items() if name in HARMLESS}
    return replace(request, method=method, target=target, headers=headers, has_body=has_body)
