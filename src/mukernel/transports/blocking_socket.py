"""A socket wire whose owner is a thread: it blocks in `poll` where an event loop would be called back."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from ..kernel.clock import Clock
from .contract import WHOLE_WIRE
from .frame import GREETING, HELLO, TAKEN, FrameReader, Garbage, checked_size, hello, pack
from .kind import Kind
from .lane import Lane
from .message import Message
from .socket import LARGEST_BODY

CLOCK = Clock()


class BlockingSocketWire:
    """A caller's end of a stream. `closed` is set once nothing that arrived is left to be received."""

    def __init__(
        self, connection: socket.socket, *, greeting: bytes = b"", bound: int = 1024, largest: int = LARGEST_BODY,
        now_ns: Callable[[], int] = CLOCK.now_ns,
    ) -> None:  # fmt: skip
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.now_ns, self.bound, self.largest_sent = connection, now_ns, bound, largest
        self.closed: str | None = None
        self.lane: Lane | None = None  # over a stream bytes travel
        self.broken: str | None = None  # why nothing more will come; what came before may still be received
        self.reader, self.arrived = FrameReader(largest), deque[Message]()
        self.accepted, self.greeted, self.peer_greeting = 0, False, b""
        self.poll = select.poll()
        self.poll.register(connection, select.POLLIN)
        self.write(hello(greeting, bound, largest), greeting)

    def await_greeting(self, timeout: float) -> None:
        """Wait for the other side's greeting. Raises TimeoutError, ConnectionError."""
        limit = CLOCK.now() + timeout
        while not self.greeted:
            if self.broken is not None:
                raise Garbage(self.broken)
            left = limit - CLOCK.now()
            if left <= 0:
                raise TimeoutError
            self.poll.poll(left * 1000)
            self.read()

    def send(
        self, kind: int, call: int, body: Any, method: int = 0, interface: int = 0, priority: int = 0,
        deadline: int = 0, credit: int = 0, flags: int = 0, trace: tuple[int, int, int] | None = None, /,
    ) -> bool:  # fmt: skip
        """As `Wire.send`; it blocks while the socket is full."""
        if self.broken is not None:
            self.closed = self.closed or self.broken
            return False
        size = checked_size(body, self.largest_sent)
        if kind < Kind.ITEM:
            if self.accepted - self.reader.taken >= self.bound:
                self.read()
                if self.accepted - self.reader.taken >= self.bound:
                    return False
            self.accepted += 1
        if type(body) is not bytes:
            body = bytes(body)
        if deadline:
            deadline = max(1, deadline - self.now_ns())
        self.write(pack(kind, size, call, method, interface, priority, deadline, credit, flags, trace), body)
        return True

    def write(self, header: bytes, body: bytes) -> None:
        """Raises what a signal handler does; the wire is closed then, as half a message may be in it."""
        parts = [memoryview(header), memoryview(body)]
        try:
            while parts and self.broken is None:
                try:
                    sent = self.socket.sendmsg(parts)
                except (BlockingIOError, InterruptedError):
                    self.wait_until_writable()
                    continue
                except OSError as error:
                    self.read()  # what came before: the last of it may say why
                    self.broken = self.broken or f"the peer is gone ({error.strerror or error})"
                    return
                while parts and sent >= len(parts[0]):
                    sent -= len(parts.pop(0))
                if parts:
                    parts[0] = parts[0][sent:]
        except BaseException:
            self.close("a signal handler raised while a message was sent")
            raise

    def wait_until_writable(self) -> None:
        """Read meanwhile: the other side may be waiting for us to."""
        self.poll.modify(self.socket, select.POLLIN | select.POLLOUT)
        try:
            self.poll.poll()
            self.read()
        finally:
            self.poll.modify(self.socket, select.POLLIN)

    def read(self) -> None:
        """Receive what is there, without waiting."""
        try:
            while self.broken is None:
                count = self.socket.recv_into(self.reader.target())
                if not count:
                    self.broken = "the peer has closed the connection"
                for message in self.reader.advance(count) if count else ():
                    self.accept(message)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:  # Garbage, too
            self.broken = str(error.strerror or error)

    def accept(self, message: Message) -> None:
        """Sort one message. Raises Garbage."""
        if message.kind == Kind.GONE and message.call == WHOLE_WIRE:
            raise Garbage(message.content.decode(errors="replace"))
        if not self.greeted:
            if message.kind != HELLO or message.call != GREETING or message.credit < 1:
                raise Garbage("the peer did not begin with the greeting of this protocol")
            self.bound, self.largest_sent = min(self.bound, message.credit), min(self.largest_sent, message.deadline)
            self.greeted, self.peer_greeting = True, message.content
        elif message.kind == HELLO:
            raise Garbage("the peer greeted twice")
        elif message.kind != TAKEN:
            self.arrived.append(message)

    def receive(self) -> Message | None:
        if not self.arrived:
            self.read()
        if self.arrived:
            return self.arrived.popleft()
        self.closed = self.closed or self.broken
        return None

    def wait(self, limit: int) -> bool:
        """Block until a message came or the wire broke: True; or for `limit` ns (negative: for ever): False."""
        end = CLOCK.now_ns() + limit
        while not self.arrived and self.broken is None:
            left = (end - CLOCK.now_ns()) / 1e6
            if limit >= 0 and left <= 0:
                return False
            self.poll.poll(left if limit >= 0 else None)
            self.read()
        if not self.arrived:
            self.closed = self.closed or self.broken
        return True

    def wait_for_room(self, limit: int) -> None:
        """Block until there is room, or a message came, or for `limit` ns."""
        end = CLOCK.now_ns() + limit
        while self.accepted - self.reader.taken >= self.bound and not self.arrived and self.broken is None:
            left = (end - CLOCK.now_ns()) / 1e6
            if limit >= 0 and left <= 0:
                return
            self.poll.poll(left if limit >= 0 else None)
            self.read()
        self.closed = self.closed or (None if self.arrived else self.broken)

    def close(self, why: str = "closed") -> None:
        if self.closed is None or self.socket.fileno() >= 0:
            self.closed = self.broken = self.closed or why
            self.socket.close()
