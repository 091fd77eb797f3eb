"""Origin: scheme, host and port; and which of them may be reached. Reads URLs strictly: one form for each thing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from ...contract import ContractError
from .interface import OriginRefused

PORTS = {"http": 80, "https": 443}
LONGEST_URL = 8192  # characters
_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes programs take the whole for an address
WANTED = "'https://api.example.com', 'http://127.0.0.1:8080' or, for all subdomains, 'https://*.example.com'"
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # to the IPv4 address in it, by a router
TRANSLATED_AT_HOME = ipaddress.ip_network("64:ff9b:1::/48")
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Origin:
    """`host` is in lower case: a name, an IPv4 address, or an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == PORTS[self.scheme] else f":{self.port}")

    @property
    def address(self) -> IPAddress | None:
        """The address that its host is, if it is no name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


@dataclass(frozen=True)
class Target:
    """A URL that was read. `path`: with its query, as it was written."""

    origin: Origin
    path: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"

    @property
    def place(self) -> str:
        """The URL without its query: what the scope of a grant is compared with."""
        return f"{self.origin}{self.path.partition('?')[0]}"


def read_url(url: str) -> Target:
    """Raises ValueError that says what was wanted. What follows a '#' is nobody's but the caller's."""
    if len(url) > LONGEST_URL or not re.fullmatch(r"[!-~]*", url) or "\\" in url:
        raise ValueError(
            f"url: got {url!r:.200}, wanted at most {LONGEST_URL} printable ASCII characters without spaces and "
            "backslashes: percent-encode the rest, and write a name of other letters as 'xn--…'"
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"url: got {url!r:.200}, wanted a name or an address as its host ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("url: got one with a user or a password, wanted those in the header Authorization")
    path = parts.path or "/"
    # As any server may read it: "%2e%2e%2f", "..\\" and "..;x" lead upwards at some.
    steps = unquote(path).replace("\\", "/").split("/")
    if any(step.partition(";")[0] in (".", "..") for step in steps):
        raise ValueError(f"url: got {url!r:.200}, whose path has '.' or '..', wanted the path that it leads to")
    return Target(read_origin(parts.scheme, parts.netloc, url), path + (f"?{parts.query}" if parts.query else ""))


def read_origin(scheme: str, place: str, whole: str) -> Origin:
    """Raises ValueError."""
    if scheme not in PORTS:
        raise ValueError(f"url: got {whole!r:.200}, wanted 'https://' or 'http://', a host, and a path")
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:@]*)(?::([0-9]{1,5}))?", place.lower())
    host = found[1].removesuffix(".") if found else ""
    port = int(found[2]) if found and found[2] else PORTS[scheme]
    if host.startswith("["):
        host = written_address(host[1:-1], ipaddress.IPv6Address, "'[2001:db8::1]'", whole)
    elif not _NAME.fullmatch(host):
        raise ValueError(f"url: got {whole!r:.200}, whose host is {place!r:.200}, wanted a name or an address")
    elif _NUMBER.fullmatch(host.rpartition(".")[2]):
        host = written_address(host, ipaddress.IPv4Address, "four numbers such as '127.0.0.1'", whole)
    if not 1 <= port <= 65535:
        raise ValueError(f"url: got {whole!r:.200}, wanted a port from 1 to 65535")
    return Origin(scheme, host, port)


def written_address(host: str, kind: type[IPAddress], wanted: str, whole: str) -> str:
    """An address in the one form that it has. Raises ValueError."""
    try:
        return str(kind(host))
    except ValueError as error:
        raise ValueError(
            f"url: got {whole!r:.200}, whose host {host!r:.200} is no address ({error}), wanted {wanted}"
        ) from None


class AllowedOrigins:
    """The origins of a driver's configuration. `private`: those of them whose names may lead to addresses that are not
    public. An address that is listed, and `localhost`, need not be there: nobody else decides where they lead."""

    def __init__(self, origins: Iterable[str], private: Iterable[str]) -> None:
        """Raises ContractError."""
        self.exact: set[Origin] = set()
        self.above: set[Origin] = set()  # those whose subdomains are allowed
        for text in origins:
            wildcard, origin = listed("origins", text)
            (self.above if wildcard else self.exact).add(origin)
        if not self.exact and not self.above:
            raise ContractError(f"config.origins: got none, wanted at least one, such as {WANTED}")
        self.private: set[tuple[str, int]] = set()
        for text in private:
            wildcard, origin = listed("private_origins", text)
            if wildcard or origin not in self.exact:
                raise ContractError(f"config.private_origins: got {text!r}, wanted one of `origins` that has no '*'")
            self.private.add((origin.host, origin.port))
        self.private |= {(each.host, each.port) for each in self.exact if each.address or each.host == "localhost"}

    def check(self, origin: Origin) -> None:
        """Raises OriginRefused."""
        below = any(
            (origin.scheme, origin.port) == (each.scheme, each.port) and origin.host.endswith(f".{each.host}")
            for each in self.above
        )
        if origin not in self.exact and not (below and origin.address is None):
            raise OriginRefused(f"{origin} is not allowed; the origins of this driver are: {self}")

    def usable(self, host: str, port: int, address: str) -> bool:
        """May a connection to that host be one to this address, which its name has just led to?"""
        return (host, port) in self.private or is_public(ipaddress.ip_address(address.partition("%")[0]))

    def __str__(self) -> str:
        above = [str(Origin(each.scheme, f"*.{each.host}", each.port)) for each in self.above]
        return ", ".join(sorted([*map(str, self.exact), *above]))


def listed(field: str, text: object) -> tuple[bool, Origin]:
    """An origin of the configuration, and whether its subdomains are meant. Raises ContractError."""
    try:
        if not isinstance(text, str):
            raise ValueError("no text")
        wildcard = "://*." in text
        target = read_url(text.replace("://*.", "://", 1))
        if target.path != "/" or "#" in text or (wildcard and (target.origin.address or "." not in target.origin.host)):
            raise ValueError("more than an origin, or less")
        return wildcard, target.origin
    except ValueError as error:
        raise ContractError(f"config.{field}: got {text!r}, wanted an origin such as {WANTED} ({error})") from None


def is_public(address: IPAddress) -> bool:
    """Is it an address of the whole Internet, whatever other address it carries within it?"""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.is_site_local or address in TRANSLATED_AT_HOME:
            return False
        if inner is None and address in TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
