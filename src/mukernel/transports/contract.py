"""The contract of a transport: what every wire does, whatever carries it.

A wire moves messages between one caller and one server, whole and in order, or says that it can't. It knows nothing of
calls, streams or errors: `calling.Caller` and `serving.Server` are the two sides of that protocol, over any wire.
What a wire must do is held by one conformance suite that runs unchanged over each of them.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from .kind import Kind
from .lane import Lane, TravelsWhole

# As the number of a call. In a GONE: the other side has closed, and the body says why. In NOT_STARTED or ERROR: nothing
# more is taken from the mailbox, and all calls end so.
WHOLE_WIRE = 0


class Received(Protocol):
    """A message as a wire delivers it; `ring.Message` and `ipc.Message` are both such."""

    @property
    def kind(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def interface(self) -> int: ...
    @property
    def method(self) -> int: ...
    @property
    def credit(self) -> int: ...
    @property
    def call(self) -> int: ...
    @property
    def deadline(self) -> int: ...
    @property
    def trace_high(self) -> int: ...
    @property
    def trace_low(self) -> int: ...
    @property
    def span(self) -> int: ...
    @property
    def body(self) -> bytes | None: ...
    def take(self) -> bytes:
        """Start it; its body. Raises ConnectionError, MemoryError where the body does not fit: started it is."""
        ...

    def discard(self) -> object:
        """Instead of `take` and `finished`, for a call that is never run: take it out, and count it as refused. It
        needs no place among those in flight, of which none may be free. Then `body` is what it holds. Raises
        ConnectionError, and no MemoryError: `body` may be None."""
        ...

    def finished(self, refused: bool = False) -> None: ...


def refused(*message: Any) -> bool:
    """The `send` of a wire that is closed."""
    return False


def nothing(*_: object) -> None:
    """What a wire calls once it is closed."""


def accepted(*message: Any) -> bool:
    """The `send` of a wire whose other side is gone."""
    return True


class Wire(ABC):
    """One end of a connection that moves messages.

    `look_ahead`: a message may be looked at without taking it out of the mailbox, so that a server can choose the most
    urgent. Where it is False, a server only looks when it can start what it finds.
    """

    look_ahead = True
    saturated = False  # as many calls are in flight as the wire can account for
    right_to_send: Any = None  # a ring's own, where there is one: the short way for plain calls
    more: Callable[[], bool] = staticmethod(lambda: False)  # is there a message after the one that was looked at?

    def __init__(self) -> None:
        self.outbox: deque[tuple[tuple[Any, ...], Callable[[], object]]] = deque()
        self.when_room: deque[Callable[[], None]] = deque()  # who waits for room, in turn
        self.turn_given = False  # the first of them was called, and has not tried yet
        self.receiver: Callable[[Wire], None] = lambda wire: None
        self.controller: Callable[[Wire, Received], None] = lambda wire, message: None  # of what comes beside the calls
        self.flushed: Callable[[], object] = lambda: None  # nothing waits to be sent any more
        # Of a server's: so many wires were received from in so many ns, without a turn of the loop.
        self.kept_loop: Callable[[int, int], object] = lambda ns, wires: None
        self.on_closed: Callable[[Wire, str], None] = lambda wire, why: None
        self.closed: str | None = None
        self.abandoned = False  # the caller is gone
        self.overtaken: set[int] = set()  # calls that were not looked at yet, by their own cancellation
        self.number = 0  # of the channel, where a kernel numbers it
        self.lane: Lane | None = None  # where what it carries may lend shared memory

    @abstractmethod
    def send(
        self, kind: int, call: int, body: Any, method: int = 0, interface: int = 0, priority: int = 0,
        deadline: int = 0, credit: int = 0, flags: int = 0, trace: tuple[int, int, int] | None = None, /,
    ) -> bool:  # fmt: skip
        """Put one message in; False when there is no room now. Raises ValueError for a body that is too large."""

    @abstractmethod
    def peek(self) -> Received | None:
        """The next message that was not looked at yet, or None. Raises `Garbage`-like errors as ConnectionError."""

    def is_empty(self) -> bool:
        """Has every call been looked at that was sent by it? Not by the sender's own count, which may be forged."""
        return not self.more()

    def cancels(self) -> bool:
        """Of a server's: look at what has come beside the calls. Was any of them cancelled that was not looked at?"""
        return bool(self.overtaken)

    def holds_calls(self) -> bool:
        """Were calls accepted that are not in the channel yet?"""
        return False

    def put(self, *message: Any) -> bool:
        """`send`, for a body that may be a loan."""
        try:
            return self.send(*message)
        except TravelsWhole:
            return self.send(*message)

    def post(self, *message: Any) -> None:
        """Send, or keep it in order until there is room: for what is never refused (replies, credit, cancellation)."""
        self.post_last(lambda: None, *message)

    def post_last(self, sent: Callable[[], object], *message: Any) -> None:
        """As `post`. `sent` is called when the message is in the channel: until then this process alone has it."""
        if self.closed is not None:
            return
        if self.outbox or not self.put(*message):
            self.outbox.append((message, sent))
            self.want_room()
        else:
            sent()

    def flush(self) -> None:
        """There may be room: send what waits in the outbox, then wake the first who waits to send."""
        while self.outbox:
            message, sent = self.outbox[0]
            if not self.put(*message):
                self.want_room()
                return
            self.outbox.popleft()
            sent()
            if not self.outbox:
                self.flushed()
        self.wake_waiter()

    def line_up(self, wake: Callable[[], None]) -> None:
        """Wait for room behind the others. `wake` is called at our turn, and we stay first until `leave_line`."""
        self.when_room.append(wake)
        if len(self.when_room) == 1:
            self.want_room()

    def no_room_yet(self) -> None:
        """It was our turn, and there was no room left after all: it will be again."""
        self.turn_given = False
        self.want_room()

    def leave_line(self, wake: Callable[[], None]) -> None:
        """We have sent, or given up: it is the next one's turn."""
        first = self.when_room[0] is wake
        self.when_room.remove(wake)
        if first:
            self.turn_given = False
            self.wake_waiter()

    def wake_waiter(self) -> None:
        """Let the first of those who wait for room try, unless it is about to."""
        if self.when_room and not self.turn_given:
            self.turn_given = True
            self.when_room[0]()

    @abstractmethod
    def want_room(self) -> None:
        """Ask to be flushed when the other side has made room."""

    @abstractmethod
    def listen(self) -> None:
        """Begin to hand what arrives, and what has arrived already, to `receiver`."""

    @abstractmethod
    def stop_listening(self) -> None:
        """Leave in the mailbox what comes from now on, until `listen` is called again, here or by a successor."""

    def interrupted(self) -> list[tuple[int, int, int]]:
        """Calls that a predecessor was running when it died: (call, interface, method)."""
        return []

    def forget_interrupted(self, call: int) -> None:  # noqa: B027 - only a mailbox that outlives its reader remembers
        """Take one of them out of the record; it counts as refused."""

    def end_interrupted(self, kind: int, body: bytes = b"", mortal: bool = False) -> None:
        """Tell the callers of what a predecessor was running, and forget it. `mortal`: we may die before there is room
        for that, so each is forgotten when it is in the channel. Our own successor tells the others again."""
        for call, _, _ in self.interrupted():
            if self.lane is not None:
                self.lane.mark()
            forget = partial(self.forget_interrupted, call)
            self.post_last(forget if mortal else lambda: None, kind, call, body)
            if not mortal:
                forget()

    def ledger(self) -> tuple[int, int, int, int]:
        """Calls that came by this wire: (accepted, taken, answered, refused)."""
        return 0, 0, 0, 0

    def fail(self, why: str) -> None:
        """The other side broke the protocol: tell it, as far as it still listens, and close."""
        if self.closed is None:
            with contextlib.suppress(OSError, ValueError):
                self.send(Kind.GONE, WHOLE_WIRE, f"the connection is closed: {why}".encode())
            self.close(why)

    def abandon(self) -> None:
        """The other side is gone: what has come can be received, and nothing is sent any more."""
        self.abandoned, self.send = True, accepted  # type: ignore[method-assign]
        self.flush()

    def finish(self) -> None:
        """Close this end as soon as nothing is left to send."""
        if self.closed is None and self.outbox:
            self.line_up(self.close)
        else:
            self.close()

    def close(self, why: str = "closed") -> None:
        """Close this end; told once to `on_closed`."""
        if self.closed is None:
            self.closed = why
            self.outbox.clear()
            if self.lane is not None:
                self.lane.close()
            self.release()
            self.on_closed(self, why)
            # Its owner may hold it: else the two, with a channel's descriptors, would wait for Python's collector.
            self.receiver = self.controller = self.flushed = self.kept_loop = self.on_closed = nothing

    @abstractmethod
    def release(self) -> None:
        """Give back what the wire holds; called once, by `close`."""
