"""Addresses of the socket transport: whom to connect to, where to listen.

    listener = await listen("/run/app/control", accept)          # accept(wire) for each peer that has greeted
    wire = await connect("/run/app/control")                      # for an event loop: give it to a calling.Caller
    caller = BlockingCaller(connect_blocking("tcp:127.0.0.1:9000"), Clock().now_ns)     # for a thread

Whoever gets a wire attaches it (`Caller(wire, ...)` or `Server.attach(wire, ...)`) and then calls `wire.listen()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..contract import ContractError, Unavailable
from .blocking_socket import BlockingSocketWire
from .frame import Garbage
from .socket import SocketWire

GREETING_TIME = 10.0  # seconds that a peer has for its greeting
MOST_CONNECTIONS = 1000
BETWEEN_TRIES = 0.1  # seconds, where this process or the system had no room for another peer
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class Address:
    """A Unix socket's `path`, or `host` and `port` (0: any that is free)."""

    path: str = ""
    host: str = ""
    port: int = 0

    @staticmethod
    def parse(text: str) -> Address:
        """ "/a/path", "unix:a/path", "tcp:HOST:PORT", "tcp:[::1]:PORT". Raises ContractError."""
        kind, colon, rest = text.partition(":")
        if text.startswith(("/", "./", "../")):
            return Address(path=text)
        if kind == "unix" and colon and rest:
            return Address(path=rest)
        host, _, port = rest.rpartition(":")
        if kind == "tcp" and host and port.isascii() and port.isdigit() and int(port) < 65536:
            return Address(host=host.strip("[]"), port=int(port))
        raise ContractError(f"address: got {text!r}, wanted 'unix:PATH', '/PATH' or 'tcp:HOST:PORT'")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"tcp:{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return bool(self.path) or self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def open(self) -> tuple[socket.socket, Any]:
        """A socket for it, and what to bind or connect that to. Raises Unavailable for a host that has no address."""
        if self.path:
            return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self.path
        try:
            family, _, _, _, where = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise Unavailable(f"{self}: {error.strerror or error}") from None
        return socket.socket(family, socket.SOCK_STREAM), where


class Listener:
    """Accepts peers until it is closed. `address`: where, with the port that was chosen; `wires`: who is connected."""

    def __init__(
        self, connection: socket.socket, address: Address, accept: Callable[[SocketWire], None],
        loop: asyncio.AbstractEventLoop, settings: dict[str, Any],
    ) -> None:  # fmt: skip
        self.socket, self.address, self.accept, self.loop, self.settings = connection, address, accept, loop, settings
        self.wires: set[SocketWire] = set()
        self.greetings: set[asyncio.Task[None]] = set()
        self.file = os.stat(address.path).st_ino if address.path else 0
        self.await_peers()

    def await_peers(self) -> None:
        if self.socket.fileno() >= 0:
            self.loop.add_reader(self.socket, self.knocked)

    def knocked(self) -> None:
        try:
            connection, _ = self.socket.accept()
        except OSError as error:
            if error.errno in NO_ROOM:  # whoever knocked goes on knocking, and the loop would do nothing else
                self.loop.remove_reader(self.socket)
                self.loop.call_later(BETWEEN_TRIES, self.await_peers)
            return
        self.wires = {wire for wire in self.wires if wire.closed is None}
        if len(self.wires) >= MOST_CONNECTIONS:
            connection.close()
            return
        wire = SocketWire(connection, self.loop, **self.settings)
        self.wires.add(wire)
        task = self.loop.create_task(self.greet(wire))
        self.greetings.add(task)
        task.add_done_callback(self.greetings.discard)

    async def greet(self, wire: SocketWire) -> None:
        try:
            async with asyncio.timeout(GREETING_TIME):
                await wire.greeted
        except TimeoutError:
            wire.fail(f"no greeting within {GREETING_TIME:g} s")
        except ConnectionError:
            return
        else:
            self.accept(wire)

    def close(self, why: str = "the listener has closed") -> None:
        """Stop listening, and close every wire that was accepted here."""
        if self.socket.fileno() < 0:
            return
        self.loop.remove_reader(self.socket)
        self.socket.close()
        for task in self.greetings:
            task.cancel()
        for wire in list(self.wires):
            wire.close(why)
        with contextlib.suppress(OSError):
            if self.address.path and os.stat(self.address.path).st_ino == self.file:
                os.unlink(self.address.path)


async def listen(
    address: str | Address, accept: Callable[[SocketWire], None], *, greeting: bytes = b"", public: bool = False,
    bound: int = 1024, **settings: Any,
) -> Listener:  # fmt: skip
    """Listen at an address; `accept(wire)` is called for each peer, after its greeting (`wire.peer_greeting`).

    A Unix socket gets mode 0600; one that a dead process left is replaced. TCP is refused on an address that others
    can reach, unless `public`: whoever connects may call. `bound`, `largest`, `now_ns`: as of SocketWire. Raises
    ContractError, or Unavailable where somebody listens already.
    """
    where = Address.parse(address) if isinstance(address, str) else address
    if not (where.is_loopback or public):
        raise ContractError(f"address: {where} can be reached from other machines; say public=True if that is wanted")
    loop = asyncio.get_running_loop()
    connection, target = where.open()
    try:
        connection.setblocking(False)
        if where.path:
            await remove_stale(where)
            os.fchmod(connection.fileno(), 0o600)  # before bind: the file never exists with another mode
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind(target)
        connection.listen(128)
    except OSError as error:
        connection.close()
        raise Unavailable(f"can't listen at {where}: {error.strerror or error}") from None
    except BaseException:
        connection.close()
        raise
    if not where.path:
        where = Address(host=where.host, port=connection.getsockname()[1])
    return Listener(connection, where, accept, loop, {"greeting": greeting, "bound": bound, **settings})


async def remove_stale(address: Address) -> None:
    """Remove the socket file of a process that is gone. Raises Unavailable when one listens there."""
    connection, target = address.open()
    with connection:
        connection.setblocking(False)
        try:
            connection.connect(target)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
        except BlockingIOError:
            pass
    raise Unavailable(f"somebody listens at {address} already")


async def connect(
    address: str | Address, *, greeting: bytes = b"", timeout: float = GREETING_TIME, **settings: Any
) -> SocketWire:
    """Connect and exchange greetings. `timeout`: seconds for both. Raises Unavailable, ContractError."""
    where = Address.parse(address) if isinstance(address, str) else address
    loop = asyncio.get_running_loop()
    connection, target = where.open()
    wire: SocketWire | None = None
    try:
        async with asyncio.timeout(timeout):
            connection.setblocking(False)
            await loop.sock_connect(connection, target)
            wire = SocketWire(connection, loop, greeting=greeting, **settings)
            await wire.greeted
    except TimeoutError:
        close(wire, connection)
        raise Unavailable(f"{where}: no greeting within {timeout:g} s") from None
    except OSError as error:
        close(wire, connection)
        raise Unavailable(f"{where}: {reason(error)}") from None
    except BaseException:
        close(wire, connection)
        raise
    return wire


def connect_blocking(
    address: str | Address, *, greeting: bytes = b"", timeout: float = GREETING_TIME, **settings: Any
) -> BlockingSocketWire:
    """The same for a thread without an event loop; the wire belongs to the thread that uses it."""
    where = Address.parse(address) if isinstance(address, str) else address
    connection, target = where.open()
    try:
        connection.settimeout(timeout)
        connection.connect(target)
        wire = BlockingSocketWire(connection, greeting=greeting, **settings)
        wire.await_greeting(timeout)
    except TimeoutError:
        connection.close()
        raise Unavailable(f"{where}: no greeting within {timeout:g} s") from None
    except OSError as error:
        connection.close()
        raise Unavailable(f"{where}: {reason(error)}") from None
    except BaseException:
        connection.close()
        raise
    return wire


def close(wire: SocketWire | None, connection: socket.socket) -> None:
    if wire is not None:
        wire.close()
    connection.close()


def reason(error: OSError) -> str:
    if isinstance(error, Garbage):
        return str(error)
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return "nobody listens there"
    return str(error.strerror or error)


__all__ = ["Address", "Listener", "connect", "connect_blocking", "listen"]
