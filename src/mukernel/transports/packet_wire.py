"""The wires over packets: for an event loop, and for a thread."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..contract.lending import received
from ..kernel.clock import Clock
from .context import watch
from .contract import WHOLE_WIRE, Received, Wire
from .frame import STARVING, TAKEN, Garbage, checked_size
from .kind import Kind
from .lane import Lane
from .message import Mailbox, Message
from .packets import BOUND, LARGEST_BODY, PacketEnd, look, receive_packet, send_packet

CLOCK = Clock()
UNWANTED = 4096  # bytes, of the body of a call that is never run: its beginning says what it lends


class Begun(Mailbox):
    """The calls of one channel that its server has begun: each has a slot of the table."""

    __slots__ = ("wire",)

    def __init__(self, wire: PacketWire) -> None:
        super().__init__()
        self.wire = wire

    def started(self, message: Message) -> None:
        self.wire.begin(message)

    def discarded(self, message: Message) -> None:
        self.wire.discard(message)

    def finished(self, message: Message, refused: bool) -> None:
        self.wire.end(message, refused)


class PacketWire(Wire):
    """One end of a channel of packets. `side`: "caller" or "server".

    The first call of the mailbox is looked at and left there until it is begun, so a server can let it wait, and a
    successor finds it. Only the first: among callers the most urgent goes first, but the calls of one caller are begun
    in the order sent, whatever their priorities.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rights: Sequence[int], side: str, bound: int = BOUND) -> None:
        """`rights`: table, mailbox, side pair; owned from here on."""
        super().__init__()
        self.loop, self.serves, self.bound = loop, side == "server", bound
        self.end_of_channel = PacketEnd(rights)
        self.table = self.end_of_channel.table
        self.mailbox, self.side = self.end_of_channel.mailbox, self.end_of_channel.side
        self.listening = self.asked = self.starving = self.reading_mailbox = False
        self.full = False  # the side pair had no room
        self.unsent: deque[tuple[Any, ...]] = deque()  # calls that the mailbox had no room for yet
        self.first: Message | None = None  # looked at, and still in the mailbox
        self.begun = Begun(self)
        self.slots: dict[int, int] = {}  # of the calls that are being run, by their number
        # Calls that were not begun yet, and where the table has them; and its places that are free for more. Known from
        # the beginning: who refuses what is left in a mailbox reads it, and never listens.
        self.cancelled, self.places = self.table.cancelled() if self.serves else ({}, [])

    @property
    def saturated(self) -> bool:  # type: ignore[override]
        """As many calls are in flight as the table has room for."""
        return not self.table.unused

    # -- sending ----------------------------------------------------------------------------------------------

    def send(self, kind: int, call: int, body: Any, *rest: Any) -> bool:
        if self.closed is not None:
            return False
        try:
            if kind < Kind.ITEM:
                if self.table.waiting >= self.bound:
                    return False
                body = bytes(body)  # now, as there is room: it may lend
                checked_size(body, LARGEST_BODY)
                self.table.accept(1)
                self.unsent.append((kind, call, body, *rest))
                if len(self.unsent) == 1:
                    self.send_calls()
                return True
            if send_packet(self.side, kind, call, body, *rest):
                return True
            self.full = True
        except ConnectionError as error:  # not closed here: a caller may be about to count on the wire
            self.loop.call_soon(self.end_after_the_rest, str(error))
            return True
        return False

    def send_calls(self) -> None:
        """Put into the mailbox what has room there. What has none yet is this process's own to lose."""
        try:
            while self.unsent and send_packet(self.mailbox, *self.unsent[0]):
                self.unsent.popleft()
        except ConnectionError as error:
            self.loop.call_soon(self.end_after_the_rest, str(error))
            return
        if self.unsent:
            self.loop.add_writer(self.mailbox, self.send_calls)
        elif self.loop.remove_writer(self.mailbox):
            self.flushed()

    def end_after_the_rest(self, why: str) -> None:
        """The other side is gone. A caller takes first what it has said before: the last of that may say why."""
        if self.listening and not self.serves:
            self.receiver(self)
            with contextlib.suppress(ConnectionError):
                if self.closed is None and look(self.side) is not None:  # there was no time for more
                    self.loop.call_soon(self.end_after_the_rest, why)
                    return
        self.close(why)

    def is_empty(self) -> bool:
        try:
            return self.first is None and look(self.mailbox) is None
        except ConnectionError:
            return True

    def holds_calls(self) -> bool:
        return bool(self.unsent)

    def want_room(self) -> None:
        if self.closed is not None:
            return
        if not self.full and not self.asked:
            self.asked = self.send(STARVING, WHOLE_WIRE, b"")
        if self.full:
            self.loop.add_writer(self.side, self.writable)

    def writable(self) -> None:
        self.loop.remove_writer(self.side)
        self.full = False
        self.flush()

    # -- receiving --------------------------------------------------------------------------------------------

    def listen(self) -> None:
        if not self.listening and self.closed is None:
            self.listening = True
            watch(self.loop, self.side, self.readable)
            if self.serves:
                self.first = None  # one that was looked at before, and not begun, is there to be looked at again
                self.cancelled, self.places = self.table.cancelled()
                self.post(TAKEN, WHOLE_WIRE, b"")  # a predecessor may have been asked for room
                self.read_mailbox()

    def stop_listening(self) -> None:
        if self.listening:
            self.listening = False
            self.loop.remove_reader(self.side)
            self.leave_mailbox()

    def read_mailbox(self) -> None:
        if self.serves and self.listening and self.first is None and not self.reading_mailbox:
            self.reading_mailbox = True
            watch(self.loop, self.mailbox, self.readable)

    def leave_mailbox(self) -> None:
        if self.reading_mailbox:
            self.reading_mailbox = False
            self.loop.remove_reader(self.mailbox)

    def readable(self) -> None:
        self.receiver(self)

    def peek(self) -> Received | None:
        try:
            while self.closed is None:
                message = self.received_beside()
                if message is None:
                    return self.first_call() if self.serves else None
                if self.concerns_calls(message):
                    return message
        except Garbage as garbage:
            self.fail(str(garbage))
        except ConnectionError as error:
            self.close(str(error))
        return None

    def received_beside(self) -> Message | None:
        """The next of what came beside the calls, and of no more than had come at one look: a cancellation is noted
        before it is taken out."""
        if self.serves:
            coming = look(self.side)
            if coming is None:
                return None
            self.remember_cancelled(coming)
        return receive_packet(self.side)

    def concerns_calls(self, message: Message) -> bool:
        """False for what only wires say to each other. Raises Garbage."""
        if message.kind == TAKEN:
            self.asked = False
            self.loop.call_soon(self.flush)
            return False
        if message.kind == STARVING:
            self.starving = True
            if self.table.waiting < self.bound:
                self.tell_taken()
            return False
        if message.kind < Kind.ITEM:
            raise Garbage("a call came beside the mailbox")
        if message.kind == Kind.GONE and message.call == WHOLE_WIRE:
            raise ConnectionError(message.content.decode(errors="replace"))
        if message.kind == Kind.CANCEL and self.serves and message.call not in self.slots:
            return self.first is not None and self.first.call == message.call
        return True

    def remember_cancelled(self, message: Message) -> None:
        """What comes next may be the cancellation of a call that was not begun: note it before it is taken out, for we
        may die in between. It may also be of one that has ended."""
        call = message.call
        if message.kind != Kind.CANCEL or call in self.slots or call in self.cancelled:
            return
        if not self.places:
            self.forget_cancelled()
        place = self.places.pop()
        self.table.cancel(call, place)
        self.cancelled[call] = place

    def forget_cancelled(self) -> None:
        """Those of calls that have ended: the calls of a caller wait in the order of their numbers. Where there are
        none, all, for no caller of ours has as many that wait."""
        first = look(self.mailbox)
        late = [call for call in self.cancelled if first is None or call < first.call] or list(self.cancelled)
        for call in late:
            self.places.append(self.cancelled.pop(call))
            self.table.heed(self.places[-1])

    def tell_taken(self) -> None:
        if self.starving:
            self.starving = False
            self.post(TAKEN, WHOLE_WIRE, b"")

    def first_call(self) -> Message | None:
        """The call that is first in the mailbox, once; it stays there until it is begun."""
        while self.first is None:
            message = look(self.mailbox)
            if message is None:
                return None
            if message.kind >= Kind.ITEM:
                raise Garbage(f"a message of kind {message.kind} lay in the mailbox, where calls belong")
            if message.call in self.slots:
                raise Garbage(f"call number {message.call} came twice")
            message.mailbox, self.first = self.begun, message
            if self.cancelled and message.call in self.cancelled:
                message.discard()
                received(message.body)  # and let go of what it lends
                continue
            self.leave_mailbox()
            return message
        return None

    # -- what is begun and ended ------------------------------------------------------------------------------

    def begin(self, message: Message) -> None:
        """Take a call out of the mailbox: from now on the table knows of it."""
        if self.first is not message:
            return
        wanted = message.kind != Kind.ONEWAY
        slot = self.table.begin(message.call, message.interface, message.method, wanted)
        self.take_out(message)
        self.table.taken_out(slot, wanted)
        if wanted:
            self.slots[message.call] = slot
        self.go_on(message)

    def discard(self, message: Message) -> None:
        """Take a call out of the mailbox that is never run: it needs no slot."""
        if self.first is message:
            self.table.discard(message.call)
            self.take_out(message, UNWANTED)
            self.table.discarded()
            self.go_on(message)

    def take_out(self, message: Message, most: int = LARGEST_BODY) -> None:
        whole = receive_packet(self.mailbox, most)
        assert whole is not None and whole.call == message.call
        message.content, message.lacking, self.first = whole.content, whole.lacking, None

    def go_on(self, message: Message) -> None:
        """A call is out of the mailbox: on to the next."""
        if message.call in self.cancelled:
            self.places.append(self.cancelled.pop(message.call))
            self.table.heed(self.places[-1])
        self.read_mailbox()
        self.tell_taken()

    def end(self, message: Message, refused: bool) -> None:
        slot = self.slots.pop(message.call, None)
        if slot is not None and self.closed is None:
            self.table.end(slot, refused)

    def interrupted(self) -> list[tuple[int, int, int]]:
        if self.closed is not None:
            return []
        first = None
        with contextlib.suppress(ConnectionError):  # its caller is gone, or spoilt it: the others are still told
            first = look(self.mailbox)
        return self.table.recover(None if first is None else first.call)

    def forget_interrupted(self, call: int) -> None:
        self.table.forget(call)

    def ledger(self) -> tuple[int, int, int, int]:
        return self.table.counts() if self.closed is None else self.last_counts

    def release(self) -> None:
        self.last_counts = self.table.counts()  # somebody may ask before our instance has been told to detach us
        self.stop_listening()
        for end in (self.side, self.mailbox):
            self.loop.remove_writer(end)
        self.end_of_channel.close()


class BlockingPacketWire:
    """A caller's end of a channel of packets that one thread owns."""

    def __init__(self, rights: Sequence[int], bound: int = BOUND) -> None:
        self.closed: str | None = None
        self.lane: Lane | None = None
        self.channel, self.bound = PacketEnd(rights), bound
        self.table = self.channel.table
        self.poll = select.poll()
        self.poll.register(self.channel.side, select.POLLIN)
        self.kept: list[Message] = []
        self.asked = self.room = self.full = False

    def send(self, kind: int, call: int, body: Any, *rest: Any) -> bool:
        """As `Wire.send`; what is no call blocks until there is room for it."""
        if self.closed is not None:
            return False
        try:
            if kind >= Kind.ITEM:
                body = bytes(body)
                while not send_packet(self.channel.side, kind, call, body, *rest):
                    self.read(-1, select.POLLIN | select.POLLOUT)
                return True
            if self.table.waiting >= self.bound:
                return False
            body = bytes(body)  # now, as there is room: it may lend
            checked_size(body, LARGEST_BODY)
            self.table.accept(1)
            if send_packet(self.channel.mailbox, kind, call, body, *rest):
                return True
            self.full = True
        except ConnectionError as error:
            while (message := self.arrived()) is not None:  # the last of it may say why
                self.kept.append(message)
            self.close(str(error))
            return False
        self.table.accept(-1)
        return False

    def receive(self) -> Message | None:
        return self.kept.pop(0) if self.kept else self.arrived()

    def arrived(self) -> Message | None:
        """The next that is not kept yet."""
        try:
            while self.closed is None and (message := receive_packet(self.channel.side)) is not None:
                if message.kind == TAKEN:
                    self.room, self.asked = True, False
                elif message.kind == Kind.GONE and message.call == WHOLE_WIRE:
                    self.close(message.content.decode(errors="replace"))
                else:
                    return message
        except ConnectionError as error:
            self.close(str(error))
        return None

    def read(self, limit: int, events: int = select.POLLIN) -> bool:
        """Wait at most `limit` ns (negative: for ever) and keep what came; False when time is over."""
        self.poll.modify(self.channel.side, events)
        if not self.poll.poll(None if limit < 0 else limit / 1e6):
            return False
        message = self.arrived()
        if message is not None:
            self.kept.append(message)
        return True

    def wait(self, limit: int) -> bool:
        end = CLOCK.now_ns() + limit
        while not self.kept and self.closed is None:
            left = end - CLOCK.now_ns()
            if limit >= 0 and left <= 0:
                return False
            self.read(left if limit >= 0 else -1)
        return True

    def wait_for_room(self, limit: int) -> None:
        """Block until the server has begun a call more, or a message came, or for `limit` ns."""
        if self.full:  # the socket's own buffer, which says itself when it is not
            self.full = False
            full = select.poll()
            full.register(self.channel.mailbox, select.POLLOUT)
            full.poll(None if limit < 0 else limit / 1e6)
            return
        self.room = False
        if not self.asked:
            self.asked = self.send(STARVING, WHOLE_WIRE, b"")
        end = CLOCK.now_ns() + limit
        while not self.room and not self.kept and self.closed is None:
            left = end - CLOCK.now_ns()
            if limit >= 0 and left <= 0:
                break
            self.read(left if limit >= 0 else -1)

    def close(self, why: str = "closed") -> None:
        if self.closed is None:
            self.closed = why
            self.channel.close()
            if self.lane is not None:
                self.lane.close()
