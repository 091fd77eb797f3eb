"""Lanes: how the segments of a message travel beside it, between two processes of this machine.

Rings and packets carry bytes; a segment is a descriptor. So each channel has a socket pair more, its *lane*. Who sends
a message that lends puts the descriptors of its segments into the lane first, under a random token, and the token into
the message. Who takes the message out of its mailbox claims them by it. The kernel, which keeps a duplicate of both
ends as of all of a channel, keeps what was not claimed for a successor of a server that died.

No third process is asked, none can open what was not sent to it, and what nobody has claimed is gone with the channel.
A lane that is full is no obstacle: the message then travels whole, as bytes.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Set
from functools import cache
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

from ..contract import Overloaded, Unavailable
from ..contract.lending import MARK, MOST_SEGMENTS, Incoming, Outgoing
from ..kernel.ipc import Bell, Made
from .descriptors import close_all, duplicated
from .kind import Kind
from .segment import (
    MADE_IN_PLACE,
    WRITTEN,
    Segment,
    SegmentFile,
    Share,
    account,
    address_of,
    copied,
    new_segment,
    received_segment,
    segment_at,
    size_of,
)  # fmt: skip

TOKEN = 16  # bytes
DIED = bytes(TOKEN)  # no token, but the word that who sent what came before has died
MOST_OWNED = 7  # files that a channel has of its own, its lane's two among them
UNCLAIMED = 8192  # packets that may wait at the receiver for their messages; of more, the oldest go
MOST_AT_ONCE = 4096  # packets that are received for one message: more than a lane has room for
CALLER, SERVER = 0, 1
_HEAD = struct.Struct(f"<cBQ{TOKEN}s")  # before the payload: MARK, who sends, the channel's number, the token


def with_lane(make: Callable[[int, Bell], Made]) -> Callable[[int, Bell], Made]:
    """What makes a channel, with a lane as the last right of each side."""

    def made(caller_ringer: int, port_bell: Bell) -> Made:
        close_all(duplicated([port_bell[0]] * MOST_OWNED))  # where there are not files for all, none is made
        server, caller, owned, keeps = make(caller_ringer, port_bell)
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        of_server, of_caller = (end.detach() for end in pair)
        return [*server, of_server], [*caller, of_caller], [*owned, of_server, of_caller], keeps

    return made


class LaneEnd(socket.socket):
    """Closed as soon as nobody looks at it any more, and not before: other threads ask it, too, what waits in it, and
    the number of a descriptor that is closed is at once another's."""

    def __del__(self) -> None:
        self.close()

    def waiting_bytes(self) -> int:
        """What the system accounts for what the other end has not received. Raises OSError."""
        size: int = struct.unpack("i", fcntl.ioctl(self, termios.TIOCOUTQ, bytes(4)))[0]
        return size


@cache
def bytes_of_packet() -> int:
    """What the system accounts for a packet of a lane, whatever it lends."""
    ours, theirs = (LaneEnd(fileno=end.detach()) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    ours.send(bytes(TOKEN))
    with theirs:
        return max(1, ours.waiting_bytes())


def unwatched(lane: Lane) -> None:
    """Who looks again at what is left, where no server receives."""


class Lane:
    """One end of a channel's lane. It never blocks, though another who has it, too, may change its flags. Shared by the
    wires of a channel that are in this process at one time, as while a plug-in is replaced here; `users` are those.

    It belongs to the thread of its wires; other threads ask it what is in flight, and nothing else.
    """

    def __init__(self, right: int, side: int, number: int, share: Share | None = None) -> None:
        """`right` is owned from here on. `share`: of what waits here for messages, by other lanes, too."""
        self.socket: LaneEnd | None = LaneEnd(fileno=right)  # None: closed
        self.socket.setblocking(False)
        self.side, self.number, self.users, self.share = side, number, 0, share
        self.unclaimed: dict[bytes, list[Segment] | Exception] = {}
        self.unwanted: set[bytes] = set()  # tokens of messages that nobody wants, where the packet was not received yet
        # Of a server's: says each that reads messages here that it has looked at all, and none of them waits?
        self.nothing_waits: dict[Any, Callable[[], bool]] = {}
        self.when_left: Callable[[Lane], object] = unwatched  # something may be here that is of no message
        self.sent: deque[tuple[int, bool]] = deque()  # the latest packets: bytes that they lend, and are they of calls?

    # -- sending ----------------------------------------------------------------------------------------------

    def load(self, message: Outgoing, beside: bool = False) -> bytes:
        """What the wire is to carry. The segments are on their way when this returns.

        `beside`: it goes beside the calls, and is received before those that wait. Their segments would have to be
        received with its own, and be lost with a process that has not begun those calls: so it travels whole then.
        """
        end = self.socket
        if end is None:
            return bytes(message)
        for _ in range(len(self.sent) - self.packets_in(end)):
            self.sent.popleft()
        if beside and any(of_call for _, of_call in self.sent):
            return bytes(message)
        token = os.urandom(TOKEN)
        segments: Any = message.segments
        rights = array.array("i", [segment.fd for segment in segments])
        self.sent.append((size_of(segments), not beside))
        try:
            for segment in segments:
                segment.seal(MADE_IN_PLACE)
            end.sendmsg([token], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_DONTWAIT)
        except OSError:  # full; or the other side has gone, which the wire will say
            self.sent.pop()
            return bytes(message)
        return _HEAD.pack(MARK, self.side, self.number, token) + message.payload

    def packets_in(self, end: LaneEnd) -> int:
        """How many packets its other end has not received."""
        try:
            return -(-end.waiting_bytes() // bytes_of_packet())
        except OSError:
            return 0

    def in_flight(self) -> int:
        """Bytes of segments that were sent and not received: those of the latest packets. Asked in any thread."""
        end, sent = self.socket, self.sent.copy()
        if end is None or not sent:
            return 0
        return sum(size for size, _ in islice(reversed(sent), self.packets_in(end)))

    def mark(self) -> None:
        """Say that who has sent what came before has died: what it has not spoken of any more is lost. There is one for
        each message that tells of this, which comes after it."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.send(DIED, socket.MSG_DONTWAIT)

    # -- receiving --------------------------------------------------------------------------------------------

    def claim(self, token: bytes) -> list[Segment]:
        """The segments that came under a token. Raises Unavailable where they did not, Overloaded."""
        received = 0
        while token not in self.unclaimed:
            if received == MOST_AT_ONCE:  # whoever sends so many holds us up
                self.give_up_all()
                self.socket = None
            received += 1
            if not self.receive(token):
                if self.side == CALLER:  # it did not come before its message, so what is here is of none, perhaps
                    self.give_up_all()
                raise Unavailable("the shared memory of this message is gone with the process that had received it")
        if self.side == CALLER:  # who claims in the order sent: of what came before this, its sender could not tell
            while (first := next(iter(self.unclaimed))) != token:
                self.give_up(first)
        found = self.give_up(token)
        if isinstance(found, Exception):
            try:
                raise found
            finally:
                del found  # else this frame, which it names, would keep it, and it all that its callers have in hand
        self.receive_unwanted()
        if self.unclaimed:
            if self.is_quiet():  # they are of messages that a predecessor let go of, and did not live to say
                self.give_up_all()
            else:
                self.when_left(self)
        return found

    def is_quiet(self) -> bool:
        """Of a server's: is there no message left whose packet may have been received?"""
        return bool(self.nothing_waits) and all(asked() for asked in self.nothing_waits.values())

    def let_go(self, token: bytes) -> None:
        """Nobody wants the message with this token, of a call that waits behind others. What it lends is let go of as
        soon as it is the first in the lane: to receive it sooner would be to receive what those calls lend, which a
        successor would not find."""
        if token in self.unclaimed:
            self.give_up(token)
        elif len(self.unwanted) < UNCLAIMED:
            self.unwanted.add(token)
            self.receive_unwanted()
            self.when_left(self)

    def receive_unwanted(self) -> None:
        while self.unwanted and self.first() in self.unwanted and self.receive():
            pass

    def first(self) -> bytes:
        """The token of the packet that is received next; empty where none has come."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                return self.socket.recv(TOKEN, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return b""

    def tokens(self) -> set[bytes]:
        """Of all that was received and not claimed, or is to be let go of, and of the first that was not received."""
        return {*self.unclaimed, *self.unwanted, self.first()} - {b""}

    def clear(self, seen: Set[bytes]) -> None:
        """Let go of what was `seen` here before and is of no message, as it would have come by now, and none waits: of
        what was received at once, of what was not when it is seen again. Until then its message would be run."""
        if self.is_quiet():
            for token in seen & self.unclaimed.keys():
                self.give_up(token)
            if self.first() in seen:
                self.receive_all()
            if not self.first():  # then a predecessor had received the rest
                self.unwanted.clear()

    def give_up(self, token: bytes) -> list[Segment] | Exception:
        found = self.unclaimed.pop(token)
        if self.share is not None and isinstance(found, list):
            self.share.give_up(found)
        return found

    def give_up_all(self) -> None:
        for token in list(self.unclaimed):
            self.give_up(token)

    def receive_all(self) -> None:
        """All that is there, but for what a sender adds for ever."""
        for _ in range(MOST_AT_ONCE):
            if not self.receive():
                break

    def receive_to_mark(self) -> None:
        """What came before the next mark, which is let go of with it; all, where the lane had no room for a mark."""
        for _ in range(MOST_AT_ONCE):
            marked = self.first() == DIED
            if not self.receive() or marked:
                break

    def receive(self, wanted: bytes = b"") -> bool:
        """One packet, if there is one. `wanted`: the token whose message was taken: its segments are no matter of the
        share."""
        room = socket.CMSG_SPACE(4 * MOST_SEGMENTS)
        end = self.socket
        if end is None:
            return False
        try:
            token, ancillary, flags, _ = end.recvmsg(TOKEN, room, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
        except OSError:
            return False
        rights = array.array("i")
        for _, _, content in ancillary:
            rights.frombytes(content[: len(content) // 4 * 4])
        if token == DIED:
            self.give_up_all()
            return True
        if len(token) != TOKEN:  # the other end is closed, or sends what nobody sends
            close_all(rights)
            return False
        if token in self.unwanted:
            self.unwanted.discard(token)
            close_all(rights)
            return True
        if token in self.unclaimed:
            self.give_up(token)
        while len(self.unclaimed) > UNCLAIMED:
            self.give_up(next(iter(self.unclaimed)))
        left = list(rights)
        segments: list[Segment] = []
        try:
            if flags & socket.MSG_CTRUNC:
                raise Overloaded("this process has no file descriptor left for shared memory that came")
            while left:
                segments.append(received_segment(left.pop(0)))
            if self.share is not None:
                self.share.add(segments, token != wanted)
            self.unclaimed[token] = segments
        except (ValueError, Overloaded) as error:
            close_all(left)
            # Without its traceback: that leads to this frame, and to the segments that are let go of now.
            self.unclaimed[token] = error.with_traceback(None)
        return True

    def close(self) -> None:
        """One wire less uses it."""
        self.users -= 1
        if not self.users:
            _lanes.pop((self.side, self.number), None)
            self.give_up_all()
            self.unwanted.clear()
            self.socket = None  # and closed, unless another thread looks at it just now
            self.nothing_waits.clear()  # else its server, and what that keeps, would wait for the collector
            self.when_left = unwatched


_lanes: dict[tuple[int, int], Lane] = {}  # by side and channel
_shares: WeakValueDictionary[str, Share] = WeakValueDictionary()  # by sandbox that calls here
_of_servers = Share()  # of all that are called from here


def open_lane(right: int, side: int, number: int, sandbox: str = "") -> Lane:
    """This process's end of the lane of channel `number`; `right` is owned from here on. `sandbox`: which one calls by
    it, if one does."""
    lane = _lanes.get((side, number))
    if lane is None:
        share = _of_servers if side == CALLER else _shares.setdefault(sandbox, Share()) if sandbox else None
        lane = _lanes[side, number] = Lane(right, side, number, share)
    else:
        os.close(right)
    lane.users += 1
    return lane


def loaded(lane: Lane | None, body: Any, beside: bool = False) -> bytes:
    """A body as a wire with this lane, or with none, carries it, when it is certain that it will. `beside`: as in
    `Lane.load`."""
    if type(body) is bytes:
        return body
    return lane.load(body, beside) if lane is not None and lane.users else bytes(body)


def loan(lane: Lane | None, body: Any, beside: bool = False) -> Any:
    """As `loaded`, for a message that there may be no room for: it lends when there is."""
    if type(body) is Outgoing and lane is not None and lane.users:
        return Loan(lane, body, beside)
    return loaded(None, body)


def let_go_of_lost(lane: Lane | None, kind: int) -> None:
    """What ended a call came to its caller: where it was the death of a server, all that one has spoken of was claimed,
    and the rest is found before the mark. What follows is of its successor, and waits in the lane for its messages:
    received ahead of them it would count as kept here, and might be more than may be."""
    if lane is not None and kind == Kind.INTERRUPTED:
        lane.receive_to_mark()


class TravelsWhole(Exception):
    """The lane had no room, so the message is longer than its length was: it is to be sent once more."""


class Loan:
    """A message that lends, for a wire that makes bytes of it as soon as it has room. That may raise TravelsWhole."""

    def __init__(self, lane: Lane, message: Outgoing, beside: bool) -> None:
        self.lane, self.message, self.beside = lane, message, beside
        self.content: bytes | None = None  # what the wire carries

    def __len__(self) -> int:
        return _HEAD.size + len(self.message) if self.content is None else len(self.content)

    def __bytes__(self) -> bytes:
        if self.content is None:
            promised = len(self)
            self.content = self.lane.load(self.message, self.beside)
            if len(self.content) != promised:
                raise TravelsWhole
        return self.content


class SegmentMemory:
    """Shared memory as the codec sees it: its values lie in segments, its messages travel with lanes."""

    def lend(self, value: Any) -> tuple[Segment, int]:
        if isinstance(value, memoryview):
            return segment_at(address_of(value), value.nbytes) or (copied(value), 0)
        if value.flags.c_contiguous or value.flags.f_contiguous:
            return lend_array(value)
        import numpy

        segment = new_segment(value.nbytes)
        mapping = segment.map(writable=True)
        numpy.copyto(numpy.frombuffer(mapping, value.dtype).reshape(value.shape), value)  # the one copy
        return segment, 0

    def find(self, address: int, size: int) -> Segment | None:
        found = segment_at(address, size)
        return found[0] if found is not None else None

    def written(self, size: int, write: Callable[[Any], None]) -> Segment:
        segment = new_segment(size)
        write(SegmentFile(segment))
        segment.seal(WRITTEN)
        return segment

    def claim(self, body: bytes) -> Incoming:
        lane, token = lane_of(body)
        return Incoming(body[_HEAD.size :], lane.claim(token))


def lane_of(body: bytes) -> tuple[Lane, bytes]:
    """By which lane the segments of a message came, and under which token. Raises ValueError."""
    try:
        _, sender, number, token = _HEAD.unpack_from(body)
    except struct.error:
        raise ValueError("a message that lends shared memory is malformed") from None
    lane = _lanes.get((SERVER if sender == CALLER else CALLER, number))
    if lane is None:
        raise ValueError("a message that lends shared memory came by no channel that is open here")
    return lane, token


def let_go(body: Any) -> None:
    """Nobody wants this body of a call that was not begun."""
    if type(body) is bytes and body.startswith(MARK):
        with contextlib.suppress(ValueError):
            lane, token = lane_of(body)
            lane.let_go(token)


def lend_array(value: Any) -> tuple[Segment, int]:
    found = segment_at(value.__array_interface__["data"][0], value.nbytes)
    if found is None:
        flat = value.reshape(-1, order="A").view("u1")
        return copied(memoryview(flat)), 0
    if not found[0].sealed:  # it was made in place: what its maker has of it is not to be written any more
        part = value
        while hasattr(part, "flags"):
            part.flags.writeable = False
            part = part.base
    return found


def this_process() -> SegmentMemory:
    """What the codec is given when a large value is first sent or received here."""
    account.in_flight = lambda: sum(lane.in_flight() for lane in list(_lanes.values()))
    return SegmentMemory()


__all__ = [
    "CALLER", "SERVER", "Lane", "TravelsWhole", "let_go", "let_go_of_lost", "loaded", "loan", "open_lane",
    "this_process", "with_lane",
]  # fmt: skip
