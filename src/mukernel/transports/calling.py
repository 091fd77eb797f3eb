"""The caller's side of the protocol, over any wire. I/O and time reach it through the wire and the loop alone."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from threading import get_ident
from typing import Any, NamedTuple

from ..contract import (
    ContractError,
    DeadlineExceeded,
    Overloaded,
    PluginCrashed,
)
from ..contract.lending import received
from .back_pressure import attempt, encoded
from .burst import BURST_NS
from .context import CallContext, current
from .contract import WHOLE_WIRE, Received, Wire
from .kind import Kind
from .lane import let_go_of_lost, loaded, loan
from .no_reply import RERUNS, ending, mailbox_closed, no_reply
from .remote import RemoteMethod
from .turn import Turn

STREAM_CREDIT = 64  # items a stream may send before its reader has consumed half of them
NEVER_MADE = "an answer came to a call that was never made"


class Pending(NamedTuple):
    """A call that waits for its reply, with what is needed to send it again."""

    future: asyncio.Future[bytes]
    method: RemoteMethod
    body: bytes
    context: CallContext | None
    reruns: int


class Caller:
    """Makes calls over one wire. Owned by one event loop.

    `wait_for_room`: when the mailbox is full, wait (up to the deadline, if there is one) instead of `Overloaded`.
    Counts, for the ledger: `accepted` = `replied` + `refused` + len(pending).
    """

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop, now_ns: Callable[[], int]) -> None:
        self.wire, self.loop, self.now_ns, self.thread = wire, loop, now_ns, get_ident()
        self.pending: dict[int, Pending] = {}
        self.streams: dict[int, IncomingStream] = {}
        self.last: tuple[int, bytes] | None = None  # what came when the mailbox was closed
        self.numbers = itertools.count(1)
        self.new_future = loop.create_future
        self.refused = self.lost_interest = 0
        self.when_idle: list[Callable[[], None]] = []
        self.when_broken: Callable[[], None] = lambda: None  # the wire closed
        wire.receiver, wire.flushed = self.drain, self.check_idle
        wire.on_closed = self.closed

    @property
    def busy(self) -> int:
        """Calls and streams under way, or on their way."""
        return len(self.pending) + len(self.streams) + len(self.wire.when_room) + self.wire.holds_calls()

    async def call(self, method: RemoteMethod, body: bytes, wait_for_room: bool = False) -> bytes:
        """Send a call; return the encoded reply. Raises what the call raised, or a MukernelError."""
        if get_ident() != self.thread:  # costs less than to ask for the loop
            self.check_own_loop(method)
        context = current.get()
        if context is not None or type(body) is not bytes:
            return await self.call_within(context or CallContext(), method, body, wait_for_room)
        number = next(self.numbers)
        future = self.new_future()
        try:
            wire = self.wire
            sent = not (wire.outbox or wire.when_room) and wire.send(0, number, body, method.index)
        except ValueError as error:
            raise Overloaded(f"{method.name}: {error}") from None
        if not sent:
            return await self.call_within(CallContext(), method, body, wait_for_room)
        self.pending[number] = Pending(future, method, body, None, 0)
        try:
            reply: bytes = await future
            return reply
        except asyncio.CancelledError:
            self.forget(number, future)
            unheeded(future)
            raise
        except RuntimeError:  # asyncio's own, perhaps: what one loop has made can't be awaited in another
            self.check_own_loop(method)
            raise
        finally:
            del future  # has the error, whose traceback has this frame: what the call lent would wait for the collector

    def check_own_loop(self, method: RemoteMethod) -> None:
        """Raises ContractError in another event loop than that which owns the wire."""
        if asyncio.get_running_loop() is not self.loop:
            raise ContractError(
                f"{method.name}: called in another event loop than its kernel's or plug-in's; call it there, by "
                "asyncio.run_coroutine_threadsafe, or by a blocking proxy: kernel.get(INTERFACE, blocking=True)"
            ) from None

    async def call_within(self, context: CallContext, method: RemoteMethod, body: bytes, wait: bool) -> bytes:
        """As `call`, at a priority, with a deadline or a trace, or where the mailbox is full."""
        timer = None
        number = next(self.numbers)
        future = self.new_future()
        if context.deadline:
            left = (context.deadline - self.now_ns()) / 1e9
            if left <= 0:
                raise DeadlineExceeded(f"{method.name}: the deadline had passed before the call was sent")
            timer = self.loop.call_later(left, self.expire, number, future, method)
        try:
            await self.send_when_room(Kind.CALL, number, body, method, context, wait, future)
            if not future.done():
                self.pending[number] = Pending(future, method, body, context, 0)
            reply: bytes = await future
            return reply
        except asyncio.CancelledError:
            self.forget(number, future)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            unheeded(future)
            del future  # as in `call`

    async def send_when_room(
        self, kind: int, number: int, body: bytes, method: RemoteMethod, context: CallContext, wait: bool,
        abandoned: asyncio.Future[bytes] | None = None,
    ) -> None:  # fmt: skip
        """Send a call; where there is no room, be refused or `wait`, behind those who wait already."""
        wire = self.wire
        content = loan(wire.lane, body)
        fields = (
            kind, number, content, method.index, 0, context.priority, context.deadline, STREAM_CREDIT, 0, context.trace,
        )  # fmt: skip
        if wire.closed is not None:
            raise self.unreachable(method)
        if not (wire.outbox or wire.when_room) and self.sent(method, fields):
            return
        if not wait:
            raise Overloaded(f"{method.name}: the mailbox is full; try later, or choose to wait for room")
        room = Turn(self.loop)
        if abandoned is not None:
            abandoned.add_done_callback(room.end)
        wire.line_up(room)
        try:
            while True:
                await room.future
                if wire.closed is not None:
                    raise self.unreachable(method)
                if (abandoned is not None and abandoned.done()) or (not wire.outbox and self.sent(method, fields)):
                    return
                room.future = self.loop.create_future()
                wire.no_room_yet()
        finally:
            if abandoned is not None:
                abandoned.remove_done_callback(room.end)
            wire.leave_line(room)
            if self.when_idle:  # soon: what was sent is not among those that are pending yet
                self.loop.call_soon(self.check_idle)

    def sent(self, method: RemoteMethod, fields: tuple[Any, ...]) -> bool:
        try:
            return self.wire.put(*fields)
        except ValueError as error:
            raise Overloaded(f"{method.name}: {error}") from None

    async def oneway(self, method: RemoteMethod, body: bytes, wait: bool = False) -> None:
        """Send a call that has no reply. It is accepted, or Overloaded is raised."""
        self.check_own_loop(method)
        context = current.get() or CallContext()
        await self.send_when_room(Kind.ONEWAY, next(self.numbers), body, method, context, wait)

    def stream(
        self, method: RemoteMethod, body: bytes, inputs: AsyncIterator[Any] | None = None, wait: bool = False
    ) -> IncomingStream:
        """Open a stream; with `inputs`, a channel."""
        return IncomingStream(self, method, body, inputs, wait)

    def expire(self, number: int, future: asyncio.Future[bytes], method: RemoteMethod) -> None:
        if not future.done():
            self.forget(number, future)
            future.set_exception(DeadlineExceeded(f"{method.name}: no reply before the deadline"))

    def forget(self, number: int, future: asyncio.Future[bytes]) -> None:
        """Nobody waits for this call any more: tell the server."""
        if number not in self.pending:  # it has ended, or was sent again by another number
            number = next((each for each, call in self.pending.items() if call.future is future), number)
        if self.pending.pop(number, None) is not None:
            self.lost_interest += 1
            self.wire.post(Kind.CANCEL, number, b"")
            self.check_idle()

    def check_idle(self) -> None:
        if self.when_idle and not self.busy:
            callbacks, self.when_idle = self.when_idle, []
            for callback in callbacks:
                callback()

    def drain(self, wire: Wire) -> None:
        """Take every message that has arrived, or as many as there is time for: an other side that sends as fast as we
        take must not keep us from the rest of the loop."""
        pending, peek, count, ends = self.pending, wire.peek, 0, 0
        while (message := peek()) is not None:
            kind = message.kind
            try:
                body = message.take()
            except ConnectionError as broken:
                wire.fail(str(broken))
                return
            except MemoryError as error:
                self.not_received(message, error)
                continue
            if kind == 8:
                call = pending.pop(message.call, None)
                if call is None:
                    self.check_made(message.call)
                elif not call.future.done():
                    call.future.set_result(body)
            elif kind == Kind.ITEM or kind == Kind.END or kind == Kind.CREDIT:
                stream = self.streams.get(message.call)
                if stream is not None:
                    stream.received(kind, received(body), message.credit)
                else:
                    received(body)  # and let go of it
                    self.check_made(message.call)
            else:
                self.ended(message, body)
            count += 1
            if not count & 63:
                now = self.now_ns()
                ends = ends or now + BURST_NS
                if now > ends:
                    self.loop.call_soon(self.drain, wire)
                    break
        if self.when_idle:
            self.check_idle()

    def not_received(self, message: Received, error: MemoryError) -> None:
        """This process has no memory for a message: what waited for it ends, and nothing else."""
        number = message.call
        stream = self.streams.get(number)
        if stream is not None:
            stream.abandon(Overloaded(f"{stream.method.name}: an item could not be received: {error}"))
        call = self.pending.pop(number, None)
        if call is not None and not call.future.done():
            call.future.set_exception(Overloaded(f"{call.method.name}: its reply could not be received: {error}"))

    def ended(self, message: Received, body: bytes) -> None:
        """A call has ended otherwise than by a reply."""
        number, kind = message.call, message.kind
        if number == WHOLE_WIRE and kind == Kind.GONE:
            self.wire.close(body.decode(errors="replace"))
            return
        let_go_of_lost(self.wire.lane, kind)
        if number == WHOLE_WIRE and kind in (Kind.NOT_STARTED, Kind.ERROR):
            self.mailbox_closed(kind, body)
            return
        stream = self.streams.get(number)
        if stream is not None:
            crashed = PluginCrashed(
                f"{stream.method.name}: its process died{ending(body)}; a stream that has begun is not run again"
            )
            stream.failed(crashed if kind == Kind.INTERRUPTED else no_reply(kind, body, stream.method))
            return
        call = self.pending.pop(number, None)
        if kind == Kind.LENT:
            body = received(body)
        if call is None or call.future.done():
            self.check_made(number)
            return
        if kind == Kind.LENT:
            call.future.set_result(body)
            return
        again = kind == Kind.NOT_STARTED or (
            kind == Kind.INTERRUPTED and call.method.idempotent and call.reruns < RERUNS
        )
        if again:
            context = call.context or CallContext()
            number = next(self.numbers)  # another one: of the one before, a second successor may tell again
            self.pending[number] = call._replace(reruns=call.reruns + 1)
            self.wire.post(
                Kind.CALL, number, loan(self.wire.lane, call.body), call.method.index, 0, context.priority,
                context.deadline, 0, 0, context.trace,
            )  # fmt: skip
            return
        if kind != Kind.ERROR:
            self.refused += 1
        call.future.set_exception(no_reply(kind, body, call.method))

    def check_made(self, number: int) -> None:
        """Nobody waits for what came. Was there ever such a call? Else its number was overwritten in the channel, and
        the call that it stands for would never end: the wire breaks."""
        if not 0 < number < next(self.numbers):
            self.wire.fail(NEVER_MADE)

    def mailbox_closed(self, kind: int, body: bytes) -> None:
        """Nobody will take what was not taken: it was sent too late, or again after an interruption. An ERROR is what
        each such call ends in."""
        self.last = (Kind.GONE if kind == Kind.NOT_STARTED else kind), body
        self.end_all(self.unreachable)
        self.wire.close(mailbox_closed(kind, body))

    def unreachable(self, method: RemoteMethod) -> BaseException:
        """What a call ends in that finds the wire closed, or is still under way when its mailbox is."""
        return no_reply(*(self.last or (Kind.GONE, str(self.wire.closed).encode())), method)

    def end_all(self, error: Callable[[RemoteMethod], BaseException]) -> None:
        """No reply can come any more."""
        for call in list(self.pending.values()):
            if not call.future.done():
                self.refused += 1
                call.future.set_exception(error(call.method))
        self.pending.clear()
        for stream in list(self.streams.values()):
            stream.failed(error(stream.method))

    def closed(self, wire: Wire, why: str) -> None:
        """The wire broke."""
        self.end_all(lambda method: PluginCrashed(f"{method.name}: the connection broke: {why}"))
        for wake in list(wire.when_room):
            wake()
        self.check_idle()
        when_broken, self.when_broken = self.when_broken, lambda: None  # which holds us, as it is told who broke
        when_broken()


class IncomingStream(AsyncIterator[Any]):
    """The items of one stream as its caller reads them; credit flows back as they are consumed. More items than that
    break the wire."""

    def __init__(
        self, caller: Caller, method: RemoteMethod, body: bytes, inputs: AsyncIterator[Any] | None, wait: bool
    ) -> None:
        self.caller, self.method, self.body, self.inputs, self.wait = caller, method, body, inputs, wait
        self.context = (current.get() or CallContext()).copy()
        self.number = 0
        self.items: deque[bytes] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.error: BaseException | None = None
        self.done = False
        self.consumed = 0
        self.input_credit = 0  # until the method has begun: what is sent before would be lost with a server that dies
        self.input_waiter: asyncio.Future[None] | None = None
        self.feeder: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def __aiter__(self) -> IncomingStream:
        return self

    async def open(self) -> None:
        caller = self.caller
        caller.check_own_loop(self.method)
        self.number = next(caller.numbers)
        if self.context.deadline:
            left = (self.context.deadline - caller.now_ns()) / 1e9
            late = DeadlineExceeded(f"{self.method.name}: the stream did not end before the deadline")
            if left <= 0:
                raise late
            self.timer = caller.loop.call_later(left, self.abandon, late)
        kind = Kind.CHANNEL if self.inputs is not None else Kind.STREAM
        caller.streams[self.number] = self
        try:
            await caller.send_when_room(kind, self.number, self.body, self.method, self.context, self.wait)
        except BaseException:
            self.close()
            raise
        self.body = b""  # what it lends is held by who serves it, for as long as that needs it
        if self.inputs is not None:
            self.feeder = caller.loop.create_task(self.feed(self.inputs))

    async def __anext__(self) -> Any:
        if not self.number and not self.done:
            await self.open()
        while not self.items:
            if self.error is not None:
                error, self.error = self.error, None
                try:
                    raise error
                finally:
                    del error  # as in `Caller.call`
            if self.done:
                raise StopAsyncIteration
            self.waiter = self.caller.loop.create_future()
            try:
                await self.waiter
            except asyncio.CancelledError:
                self.abandon()
                raise
        item = self.items.popleft()
        self.consumed += 1
        if self.consumed >= STREAM_CREDIT // 2 and not self.done:
            self.caller.wire.post(Kind.CREDIT, self.number, b"", 0, 0, 0, 0, self.consumed)
            self.consumed = 0
        return self.method.decode_item(item)

    def received(self, kind: int, body: bytes, credit: int) -> None:
        if kind == Kind.CREDIT:
            self.input_credit += credit
            if self.input_credit > STREAM_CREDIT:  # what an endless iterator yields would pile up here
                self.caller.wire.fail(f"{self.method.name}: more credit came than a stream has: {STREAM_CREDIT}")
            elif self.input_waiter is not None and not self.input_waiter.done():
                self.input_waiter.set_result(None)
            return
        if kind != Kind.ITEM:
            self.close()
        elif len(self.items) + self.consumed >= STREAM_CREDIT:
            self.caller.wire.fail(f"{self.method.name}: more items came than there was credit for: {STREAM_CREDIT}")
            return
        else:
            self.items.append(body)
        self.wake()

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.close()
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def abandon(self, error: BaseException | None = None) -> None:
        """Stop reading: the server is told."""
        if not self.done:
            if self.number:
                self.caller.wire.post(Kind.CANCEL, self.number, b"")
            self.error = error
            self.close()
            self.wake()

    async def aclose(self) -> None:
        self.abandon()
        self.items.clear()

    def close(self) -> None:
        self.done = True
        if self.timer is not None:
            self.timer.cancel()
        if self.feeder is not None and self.feeder is not asyncio.current_task(self.caller.loop):
            self.feeder.cancel()
        # Else it and what cut it off would keep each other, and what the iterator has in hand, for the collector.
        self.feeder = self.inputs = None
        self.caller.streams.pop(self.number, None)
        self.caller.check_idle()

    async def credit_for_input(self) -> None:
        while self.input_credit <= 0:
            self.input_waiter = self.caller.loop.create_future()
            await self.input_waiter

    async def feed(self, inputs: AsyncIterator[Any]) -> None:
        """Send what the caller's own iterator yields, on credit."""
        try:
            await self.credit_for_input()  # the method has begun
            async for value in inputs:
                await self.credit_for_input()
                self.input_credit -= 1
                encode = self.method.encode_input
                body = attempt(encode, value) or await encoded(self.caller.loop, encode, value)
                self.caller.wire.post(Kind.ITEM, self.number, loaded(self.caller.wire.lane, body, beside=True))
                del body
            self.caller.wire.post(Kind.END, self.number, b"")
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.caller.wire.post(Kind.CANCEL, self.number, b"")
            self.failed(error)
        finally:
            del inputs  # the error has this frame: what nobody else holds would be closed by the collector alone


def unheeded(future: asyncio.Future[Any]) -> None:
    """Nobody waits for a reply any more, such as one that a deadline cut off in the very turn that it came in: an error
    in it is nothing that asyncio would have to warn of."""
    if future.done() and not future.cancelled():
        future.exception()
