"""The socket transport: messages over a stream, Unix or TCP, to any peer that can be connected to.

`listening` makes such wires. Nothing here trusts the peer: what is no message, is too large, or is more than was
agreed closes the wire with the reason, and nothing else.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from ..kernel.clock import Clock
from .context import watch
from .contract import WHOLE_WIRE, Received, Wire
from .frame import GREETING, HELLO, STARVING, TAKEN, FrameReader, Garbage, checked_size, hello, pack
from .kind import Kind
from .message import Mailbox, Message

LARGEST_BODY = 1 << 30  # bytes
HIGH_WATER = 1 << 20  # bytes that may wait here for the socket before there is no room
READS_AT_ONCE = 16  # turns of reading before the loop's other work gets its own
CLOCK = Clock()


class Taken(Mailbox):
    """The count of what a wire received and its owner began."""

    __slots__ = ("wire",)

    def __init__(self, wire: SocketWire) -> None:
        super().__init__()
        self.wire = wire

    def started(self, message: Message) -> None:
        super().started(message)
        self.wire.tell_taken()


class SocketWire(Wire):
    """One end of a stream of messages. Symmetric: either side may make calls.

    `bound`: calls that may wait at either end; the smaller of both sides' numbers counts. `largest`: bytes of body
    accepted here. `greeting`: what the other side is told first; its own is in `peer_greeting` as soon as `greeted`
    is done, which raises ConnectionError when the wire closes before.
    """

    def __init__(
        self, connection: socket.socket, loop: asyncio.AbstractEventLoop, *, greeting: bytes = b"", bound: int = 1024,
        largest: int = LARGEST_BODY, now_ns: Callable[[], int] = CLOCK.now_ns,
    ) -> None:  # fmt: skip
        super().__init__()
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.loop, self.now_ns = connection, loop, now_ns
        self.bound, self.own_bound, self.largest_sent = bound, bound, largest
        self.reader = FrameReader(largest)
        self.arrived: deque[Message] = deque()
        self.mailbox = Taken(self)
        self.unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self.accepted = self.told = 0  # calls sent; calls taken, as far as the other side was told
        self.listening = self.writing = False
        self.peer_greeting = b""
        self.greeted: asyncio.Future[bytes] = loop.create_future()
        self.write(hello(greeting, bound, largest), greeting)
        watch(loop, connection, self.readable)

    # -- sending ----------------------------------------------------------------------------------------------

    def send(
        self, kind: int, call: int, body: Any, method: int = 0, interface: int = 0, priority: int = 0,
        deadline: int = 0, credit: int = 0, flags: int = 0, trace: tuple[int, int, int] | None = None, /,
    ) -> bool:  # fmt: skip
        if self.closed is not None:
            return False
        size = checked_size(body, self.largest_sent)
        if self.unsent_bytes > HIGH_WATER:
            return False
        if kind < Kind.ITEM:
            if self.accepted - self.reader.taken >= self.bound:
                return False
            self.accepted += 1
        if type(body) is not bytes:
            body = bytes(body)
        if deadline:
            deadline = max(1, deadline - self.now_ns())
        self.told = taken = self.mailbox.taken
        header = pack(kind, size, call, method, interface, priority, deadline, credit, flags, trace, taken)
        self.write(header, body)
        return True

    def write(self, header: bytes, body: bytes) -> None:
        """Hand the socket what it takes; keep the rest. Never closes: a caller may be about to count on the wire."""
        if not self.unsent:
            try:
                sent = self.socket.sendmsg([header, body])
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self.loop.call_soon(self.end_after_the_rest, f"the peer is gone ({error.strerror or error})")
                return
            if sent == len(header) + len(body):
                return
        else:
            sent = 0
        for part in (header, body):
            if sent < len(part):
                self.unsent.append(memoryview(part)[sent:])
                self.unsent_bytes += len(part) - sent
            sent = max(0, sent - len(part))
        if not self.writing:
            self.writing = True
            self.loop.add_writer(self.socket, self.writable)

    def writable(self) -> None:
        try:
            while self.unsent:
                sent = self.socket.send(self.unsent[0])
                self.unsent_bytes -= sent
                if sent < len(self.unsent[0]):
                    self.unsent[0] = self.unsent[0][sent:]
                else:
                    self.unsent.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.end_after_the_rest(f"the peer is gone ({error.strerror or error})")
            return
        self.writing = False
        self.loop.remove_writer(self.socket)
        if self.outbox or self.when_room:
            self.flush()

    def end_after_the_rest(self, why: str) -> None:
        """Nothing can be sent any more. What the peer has said before is received first: the last of it may say why."""
        if self.closed is None and self.readable():
            self.loop.call_soon(self.end_after_the_rest, why)
        else:
            self.close(why)

    def want_room(self) -> None:
        """Room comes with what the socket takes (`writable`) and with what the other side begins (`readable`)."""

    def tell_taken(self) -> None:
        """The other side counts on hearing that its calls are begun, before it counts as many as may wait."""
        if self.mailbox.taken - self.told >= max(1, self.bound // 4):
            self.told = self.mailbox.taken
            if self.closed is None:
                self.write(pack(TAKEN, 0, WHOLE_WIRE, taken=self.told), b"")

    # -- receiving --------------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Receive what is there; True where there may be more, for which there was no time. What arrived before the end
        of the stream is handed over before the wire closes."""
        why, more = None, True
        taken = self.reader.taken
        try:
            for _ in range(READS_AT_ONCE):
                count = self.socket.recv_into(self.reader.target())
                if not count:
                    why = "the peer has closed the connection"
                    break
                for message in self.reader.advance(count):
                    self.accept(message)
        except (BlockingIOError, InterruptedError):
            more = False
        except Garbage as garbage:
            self.fail(str(garbage))
            return False
        except OSError as error:
            why = f"the connection broke: {error.strerror or error}"
        if self.arrived and self.listening:
            self.receiver(self)
        if why is not None:
            self.close(why)
        elif self.reader.taken != taken and (self.outbox or self.when_room):
            self.flush()
        return more and self.closed is None

    def accept(self, message: Message) -> None:
        """Sort one message. Raises Garbage."""
        if not self.greeted.done():
            self.accept_greeting(message)
            return
        if message.kind == TAKEN:
            return
        if message.kind in (HELLO, STARVING):
            raise Garbage("the peer greeted twice" if message.kind == HELLO else "a packet's message came by a stream")
        if message.kind == Kind.GONE and message.call == WHOLE_WIRE:
            raise Garbage(message.content.decode(errors="replace"))
        if message.kind < Kind.ITEM:
            self.mailbox.accepted += 1
            if self.mailbox.accepted - self.mailbox.taken > self.own_bound:
                raise Garbage(f"more calls were sent than may wait here: {self.own_bound}")
            message.mailbox = self.mailbox
        if message.deadline:
            message.deadline += self.now_ns()
        self.arrived.append(message)

    def accept_greeting(self, message: Message) -> None:
        if message.kind == Kind.GONE:
            raise Garbage(message.content.decode(errors="replace"))
        if message.kind != HELLO or message.call != GREETING or message.credit < 1:
            raise Garbage("the peer did not begin with the greeting of this protocol")
        self.bound = min(self.bound, message.credit)
        self.largest_sent = min(self.largest_sent, message.deadline)
        self.peer_greeting = message.content
        self.greeted.set_result(message.content)

    def peek(self) -> Received | None:
        return self.arrived.popleft() if self.arrived and self.listening else None

    def listen(self) -> None:
        if not self.listening and self.closed is None:
            self.listening = True
            if self.arrived:
                self.loop.call_soon(self.receiver, self)

    def stop_listening(self) -> None:
        self.listening = False

    def ledger(self) -> tuple[int, int, int, int]:
        box = self.mailbox
        return box.accepted, box.taken, box.answered, box.refused

    def release(self) -> None:
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)
        self.unsent.clear()
        self.arrived.clear()  # a peer that broke the protocol is not listened to any further
        self.socket.close()
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(self.closed or "closed"))
            self.greeted.exception()  # whoever awaits it is told; nobody has to


__all__ = ["LARGEST_BODY", "SocketWire"]
