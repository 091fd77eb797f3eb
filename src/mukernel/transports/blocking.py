"""The caller's side for code without an event loop: one thread and one call at a time, over a ring or a socket."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

from ..contract import DeadlineExceeded, MukernelError, Overloaded, PluginCrashed, Unavailable, decode_fault
from ..contract.lending import received
from ..kernel.ipc import ring
from .back_pressure import A_MOMENT, attempt
from .calling import NEVER_MADE, STREAM_CREDIT
from .context import CallContext, current
from .contract import WHOLE_WIRE, Received, refused
from .kind import Kind
from .lane import Lane, TravelsWhole, let_go_of_lost, loan
from .no_reply import RERUNS, ending, had_no_room, mailbox_closed
from .remote import RemoteMethod

NO_CONTEXT = CallContext()
LETTING_GO = 1_000_000  # ns that a server has to say that a stream has ended; to connect anew takes longer
PATIENCE = 100_000_000  # ns after which a caller asks whether it waits for something that can't come any more
BROKEN: tuple[type[Exception], ...] = (ConnectionError,) if ring is None else (ConnectionError, ring.Garbage)


class NotTaken(Unavailable):
    """The mailbox was closed for good before the call was taken from it: it may be sent elsewhere."""


def nothing() -> None:
    """The `receive` of a wire that is broken: whatever still lies in it is not looked at."""


class BlockingWire(Protocol):
    """A wire that one thread uses at a time. `wait` blocks for at most `limit` ns (negative: for ever); False: time is
    over. `wait_for_room` ends with a message, too: perhaps there will never be room."""

    closed: str | None
    lane: Lane | None

    def send(self, *message: Any) -> bool: ...
    def receive(self) -> Received | None: ...
    def wait(self, limit: int) -> bool: ...
    def wait_for_room(self, limit: int) -> None: ...
    def close(self, why: str = "closed") -> None: ...


class OpenStream:
    """What has come of one stream and was not read yet. `consumed`: items that were read, and for which no new credit
    was given; `credit`: items of its input that may be sent."""

    def __init__(self, method: RemoteMethod) -> None:
        self.method = method
        self.waiting: deque[tuple[Received, Any]] = deque()  # with its body; None: there was no memory for that
        self.consumed = self.credit = 0
        self.begun = self.ended = False

    def received(self, message: Received, body: Any) -> str | None:
        """Keep a message. Returns why the wire has to break, where more came than there was credit for."""
        self.begun = True
        if message.kind == Kind.CREDIT:
            self.credit += message.credit
            if self.credit > STREAM_CREDIT:
                return f"{self.method.name}: more credit came than a stream has: {STREAM_CREDIT}"
        elif message.kind == Kind.ITEM and len(self.waiting) + self.consumed >= STREAM_CREDIT:
            return f"{self.method.name}: more items came than there was credit for: {STREAM_CREDIT}"
        elif not self.ended:
            self.ended = message.kind != Kind.ITEM
            self.waiting.append((message, body))
        return None


class BlockingCaller:
    """Makes calls over one wire: those of one thread, or one stream, which one thread after the other may read.

    `stalled`: asked now and then while the thread `asking` waits; raises where that can never end. `abandoned`: a
    stream was not read to its end, so more of it may come. `another`: lends a caller for a call within a call, such as
    that of a signal handler, which would take what comes for the call that it interrupts.
    """

    def __init__(self, wire: BlockingWire, now_ns: Callable[[], int]) -> None:
        self.wire, self.now_ns = wire, now_ns
        self.numbers = itertools.count(1)
        self.streams: dict[int, OpenStream] = {}
        self.calling = False  # a call is under way, and every message that comes may be its own
        self.another: Callable[[], AbstractContextManager[BlockingCaller]] | None = None
        self.send, self.wait = wire.send, wire.wait
        self.receive: Callable[[], Received | None] = wire.receive
        self.exchange: Callable[[int, bytes, int], Any] | None = getattr(wire, "exchange", None)
        self.when_broken: Callable[[], None] = lambda: None  # the wire can't be used any more
        self.waited_for: int | None = None  # a call that may have been sent, and has no outcome yet
        self.stalled: Callable[[], None] | None = None
        self.asking = 0
        self.abandoned = False

    @property
    def reusable(self) -> bool:
        """Whether it is as good as a new one."""
        return self.wire.closed is None and not self.abandoned

    def ask_now_and_then(self, asking: int, stalled: Callable[[], None]) -> None:
        self.asking, self.stalled = asking, stalled
        waiter = getattr(self.wire, "waiter", None)
        if waiter is not None:
            waiter.patience = PATIENCE

    def message_within(self, limit: int) -> bool:
        """Block until a message may be there, for at most `limit` ns (negative: for ever); False: time is over."""
        turn = limit if self.asking != threading.get_ident() else PATIENCE if limit < 0 else min(limit, PATIENCE)
        if self.wait(turn):
            return True
        self.ask()
        return not 0 <= limit <= turn

    def ask(self) -> None:
        """Raises what `stalled` raises."""
        if self.stalled is not None and self.asking == threading.get_ident():
            try:
                self.stalled()
            except MukernelError as error:
                self.give_up(error)

    def give_up(self, error: MukernelError) -> NoReturn:
        """Let go of the wire, and of the call with it."""
        self.wire.close(str(error))
        self.send, self.exchange = refused, None
        self.when_broken()
        raise error

    def call(self, method: RemoteMethod, body: bytes, wait_for_room: bool = False) -> bytes:
        """Send a call and block until its reply, which is returned encoded."""
        if self.calling:
            with self.lent(method) as caller:
                return caller.call(method, body, wait_for_room)
        self.calling = True
        try:
            number = next(self.numbers)
            context = current.get()
            if context is None and self.exchange is not None and type(body) is bytes:
                try:
                    message = self.first_answer(number, body, method)
                except BlockingIOError:
                    self.ask()
                    return self.rest_of_call(number, method, body, None)
                if message is not None:
                    if message.call == number:
                        if message.kind == 8:
                            reply: bytes | None = message.body
                            return reply if reply is not None else self.taken(message, method)
                        if message.kind == Kind.LENT:
                            return self.taken(message, method)
                        number = self.ended(message.kind, self.taken(message, method), method, body, NO_CONTEXT)
                        return self.rest_of_call(number, method, body, None, reruns=1)
                    self.keep(message)
                    return self.rest_of_call(number, method, body, None)
            self.waited_for = number
            try:
                if context is not None or type(body) is not bytes or not self.send(0, number, body, method.index):
                    self.send_when_room(0, number, body, method, context or NO_CONTEXT, wait_for_room)
            except MukernelError:
                self.waited_for = None  # it was not sent
                raise
            return self.rest_of_call(number, method, body, context)
        except BaseException:  # its deadline, or a signal handler's, such as KeyboardInterrupt: nobody waits any more
            unwanted, self.waited_for = self.waited_for, None
            if unwanted is not None and self.wire.closed is None:
                self.wire.send(Kind.CANCEL, unwanted, b"")
            raise
        finally:
            self.calling = False

    def lent(self, method: RemoteMethod) -> AbstractContextManager[BlockingCaller]:
        """A caller for a call within a call. Raises Unavailable where there can be none."""
        if self.another is None:
            raise Unavailable(
                f"{method.name}: called within another call by the same connection, as by a signal handler; connect "
                "another for that"
            )
        return self.another()

    def first_answer(self, number: int, body: bytes, method: RemoteMethod) -> Any:
        """The short way, for a ring: send, and wait for whatever comes first; None where there was no room."""
        assert self.exchange is not None
        try:
            return self.exchange(number, body, method.index)
        except ValueError as error:
            raise Overloaded(f"{method.name}: {error}") from None
        except BROKEN as error:
            self.broken(str(error))
        except BlockingIOError:  # it was sent, and `patience` has ended
            raise
        except BaseException:  # a signal handler's, such as KeyboardInterrupt
            self.waited_for = number
            raise

    def leave(self, why: str) -> None:
        """Neither send nor receive anything any more, and close nothing: it is another process's."""
        self.wire.closed = why
        self.send, self.receive, self.exchange = refused, nothing, None

    def broken(self, why: str) -> NoReturn:
        """The wire can't be used any more. Raises PluginCrashed."""
        self.wire.close(why)
        self.send, self.receive, self.exchange = refused, nothing, None
        self.when_broken()
        raise PluginCrashed(f"the connection broke: {self.wire.closed}")

    def not_taken(self, fault: bytes | None = None) -> NoReturn:
        """The wire is closed, and a call was not taken from it. Raises NotTaken. `fault`: why its first was not, which
        is raised: no other would be."""
        self.send, self.exchange = refused, None
        self.when_broken()
        if fault is not None:
            raise decode_fault(fault)
        raise NotTaken(f"the call was not run: {self.wire.closed}")

    def rest_of_call(
        self, number: int, method: RemoteMethod, body: bytes, context: CallContext | None, reruns: int = 0
    ) -> bytes:
        """Wait for the reply to a call that was sent."""
        self.waited_for = number
        try:
            while True:
                if (message := self.receive()) is None:
                    limit = -1
                    if context is not None and context.deadline:
                        limit = max(0, context.deadline - self.now_ns())
                    if not self.message_within(limit):
                        raise DeadlineExceeded(f"{method.name}: no reply before the deadline")
                    if self.wire.closed is not None:
                        self.broken(self.wire.closed)
                    continue
                if message.call != number:
                    self.keep(message)
                    continue
                self.waited_for = None
                content = self.taken(message, method)
                if message.kind == 8 or message.kind == Kind.LENT:
                    return content
                number = self.ended(message.kind, content, method, body, context or NO_CONTEXT, reruns)
                reruns, self.waited_for = reruns + 1, number
        except BROKEN as error:
            self.broken(str(error))

    def taken(self, message: Received, method: RemoteMethod) -> bytes:
        """The body of what a call ended with. Raises Overloaded where this process has no memory for it."""
        try:
            content: bytes = received(message.take())
            return content
        except MemoryError as error:
            raise Overloaded(f"{method.name}: its reply could not be received: {error}") from None

    def ended(
        self, kind: int, content: bytes, method: RemoteMethod, body: bytes, context: CallContext, reruns: int = 0
    ) -> int:  # fmt: skip
        """The call ended otherwise than by a reply: send it again, by another number (of the one before somebody may
        tell again), which is returned; or raise what that means."""
        let_go_of_lost(self.wire.lane, kind)
        if kind == Kind.NOT_STARTED or (kind == Kind.INTERRUPTED and method.idempotent and reruns < RERUNS):
            number = next(self.numbers)
            self.send_when_room(0, number, body, method, context, True)
            return number
        if kind == Kind.ERROR:
            raise decode_fault(content, method.raises)
        if kind == Kind.INTERRUPTED:
            raise PluginCrashed(f"{method.name}: its process died while it ran this call{ending(content)}")
        if kind == Kind.GONE:
            raise Unavailable(f"{method.name}: {content.decode(errors='replace')}")
        raise MukernelError(f"{method.name}: a message of unknown kind {kind} came instead of a reply")

    def keep(self, message: Received) -> None:
        """A message of another call: of an open stream, or of a call that nobody waits for any more."""
        try:
            body = received(message.take())
        except MemoryError:  # a stream says so when it comes to it; of all else nobody wants the body
            body = None
        # A call before that has its answer; one after it asks its route, which leads elsewhere, or says why nowhere.
        if message.call == WHOLE_WIRE and message.kind in (Kind.NOT_STARTED, Kind.ERROR):
            body = body or b""
            self.wire.close(mailbox_closed(message.kind, body))
            self.not_taken(body if had_no_room(message.kind, body) and next(self.numbers) == 2 else None)
        if message.call == WHOLE_WIRE and message.kind == Kind.GONE:
            self.broken((body or b"").decode(errors="replace"))
        elif (stream := self.streams.get(message.call)) is not None:
            too_much = stream.received(message, body)
            if too_much is not None:
                self.broken(too_much)
        elif not 0 < message.call < next(self.numbers):
            self.broken(NEVER_MADE)

    def heed(self) -> bool:
        """Keep one message, if any has come."""
        try:
            message = self.receive()
        except BROKEN as error:
            self.broken(str(error))
        if message is not None:
            self.keep(message)
        return message is not None

    def send_when_room(
        self, kind: int, number: int, body: bytes, method: RemoteMethod, context: CallContext, wait: bool,
        stream: OpenStream | None = None,
    ) -> None:  # fmt: skip
        """`stream`: what it is for; nothing more is sent to one that has ended."""
        body = loan(self.wire.lane, body, beside=kind == Kind.ITEM)
        while not self.attempt(
            kind, number, body, method.index, 0, context.priority, context.deadline, STREAM_CREDIT, 0, context.trace
        ):
            if self.wire.closed is not None:
                self.not_taken()
            if self.heed():
                if stream is not None and stream.ended:
                    return
                continue
            if not wait:
                raise Overloaded(f"{method.name}: the mailbox is full; try later, or choose to wait for room")
            left = context.deadline - self.now_ns() if context.deadline else -1
            if context.deadline and left <= 0:
                raise DeadlineExceeded(f"{method.name}: there was no room before the deadline")
            if self.asking != threading.get_ident():
                self.wire.wait_for_room(left)
            else:
                self.wire.wait_for_room(PATIENCE if left < 0 else min(left, PATIENCE))
                self.ask()

    def attempt(self, *message: Any) -> bool:
        try:
            return self.send(*message)
        except TravelsWhole:
            return self.attempt(*message)
        except ValueError as error:
            raise Overloaded(str(error)) from None

    def send_surely(self, stream: OpenStream, *message: Any) -> None:
        """Send what the other end has to hear of a stream: it takes that whatever else it does, so there will be room,
        or the stream ends."""
        while self.wire.closed is None and not self.send(*message) and not stream.ended:
            if not self.heed():
                self.wire.wait_for_room(PATIENCE)

    def encoded(self, method: RemoteMethod, item: Any) -> Any:
        """The body of an item of a stream's input, as soon as there is room for what it lends."""
        while (body := attempt(method.encode_input, item)) is None:
            if not self.heed():
                self.message_within(int(A_MOMENT * 1e9))
        return body

    def oneway(self, method: RemoteMethod, body: bytes, wait: bool = False) -> None:
        """Send a call that has no reply."""
        if self.calling:
            with self.lent(method) as caller:
                caller.oneway(method, body, wait)
            return
        self.calling = True
        try:
            while self.heed():  # of one that nobody takes there is no word afterwards
                pass
            self.send_when_room(Kind.ONEWAY, next(self.numbers), body, method, current.get() or NO_CONTEXT, wait)
        finally:
            self.calling = False

    def stream(
        self, method: RemoteMethod, body: bytes, inputs: Iterable[Any] | None = None, wait: bool = False
    ) -> Iterator[Any]:
        """The items of a stream, as they come. What `inputs` yields is sent as far as credit allows, between them.

        Raises NotTaken where nothing has come of it, nor ever will, but not of what was called for later. To let go of
        it sends a cancellation, and waits for nothing that the thread which does so may have to do itself.
        """
        context = (current.get() or NO_CONTEXT).copy()
        number = next(self.numbers)
        feed = iter(inputs) if inputs is not None else None
        stream = self.streams[number] = OpenStream(method)
        waiting, ended = stream.waiting, False
        try:
            try:
                self.send_when_room(
                    Kind.STREAM if feed is None else Kind.CHANNEL, number, body, method, context, wait
                )  # fmt: skip
            except MukernelError:
                ended = True  # nothing was sent
                raise
            while True:
                while feed is not None and stream.credit > 0 and not waiting:
                    try:
                        item = next(feed)
                    except StopIteration:
                        feed = None
                        self.send_when_room(Kind.END, number, b"", method, context, True, stream)
                        break
                    stream.credit -= 1
                    self.send_when_room(Kind.ITEM, number, self.encoded(method, item), method, context, True, stream)
                    if not waiting:  # else what has come may say how this ends, and what follows is of the wire
                        self.heed()
                while not waiting and (feed is None or stream.credit <= 0):
                    message = self.receive()
                    if message is not None:
                        self.keep(message)
                        continue
                    if self.wire.closed is not None:
                        self.broken(self.wire.closed)
                    limit = max(0, context.deadline - self.now_ns()) if context.deadline else -1
                    if not self.message_within(limit):
                        raise DeadlineExceeded(f"{method.name}: the stream did not end before the deadline")
                if not waiting:
                    continue
                message, content = waiting.popleft()
                if content is None:
                    content = self.taken(message, method)
                if message.kind == Kind.ITEM:
                    stream.consumed += 1
                    if stream.consumed >= STREAM_CREDIT // 2:
                        self.send_surely(stream, Kind.CREDIT, number, b"", 0, 0, 0, 0, stream.consumed)
                        stream.consumed = 0
                    yield method.decode_item(content)
                elif message.kind == Kind.END:
                    ended = True
                    return
                else:
                    ended = True
                    if message.kind == Kind.NOT_STARTED:
                        raise Unavailable(f"{method.name}: it was not started before its server left")
                    self.ended(message.kind, content, _once(method), body, context)
        except NotTaken as late:
            if stream.begun:  # what it has yielded can't be taken back
                raise Unavailable(str(late)) from None
            raise
        except BROKEN as error:
            self.broken(str(error))
        finally:
            if not ended and self.wire.closed is None:
                self.abandon(number, stream)
            del self.streams[number]
            waiting.clear()  # nobody reads them: what they lend is let go of

    def leave_streams(self) -> None:
        """Nobody reads those that are under way any more."""
        for number, stream in list(self.streams.items()):
            self.abandon(number, stream)

    def abandon(self, number: int, stream: OpenStream) -> None:
        """Cancel a stream that nobody reads any more, perhaps in a finalizer, in any thread: this can't wait for long.
        Most servers answer at once, and then this is as good as new."""
        self.abandoned = True
        if not self.send(Kind.CANCEL, number, b""):
            self.wire.close("its server takes nothing")
            return
        ends = self.now_ns() + LETTING_GO
        with contextlib.suppress(MukernelError, RuntimeError, *BROKEN):
            while not stream.ended:
                stream.waiting.clear()
                if (message := self.receive()) is not None:
                    self.keep(message)
                elif self.wire.closed is not None or not self.wait(max(0, ends - self.now_ns())):
                    return
            self.abandoned = False


def _once(method: RemoteMethod) -> RemoteMethod:
    """The same method, not to be run again: half a stream can't be taken back."""
    return RemoteMethod(method.codec.method, method.codec) if not method.idempotent else _Once(method)


class _Once(RemoteMethod):
    def __init__(self, method: RemoteMethod) -> None:
        super().__init__(method.codec.method, method.codec)
        self.idempotent = False


__all__ = ["RERUNS", "BlockingCaller", "BlockingWire", "NotTaken"]
