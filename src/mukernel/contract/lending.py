"""Lending: large values that travel as handles to shared memory, while their message travels as bytes.

A message that lends is made here as an `Outgoing`: its bytes, and the segments that its handles count into. A wire
between processes sends the segments beside it (`Outgoing.lent`); any other sends `bytes(outgoing)`, in which the same
values lie whole. What has come is an `Incoming`. A handle is a place in a segment of its own message: there is nothing
to guess, and nothing to open that was not sent.

No I/O happens here: `SharedMemory` does that, and a process that has none sends bytes.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .errors import MukernelError

LENT_FROM = 64 * 1024  # bytes; what is smaller is copied sooner than it is handed over
MOST_SEGMENTS = 200  # in one message; what more there is travels as bytes
MARK = b"\xc1"  # begins a body whose segments came beside it; no msgpack begins so


class Segment(Protocol):
    """A piece of shared memory. `size`: bytes; `final`: nobody can write it any more; `holds_arrow`: a stream of Arrow
    is all that is in it."""

    size: int
    final: bool
    holds_arrow: bool

    def view(self, offset: int, length: int) -> memoryview:
        """Read-only, without a copy. Raises ValueError for what does not lie in it, Overloaded."""


class SharedMemory(Protocol):
    """What a process does with segments."""

    def lend(self, value: Any) -> tuple[Segment, int]:
        """The segment that has the bytes of a Buffer's memoryview or of an array, and where in it. They are copied,
        once, unless they lie in one already. Raises Overloaded."""

    def find(self, address: int, size: int) -> Segment | None:
        """The segment in which these bytes of our memory lie."""

    def written(self, size: int, write: Callable[[Any], None]) -> Segment:
        """A new segment of what `write` writes into a binary file, `size` bytes. Raises Overloaded."""

    def claim(self, body: bytes) -> Incoming:
        """A body that begins with MARK, with its segments. Raises ValueError, Unavailable, Overloaded."""


class Incoming:
    """A message with the segments that came beside it; they live until nobody looks into them any more."""

    __slots__ = ("error", "payload", "segments")

    def __init__(self, payload: bytes, segments: Sequence[Segment], error: Exception | None = None) -> None:
        self.payload, self.segments, self.error = payload, segments, error  # the error: why they could not be had

    def __len__(self) -> int:
        return len(self.payload)


class Outgoing:
    """A message that lends: `payload`, whose handles count into `segments`; `value` is what was encoded."""

    __slots__ = ("encode", "payload", "segments", "value")

    def __init__(
        self, payload: bytes, segments: list[Segment], value: Any, encode: Callable[[Any], bytes]
    ) -> None:  # fmt: skip
        self.payload, self.segments, self.value, self.encode = payload, segments, value, encode

    def __bytes__(self) -> bytes:
        """The whole of it, for a wire that can't pass memory on."""
        return self.encode(self.value)

    def __len__(self) -> int:
        return len(self.payload)


class _Present(threading.local):
    """What the present thread encodes or decodes: the hooks of the codec are told nothing but a value."""

    lends: list[Segment] | None = None
    borrows: Sequence[Segment] | None = None


_present = _Present()
_memory: SharedMemory | None = None
provider: Callable[[], SharedMemory] | None = None  # set by the transports: it is made when it is first needed


def shared_memory() -> SharedMemory:
    """This process's. Raises RuntimeError where it has none."""
    global _memory
    if _memory is None:
        if provider is None:
            raise RuntimeError("nothing in this process can pass shared memory on")
        _memory = provider()
    return _memory


def lending(encode: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    """As `encode`, but what it gives back is an Outgoing where large values are in it."""

    def encode_lending(value: Any) -> Any:
        if provider is None:
            return encode(value)
        before, _present.lends = _present.lends, []
        try:
            payload = encode(value)
            segments = _present.lends
        finally:
            _present.lends = before
        return Outgoing(payload, segments, value, encode) if segments else payload

    return encode_lending


def lend(value: Any, size: int) -> tuple[int, int] | None:
    """Put `value`, of `size` bytes, beside the message that is being encoded: the number of its segment, and where in
    it. None: it is to travel in the message itself. Raises Overloaded."""
    lends = _present.lends
    if lends is None or size < LENT_FROM or len(lends) >= MOST_SEGMENTS:
        return None
    segment, offset = shared_memory().lend(value)
    lends.append(segment)
    return len(lends) - 1, offset


def lends() -> bool:
    """May the message that is being encoded have something beside it?"""
    return _present.lends is not None


def lend_segments(segments: Sequence[Segment]) -> list[int] | None:
    """Put whole segments beside the message that is being encoded: their numbers. None where they are too many."""
    lent = _present.lends
    if lent is None:
        return None
    places = {id(each): number for number, each in enumerate(lent)}
    new = [each for each in segments if id(each) not in places]
    if len(lent) + len(new) > MOST_SEGMENTS:
        return None
    places |= {id(each): len(lent) + number for number, each in enumerate(new)}
    lent += new
    return [places[id(each)] for each in segments]


def borrowing(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """As `decode`, for what it gives back looks into the message: which is copied first unless it is bytes."""

    def decode_borrowing(data: Any) -> Any:
        if type(data) is not Incoming:
            if type(data) is not bytes:
                data = bytes(data)
            if not data.startswith(MARK):
                return decode(data)
            data = claimed(data)
        if data.error is not None:  # a copy: with itself the message would hold all that our callers have in hand
            raise copy.copy(data.error)
        before, _present.borrows = _present.borrows, data.segments
        try:
            value = decode(data.payload)
        finally:
            _present.borrows = before
        data.segments = ()  # what needs them has them; the message itself may be kept for a while
        return value

    return decode_borrowing


def claimed(body: Any) -> Any:
    """A body as it was received, with its segments where it has some. Raises ValueError, Unavailable, Overloaded."""
    return shared_memory().claim(body) if type(body) is bytes and body.startswith(MARK) else body


def received(body: Any) -> Any:
    """As `claimed`; what that raises is raised where the body is decoded. For a body that nobody wants: let go of what
    this gives back, and its memory goes with it."""
    try:
        return claimed(body)
    except (ValueError, MukernelError) as error:
        return Incoming(b"", (), error.with_traceback(None))


def borrowed(number: int, offset: int, length: int) -> memoryview:
    """What a handle in the message that is being decoded stands for. Raises ValueError, Overloaded."""
    return borrowed_segment(number).view(offset, length)


def borrowed_segment(number: int) -> Segment:
    """A segment that came with the message that is being decoded. Raises ValueError."""
    segments = _present.borrows
    if segments is None or not 0 <= number < len(segments):
        raise ValueError(f"a handle to shared memory that did not come with this message: {number}")
    return segments[number]
