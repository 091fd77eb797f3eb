"""The memory transport: channels between spaces of one process, for simulation.

Nothing waits for a socket or another core: a message is delivered by the loop's next turn, in the order sent, so a
run depends on its inputs alone. As with a ring, the mailbox belongs to the channel, and outlives whoever reads it. A
right is a real descriptor, so that it can be passed, duplicated and closed like any; what it names is found in this
process.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..kernel.ipc import Bell, Made
from .contract import Received, Wire
from .kind import Kind
from .lane import Lane
from .message import Mailbox, Message

if TYPE_CHECKING:
    import random

LARGEST_BODY = 1 << 30  # bytes
BOUND = 1024  # calls that may wait in a mailbox
_channels: weakref.WeakValueDictionary[int, MemoryChannel] = weakref.WeakValueDictionary()  # by inode


@dataclass
class Weather:
    """What happens to the messages of a world, decided by `seed` alone.

    `delay`: the least and the most seconds that a message takes, on the loop's clock; messages of one channel keep
    their order. `loss`: the share of messages at which the channel is cut: both ends close.
    """

    seed: int = 0
    delay: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.delay[0] <= self.delay[1]:
            raise ValueError(f"delay: got {self.delay!r}, wanted (least, most) in seconds")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss: got {self.loss!r}, wanted a share between 0 and 1")

    @cached_property
    def chance(self) -> random.Random:
        import random  # here: what it does at every fork would cost each process of plug-ins memory

        return random.Random(self.seed)


CALM = Weather()


class MemoryChannel(Mailbox):
    """One channel. `requests` holds what was not taken yet, by number; `reader` is the server's end that listens."""

    __slots__ = (
        "__weakref__", "calls", "due", "next", "reader", "replies", "requests", "sender", "starving", "thread",
        "weather",
    )  # fmt: skip

    def __init__(self, weather: Weather = CALM) -> None:
        super().__init__()
        self.weather, self.thread = weather, threading.get_ident()
        self.requests: dict[int, Message] = {}
        self.replies: deque[Message] = deque()
        self.calls: dict[int, tuple[int, int]] = {}  # those being run: (interface, method)
        self.next = 0
        self.due = [0.0, 0.0]  # when the latest message of each direction arrives
        self.reader: MemoryWire | None = None
        self.sender: MemoryWire | None = None
        self.starving = False

    def started(self, message: Message) -> None:
        if self.requests.pop(message.flags >> 8, None) is None:
            return  # taken before
        self.taken += 1
        if message.kind == Kind.ONEWAY:
            self.answered += 1
        else:
            self.calls[message.call] = message.interface, message.method
        if self.starving and self.sender is not None:
            self.starving = False
            self.sender.loop.call_soon(self.sender.flush)

    def finished(self, message: Message, refused: bool) -> None:
        if self.calls.pop(message.call, None) is not None:
            self.refused += refused
            self.answered += not refused

    def arrived(self, message: Message, to_server: bool) -> None:
        if to_server:
            message.flags |= self.next << 8  # its place in the mailbox
            self.requests[self.next] = message
            self.next += 1
        else:
            self.replies.append(message)
        wire = self.reader if to_server else self.sender
        if wire is not None:
            wire.wake()

    def cut(self, why: str) -> None:
        """Close both ends."""
        for wire in (self.sender, self.reader):
            if wire is not None:
                wire.close(why)

    def ledger(self) -> tuple[int, int, int, int]:
        return self.accepted, self.taken, self.answered, self.refused


def make_channel(caller_ringer: int = -1, port_bell: Bell = (-1, -1), weather: Weather = CALM) -> Made:
    """The one right of either side names the channel, which lives as long as somebody keeps it."""
    right = os.memfd_create("mukernel-memory", os.MFD_CLOEXEC)
    channel = _channels[os.fstat(right).st_ino] = MemoryChannel(weather)
    return [right], [right], [right], channel


def found(right: int) -> MemoryChannel:
    """The channel that a descriptor names. Raises ConnectionError for one of another process."""
    channel = _channels.get(os.fstat(right).st_ino)
    if channel is None:
        raise ConnectionError("this right names no channel of this process")
    return channel


def opened(right: int) -> MemoryChannel:
    """As `found`, and the descriptor is given back."""
    try:
        return found(right)
    finally:
        os.close(right)


class MemoryWire(Wire):
    """One end of a channel in memory. `side`: "caller" or "server"."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, right: int | MemoryChannel, side: str, bound: int = BOUND
    ) -> None:
        super().__init__()
        self.channel = right if isinstance(right, MemoryChannel) else opened(right)
        self.loop, self.serves, self.bound = loop, side == "server", bound
        self.cursor = min(self.channel.requests, default=self.channel.next)
        self.listening = self.woken = False
        if not self.serves:
            self.channel.sender = self

    def send(
        self, kind: int, call: int, body: Any, method: int = 0, interface: int = 0, priority: int = 0,
        deadline: int = 0, credit: int = 0, flags: int = 0, trace: tuple[int, int, int] | None = None, /,
    ) -> bool:  # fmt: skip
        channel, weather = self.channel, self.channel.weather
        if self.closed is not None:
            return False
        if kind < Kind.ITEM and channel.accepted - channel.taken >= self.bound:
            return False
        content = bytes(body)
        if len(content) > LARGEST_BODY:
            raise ValueError(f"a body of {len(content)} bytes; at most {LARGEST_BODY} travel in one message")
        if weather.loss and weather.chance.random() < weather.loss:
            self.loop.call_soon(channel.cut, "the connection was lost")
            return True
        message = Message(kind, call, content, method, interface, priority, deadline, credit, flags, trace)
        message.mailbox = channel if kind < Kind.ITEM else None
        if kind < Kind.ITEM:
            channel.accepted += 1
        if weather.delay[1]:
            direction = int(self.serves)
            # Later than the one before, however little: of timers at the same time any may be the first.
            after = math.nextafter(channel.due[direction], math.inf)
            when = max(after, self.loop.time() + weather.chance.uniform(*weather.delay))
            channel.due[direction] = when
            self.loop.call_at(when, channel.arrived, message, not self.serves)
        else:
            channel.arrived(message, not self.serves)
        return True

    def want_room(self) -> None:
        channel = self.channel
        channel.starving = True
        if self.serves or channel.accepted - channel.taken < self.bound:
            self.loop.call_soon(self.flush)

    def wake(self) -> None:
        if self.listening and not self.woken:
            self.woken = True
            self.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        self.woken = False
        if self.listening:
            self.receiver(self)

    def peek(self) -> Received | None:
        channel = self.channel
        if not self.serves:
            return channel.replies.popleft() if channel.replies else None
        while self.cursor < channel.next:
            message = channel.requests.get(self.cursor)
            self.cursor += 1
            if message is not None:
                if message.kind >= Kind.ITEM:
                    del channel.requests[self.cursor - 1]
                return message
        return None

    def listen(self) -> None:
        if not self.listening and self.closed is None:
            self.listening = True
            if self.serves:  # what was looked at before, and not started, is there to be looked at again
                self.channel.reader, self.cursor = self, min(self.channel.requests, default=self.channel.next)
            self.wake()

    def stop_listening(self) -> None:
        self.listening = False
        if self.channel.reader is self:
            self.channel.reader = None

    def interrupted(self) -> list[tuple[int, int, int]]:
        return [(call, interface, method) for call, (interface, method) in self.channel.calls.items()]

    def forget_interrupted(self, call: int) -> None:
        self.channel.refused += self.channel.calls.pop(call, None) is not None

    def ledger(self) -> tuple[int, int, int, int]:
        return self.channel.ledger()

    def release(self) -> None:
        self.stop_listening()
        if self.channel.sender is self:
            self.channel.sender = None


def pair(
    loop: asyncio.AbstractEventLoop, *, weather: Weather = CALM, bound: int = BOUND
) -> tuple[MemoryWire, MemoryWire]:
    """Both ends of a new channel: the caller's and the server's."""
    channel = MemoryChannel(weather)
    return MemoryWire(loop, channel, "caller", bound), MemoryWire(loop, channel, "server", bound)


class BlockingMemoryWire:
    """A caller's end for code that blocks: since the server runs in the same thread, waiting means letting it work.

    `wait` raises RuntimeError where the server has nothing to answer with: it would wait for ever. In another thread
    than that of the simulation everything does.
    """

    def __init__(self, right: int, bound: int = BOUND) -> None:
        self.channel = opened(right)
        self.check_thread()
        self.channel.weather = CALM  # nobody could wait for what is delayed
        self.closed: str | None = None
        self.lane: Lane | None = None  # what it carries stays in this process
        self.inner = MemoryWire(asyncio.get_running_loop(), self.channel, "caller", bound)

    def check_thread(self) -> None:
        """Raises RuntimeError in another thread than that of the loop, in which alone the server can be let work."""
        if threading.get_ident() != self.channel.thread:
            raise RuntimeError(
                "a blocking call between simulated processes, which share a thread, from another thread "
                "(asyncio.to_thread, a plug-in's `threads`): make it in the thread of the simulation, or use real "
                "processes for this test (the fixture process_kernel)"
            )

    def send(self, *message: Any) -> bool:
        self.check_thread()
        return self.inner.send(*message)

    def receive(self) -> Received | None:
        return self.inner.peek()

    def wait(self, limit: int) -> bool:
        reader = self.channel.reader
        if not self.channel.replies and reader is not None:
            reader.receiver(reader)
        if not self.channel.replies:
            raise RuntimeError(
                "a blocking call between simulated processes, which share a thread, can only be answered by a method "
                "that is `def` and runs at once: use processes for this test, or let the interface be `async def`"
            )
        return True

    def wait_for_room(self, limit: int) -> None:
        self.wait(limit)

    def close(self, why: str = "closed") -> None:
        if self.closed is None:
            self.closed = why
            self.inner.close(why)
