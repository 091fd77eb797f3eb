"""The server's side of the protocol: takes calls from any number of wires and runs them, most urgent first.

An `async def` method interleaves with others, up to `concurrency`; a `def` method runs by itself on the loop's
thread, one call at a time, as in an actor; with `threads` it runs in a pool of that many, a stream step by step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, cast

from ..contract import encode_fault
from ..kernel.scheduler import Slots
from . import refusal
from .backlog import Backlog
from .burst import Burst
from .calling import STREAM_CREDIT
from .context import CallContext, current, own_of
from .contract import WHOLE_WIRE, Received, Wire
from .eager import start_task
from .inputs import InputStream
from .kind import Kind
from .leftovers import Leftovers
from .method_pool import MethodPool
from .outgoing import send_items
from .replies import Replies
from .running import Running, current_stream
from .served import ServedMethod
from .stepping import in_threads


class Server:
    """Serves one instance.

    `paused`: calls are looked at but none is started; streams under way go on. `bound`: calls that may wait here
    (beyond it they stay in their callers' mailboxes).
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now_ns: Callable[[], int], *,
        concurrency: int | None = None, threads: int = 0, bound: int = 100_000,
    ) -> None:  # fmt: skip
        self.loop, self.now_ns = loop, now_ns
        self.context = copy_context()  # what its calls begin with a copy of, beside what travels with each
        self.context.run(current.set, None)
        self.bound = bound
        self.backlog = Backlog(bound)
        self.slots = Slots(concurrency)
        self.limited = concurrency is not None
        self.pool = MethodPool(loop, threads, self.left_pool)
        self.paused = True
        self.tables: dict[Wire, Sequence[ServedMethod]] = {}  # the methods by number, for each wire
        self.running: dict[tuple[Wire, int], Running] = {}
        self.when_drained: list[Callable[[], None]] = []
        self.calls = 0  # started since it was made
        self.replies = Replies(now_ns)
        self.reply = self.replies.reply
        self.in_method = self.in_queue = False
        self.abandoned: set[Wire] = set()
        self.when_let_go: Callable[[Wire], None] = lambda wire: None
        self.burst = Burst(loop, self.run_queue, self.context)
        self.leftovers = Leftovers(loop)

    # -- wires ------------------------------------------------------------------------------------------------

    def attach(self, wire: Wire, methods: Sequence[ServedMethod]) -> None:
        """Serve the calls that come by `wire`, too; `methods` by the numbers that its caller knows."""
        self.tables[wire] = methods
        wire.receiver, wire.controller, wire.flushed = self.pump, self.control, self.check_drained
        wire.kept_loop = self.burst.lasts
        wire.on_closed = self.detached
        self.leftovers.attach(wire, partial(self.nothing_waits, wire))

    def nothing_waits(self, wire: Wire) -> bool:
        """Was every message taken that was sent by a wire? Items may be on their way as long as a channel runs."""
        if self.paused or self.backlog.of_wire[wire] or not wire.is_empty():
            return False
        accepted, taken, _, _ = wire.ledger()
        channels = (call for call in self.running.values() if call.inputs is not None)
        return accepted == taken and not any(call.wire is wire for call in channels)

    def detached(self, wire: Wire, why: str) -> None:
        """A wire is closed: nobody waits for its calls any more."""
        self.tables.pop(wire, None)
        self.leftovers.detach(wire)
        self.check_drained()
        self.cancel_calls(wire)
        if wire in self.abandoned:
            self.abandoned.remove(wire)
            self.when_let_go(wire)

    def cancel_calls(self, wire: Wire) -> None:
        for key, call in list(self.running.items()):
            if key[0] is wire and call.message.kind != Kind.ONEWAY:  # nobody waits for those anyway
                self.cancel(call)

    def abandon(self, wire: Wire) -> None:
        """The caller is gone. What it has sent without waiting for a reply was accepted, and is run; nothing else is.
        When nothing is left the wire is closed."""
        wire.abandon()
        self.cancel_calls(wire)
        if not self.paused:  # else `resume` sees to it, or a successor
            self.abandoned.add(wire)
            self.pump(wire)

    def let_go(self) -> None:
        """Close what nobody calls by any more, and all has been run of."""
        for wire in list(self.abandoned):
            if not self.backlog.of_wire[wire] and wire.is_empty():
                wire.close("the caller is gone")

    # -- taking -----------------------------------------------------------------------------------------------

    def pump(self, wire: Wire) -> None:
        """Look at every message that has arrived by `wire`; start what may start."""
        backlog, peek = self.backlog, wire.peek
        message, began = None, 0
        plain = wire.right_to_send is not None and not (wire.cancels() or wire.abandoned)
        short = plain and not (self.paused or self.limited or self.in_method or backlog.waiting)
        if short and not self.burst.heavy:
            if self.burst.over:  # the poller comes back
                return
            try:
                message = self.run_plain(wire)
            except ConnectionError as garbage:
                wire.fail(str(garbage))
            if message is None:
                return
        elif self.may_look(wire):
            message = peek()
        while message is not None:
            following, looked = None, False
            if message.kind >= 4:
                self.control(wire, message)
            elif (wire.cancels() or wire.abandoned) and self.unwanted(wire, message):
                self.replies.discard(wire, message)
            elif (method := self.method_of(wire, message)) is not None:
                busy = backlog.waiting or self.paused or self.limited or self.in_method
                free = not (busy or wire.saturated or self.burst.over)
                if free and method.runs_here and wire.look_ahead:  # by itself, at once, if nothing else waits
                    following, looked = peek(), True
                    free = following is None
                if free and not method.in_pool:
                    began = began or self.now_ns()
                    self.start(wire, message, method)
                    self.burst.lasts(self.now_ns() - began)
                else:
                    self.enqueue(wire, message, method)
            if not looked and self.may_look(wire):
                following = peek()
            message = following
        wire.overtaken.clear()  # what they were for has been looked at, or had ended before
        if backlog.waiting and not self.paused:
            self.run_queue()
        elif not self.burst.over:
            self.burst.heavy = False
        if self.abandoned:
            self.let_go()

    def run_plain(self, wire: Any) -> Any:
        """The short way, for a ring: calls without deadline, priority or trace, while there is no limit and no queue.

        Returns the first message that is not of that kind, or that is too much for this burst; None when there is no
        more, and also when it is the loop's turn: callers that send as fast as they are answered must not keep us from
        the kernel. The poller comes back.
        """
        peek, more, methods = wire.next_message, wire.more, self.tables[wire]
        message, count, began = peek(), 0, 0
        while message is not None and message.plain:
            try:
                method = methods[message.method]
            except IndexError:
                break
            if method.runs_here:
                if more():  # something else waits: let the queue decide
                    break
                self.run_here(wire, message, method, None)
            elif method.simple:
                task = start_task(self.loop, self.run_simple(wire, message, method), self.context.copy())
                if not task.done():
                    call = self.running[wire, message.call] = Running(wire, message, method)
                    call.task = task
            else:
                break
            if self.paused:
                return None
            message = peek()
            count += 1
            if message is not None and (count < 3 or not count & 3):
                now = self.now_ns()
                began = began or now
                if not self.burst.lasts(now - began, count) or wire.cancels():
                    break
        return message

    async def run_simple(self, wire: Wire, message: Received, method: ServedMethod) -> None:
        """An `async def` method for a plain call; most end in their first step."""
        kind = 8
        try:
            body = message.take()
        except (ConnectionError, MemoryError) as error:
            self.replies.not_taken(wire, message, method, error)
            return
        self.calls += 1
        try:
            arguments = method.decode_unchecked(body)
        except Exception as error:
            kind, reply = 9, refusal.unreadable(method, error, body)
        else:
            try:
                result = await method.function(*arguments)
                try:
                    reply = method.encode_unchecked(result)
                except Exception as error:
                    raise method.codec.encode_error(result, error) from None
            except BaseException as error:
                kind, reply = 9, encode_fault(error, method.raises)
        call = self.running.pop((wire, message.call), None) if self.running else None
        if wire.closed is None:
            self.reply(wire, message, kind, reply, call is not None and call.cancelled)
        if self.when_drained:
            self.check_drained()
        if self.backlog.waiting and not self.paused:
            self.run_next()

    def may_look(self, wire: Wire) -> bool:
        """A wire that can't look ahead gives up what it shows: look only when that can be started."""
        busy = self.paused or self.backlog.waiting or self.slots.full or self.in_method or self.burst.over
        return wire.look_ahead or not busy

    def enqueue(self, wire: Wire, message: Received, method: ServedMethod) -> None:
        try:
            pushed = self.backlog.push(wire, message, method)
        except ValueError:  # two calls of one number: no caller of ours does that
            wire.fail(f"call number {message.call} came twice")
            return
        if not pushed:
            self.replies.refuse(wire, message, Kind.GONE, b"more calls wait here than the plug-in may hold")

    def method_of(self, wire: Wire, message: Received) -> ServedMethod | None:
        try:
            return self.tables[wire][message.method]
        except IndexError:
            self.replies.refuse(wire, message, Kind.ERROR, refusal.unknown_method(message.method))
            return None

    def run_next(self) -> None:
        """As `run_queue`, for a call that has ended: the next one gets nothing of its context."""
        self.context.copy().run(self.run_queue)

    def run_queue(self) -> None:
        """Start what waits, most urgent first, as far as limits allow."""
        if self.in_method or self.paused or self.in_queue or self.burst.over:
            return
        self.in_queue = True  # a call that ends in its first step asks for the next one: this loop sees to it
        try:
            self.start_waiting()
        finally:
            self.in_queue = False
        if self.abandoned:
            self.let_go()

    def start_waiting(self) -> None:
        backlog = self.backlog
        began = self.now_ns()
        while not self.paused and (found := backlog.first()) is not None:
            if self.slots.full:
                for call in cast(list[Running], self.slots.inherit(backlog.highest())):
                    assert call.context is not None  # where there are limits each call has one
                    call.context.priority = self.slots.effective(call)
                return
            wire, message, method = found
            if wire.closed is not None:
                backlog.pop()
                continue
            if wire.abandoned and self.unwanted(wire, message):
                backlog.pop()
                self.replies.discard(wire, message)
                continue
            if method.in_pool and self.pool.full:
                return
            backlog.pop()
            self.start(wire, message, method)
            if backlog.waiting and not self.burst.lasts(self.now_ns() - began):
                return

    def control(self, wire: Wire, message: Received) -> None:
        kind = message.kind
        call = self.running.get((wire, message.call))
        waiting = self.backlog.remove(wire, message.call) if kind == Kind.CANCEL and call is None else None
        if waiting is not None:  # first, and then what says so: should we die in between, a successor will see it
            self.replies.discard(wire, waiting)
        body = self.replies.taken(wire, message)
        if body is None:  # none but an item is so large
            if call is not None:
                wire.post(Kind.ERROR, message.call, refusal.item_too_large(call.method))
                self.cancel(call)
            return
        if kind == Kind.CANCEL:
            if call is not None:
                self.cancel(call)
            elif waiting is None and wire.more():  # it may lie behind what was not looked at yet
                wire.overtaken.add(message.call)
        elif kind == Kind.GONE and message.call == WHOLE_WIRE:
            wire.close(body.decode(errors="replace"))
        elif call is not None:
            if kind == Kind.CREDIT:
                call.credit += message.credit
                call.has_more_credit()
            elif call.inputs is not None and not call.inputs.received(kind, body):
                call.wire.fail(f"{call.method.name}: more items came than there was credit for: {STREAM_CREDIT}")

    def cancel(self, call: Running) -> None:
        call.cancelled = True
        if call.task is not None:
            call.task.cancel()

    # -- running ----------------------------------------------------------------------------------------------

    def start(self, wire: Wire, message: Received, method: ServedMethod) -> None:
        """Start any call, whatever travels with it."""
        context = None
        if message.deadline or message.priority or message.trace_high or message.trace_low:
            trace = (message.trace_high, message.trace_low, message.span)
            context = CallContext(message.deadline, message.priority, trace if any(trace) else None)
            if message.deadline and self.now_ns() > message.deadline:
                self.replies.refuse(wire, message, Kind.ERROR, refusal.too_late(method))
                return
        if method.runs_here:
            self.run_here(wire, message, method, context)
            return
        try:
            body = message.take()
        except (ConnectionError, MemoryError) as error:
            self.replies.not_taken(wire, message, method, error)
            return
        self.calls += 1
        try:
            arguments = method.decode_unchecked(body)
        except Exception as error:
            self.reply(wire, message, Kind.ERROR, refusal.unreadable(method, error, body), refused=True)
            return
        call = Running(wire, message, method)
        if self.limited:  # what a waiter lends it is written into its context
            context = context or CallContext()
            self.slots.enter(call, message.priority)
        call.context = context
        self.running[wire, message.call] = call
        if method.in_pool:
            self.pool.take_place()
        if context is not None and context.deadline:
            left = (context.deadline - self.now_ns()) / 1e9
            call.timer = self.loop.call_later(left, self.cancel, call)
        if method.is_channel:
            call.inputs = InputStream(call.give_credit, self.loop, method.decode_input)
            call.give_credit(STREAM_CREDIT)  # its caller waits for this
        work = self.run_stream(call, arguments) if method.streams else self.run(call, arguments)
        call.task = start_task(self.loop, work, self.context.copy())
        if call.cancelled:
            call.task.cancel()

    def run_here(self, wire: Wire, message: Received, method: ServedMethod, context: CallContext | None) -> None:
        """A `def` method: on this thread, by itself."""
        kind = 8
        try:
            body = message.take()
        except (ConnectionError, MemoryError) as error:
            self.replies.not_taken(wire, message, method, error)
            return
        self.calls += 1
        try:
            arguments = method.decode_unchecked(body)
        except Exception as error:
            kind, reply = 9, refusal.unreadable(method, error, body)
        else:
            self.in_method = True
            try:
                result = own_of(self.context, context).run(method.function, *arguments)
                try:
                    reply = method.encode_unchecked(result)
                except Exception as error:
                    raise method.codec.encode_error(result, error) from None
            except BaseException as error:
                kind, reply = 9, encode_fault(error, method.raises)
                if isinstance(error, SystemExit | KeyboardInterrupt):
                    raise
            finally:
                self.in_method = False
                if context is not None:
                    context.over()
        self.reply(wire, message, kind, reply)
        if self.when_drained:
            self.check_drained()

    async def run(self, call: Running, arguments: Sequence[Any]) -> None:
        method = call.method
        try:
            if call.context is not None:
                current.set(call.context)
            if method.in_pool:
                result = await self.pool.run(method.function, arguments)
            else:
                result = await method.function(*arguments)
            reply, kind = method.encode(result), 8
        except BaseException as error:
            reply, kind = call.fault(error), 9
        self.done(call, kind, reply)

    def left_pool(self) -> None:
        self.run_next()
        self.check_drained()

    async def run_stream(self, call: Running, arguments: Sequence[Any]) -> None:
        method = call.method
        try:
            if call.context is not None:
                current.set(call.context)
            current_stream.set(call)
            begin = partial(method.codec.binding.call, method.function, arguments, call.inputs)
            items = in_threads(self.pool, begin) if method.in_steps else begin()
            await send_items(call, items, self.loop, self.now_ns)
            reply, kind = b"", int(Kind.END)
        except BaseException as error:
            reply, kind = call.fault(error), 9
        self.done(call, kind, reply)

    def done(self, call: Running, kind: int, reply: bytes) -> None:
        if call.timer is not None:
            call.timer.cancel()
        if call.context is not None:
            call.context.over()
        self.running.pop((call.wire, call.message.call), None)
        call.inputs = None  # the two hold each other, and what was not read may lie in shared memory
        if self.limited:
            self.slots.leave(call)
        if call.wire.closed is None:
            self.reply(call.wire, call.message, kind, reply, refused=call.cancelled)
        if self.backlog.waiting and not self.paused:
            self.run_next()
        elif not self.paused and self.limited:
            self.context.copy().run(self.look_again)
        if self.when_drained:
            self.check_drained()

    def look_again(self) -> None:
        """A place is free: wires that can't look ahead may have kept something back."""
        for wire in list(self.tables):
            if not wire.look_ahead:
                self.pump(wire)

    def unwanted(self, wire: Wire, message: Received) -> bool:
        """Does nobody wait for a call any more? It was cancelled, or its caller is gone and waits for no reply."""
        return message.call in wire.overtaken or (wire.abandoned and message.kind != Kind.ONEWAY)

    # -- pausing ----------------------------------------------------------------------------------------------

    def pause(self, when_drained: Callable[[], None]) -> None:
        """Start nothing more; call back when what was started has ended. What waits stays in the mailboxes."""
        self.paused = True
        self.when_drained.append(when_drained)
        self.check_drained()

    def check_drained(self) -> None:
        busy = self.running or self.in_method or self.pool.busy or any(wire.outbox for wire in self.tables)
        if self.paused and not busy:
            callbacks, self.when_drained = self.when_drained, []
            for callback in callbacks:
                callback()

    def forget_waiting(self) -> None:
        """What was looked at and not started is left to a successor; it lies in the mailboxes still."""
        self.backlog = Backlog(self.bound)
        self.abandoned.clear()

    def resume(self) -> None:
        """Start what waits, and what comes."""
        self.paused = False
        self.abandoned = {wire for wire in self.tables if wire.abandoned}
        self.when_drained.clear()
        context = self.context.copy()  # and not that of who resumes
        self.loop.call_soon(self.run_queue, context=context)  # soon: whoever resumes has something to tell first
        for wire in list(self.tables):
            if not wire.look_ahead:
                self.loop.call_soon(self.pump, wire, context=context)

    def cut_off(self, reason: str) -> None:
        """Cancel what still runs; its callers get Unavailable with `reason`."""
        self.replies.stopped = reason.encode()
        for call in list(self.running.values()):
            self.cancel(call)

    def close(self) -> None:
        """Stop for good: cancel what still runs."""
        self.abandoned.clear()
        for call in list(self.running.values()):
            self.cancel(call)
        self.pool.close()
