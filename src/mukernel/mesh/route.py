"""Route: the way from the proxies in one process to one plug-in, wherever that runs now."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol
from weakref import WeakSet

from ..contract import (
    DeadlineExceeded,
    Interface,
    Method,
    MethodCodec,
    Model,
    MukernelError,
    NotFound,
    PermissionDenied,
    Unavailable,
)  # fmt: skip
from ..transports.blocking import BlockingCaller
from ..transports.calling import Caller, IncomingStream
from ..transports.eager import start_task
from ..transports.remote import RemoteMethod
from ..transports.waiting_thread import GivenToLoop, ends_of_caller, is_here, outcome_of, refuse_own_loop, result_of
from .local import LocalTarget, async_methods, blocking_methods, ends_at_once, redirect
from .proxy import blocking_method, proxy_class, remote_method

Call = tuple[str, tuple[Any, ...], dict[str, Any]]  # the name of a method, and its arguments
A_MOMENT = 0.01  # seconds in which a loop that turns connects a thread; else both ways are looked at in turn
MOST_IDLE = 8  # blocking callers that a route keeps for the streams to come


class Surroundings(Protocol):
    """What a route needs of the process that it is in."""

    loop: asyncio.AbstractEventLoop

    def now_ns(self) -> int: ...
    def connect_thread(self, route: Route, turn: int) -> BlockingCaller: ...
    def begin_connecting(self, route: Route, turn: int) -> GivenToLoop:
        """Have the loop make a BlockingCaller for the present thread."""

    async def revive(self, route: Route) -> None:
        """Connect a dormant route again."""

    def revive_now(self, route: Route) -> None: ...


class ThreadCallers(threading.local):
    """For each thread its own caller, `caller`, or `asked`: what is to become that; for all of them, `idle`: those that
    are nobody's now, as they were made for threads to come, or for streams that have ended, and `spare`: one that is
    lent for a call at a time."""

    caller: BlockingCaller

    def __init__(self, idle: list[BlockingCaller], spare: SimpleQueue[BlockingCaller]) -> None:
        self.idle, self.spare = idle, spare
        self.asked: GivenToLoop | None = None

    def add(self, ahead: Sequence[BlockingCaller], spare: bool) -> None:
        """For threads to come; the last is to be the spare one, if they have none."""
        if spare and ahead:
            *ahead, last = ahead
            self.spare.put(last)
        self.idle += ahead


class Route:
    """The way to one interface of one plug-in. Owned by the event loop; blocking proxies may be used from any thread.

    It is in one of four states, and each change rebinds every proxy: *local* (`target` is the instance, in this
    process), *remote* (`caller` sends messages), *gated* (calls wait for `gate`), *closed* (`reason` says why calls
    fail).
    """

    def __init__(self, plugin: str, interface: type[Interface], surroundings: Surroundings) -> None:
        self.plugin, self.interface, self.surroundings = plugin, interface, surroundings
        self.asked = plugin  # whom the calls are for; `plugin` is whom they go to: a broker, where there is one
        self.acknowledged = False  # whom they go to keeps them: each receipt is answered, and it may be sent again
        self.loop, self.now_ns = surroundings.loop, surroundings.now_ns
        self.contract = interface.__contract__
        has_streams = any(method.item is not None for method in self.contract.methods.values())
        self.callers_each = 2 if has_streams else 1  # of a thread: its own, and that of a stream which it reads
        self.proxies: WeakSet[Any] = WeakSet()
        self.callers: list[Caller] = []
        self.caller: Caller | Balance | None = None
        self.target: LocalTarget | None = None
        self.last_plugin: Any = None  # the instance that was here before
        self.gate: asyncio.Future[None] | None = None
        self.held = 0  # calls that had waited at the last gate when it was opened
        self.waiting: list[tuple[asyncio.Future[asyncio.Task[Any]], Context, Call]] = []  # at the gate, in turn
        self.reason: str | None = None
        # Closed since nobody seems to use it, or for want of room: who calls by it finds it connected again.
        self.dormant = False
        self.denied = False  # closed, since its process may not call it
        self.wait_for_room = False
        self.token = ""  # what was passed on to this process, and opens it
        self.blocks_here = False  # the loop's own thread makes blocking calls by it
        self.keeps_spare = False  # a caller for threads that the loop, which stands still, can't connect
        self.thread = no_callers()
        self.turns = itertools.count()  # which replica is the next one's to begin with
        self.bound: dict[str, Callable[..., Any]] = {}
        self.ajar: dict[str, Callable[..., Any]] = {}  # methods of the last instance here that are still called
        self.bound_blocking: dict[str, Callable[..., Any]] = {}
        self.make_sending(self.contract.methods)

    def make_sending(self, methods: Mapping[str, Method]) -> None:
        """The methods of proxies while the plug-in is elsewhere."""
        remotes = self.remotes = {name: RemoteMethod(method, MethodCodec(method)) for name, method in methods.items()}
        self.sending = {
            name: (blocking_method if method.blocking else remote_method)(self, method, remotes[name])
            for name, method in methods.items()
        }
        self.sending_blocking = {name: blocking_method(self, method, remotes[name]) for name, method in methods.items()}

    def acknowledge(self, acknowledged: bool) -> None:
        """Whether each call, a one-way one too, returns when it is kept, and may be sent twice for that."""
        if acknowledged is not self.acknowledged:
            self.acknowledged, methods = acknowledged, self.contract.methods
            self.make_sending({n: acknowledged_method(m) for n, m in methods.items()} if acknowledged else methods)

    def where(self) -> str:
        """The present state in a word or two, for people."""
        if self.reason is not None:
            return f"closed: {self.reason}"
        if self.target is not None:
            return "inline"
        if self.caller is None:
            return "being replaced"
        return "brokered" if self.acknowledged else "remote"

    # -- proxies ----------------------------------------------------------------------------------------------

    def proxy(self, blocking: bool = False, threads: bool = False) -> Any:
        """A new proxy, bound to where the plug-in is now. `blocking`: every method blocks, in any thread. `threads`:
        methods that are declared `def` may be called in other threads than the loop's own."""
        made: Any = object.__new__(proxy_class(self.interface))
        made._mukernel_route, made._mukernel_blocking, made._mukernel_threads = self, blocking, threads
        self.proxies.add(made)
        self.bind(made)
        return made

    def bind(self, proxy: Any) -> None:
        for name, function in (self.bound_blocking if proxy._mukernel_blocking else self.bound).items():
            anywhere = proxy._mukernel_threads and self.contract.methods[name].blocking
            setattr(proxy, name, self.bound_blocking[name] if anywhere else function)

    def rebind(self, bound: dict[str, Callable[..., Any]], blocking: dict[str, Callable[..., Any]]) -> None:
        self.bound, self.bound_blocking = bound, blocking
        for proxy in list(self.proxies):
            self.bind(proxy)

    # -- states -----------------------------------------------------------------------------------------------

    def use_local(self, target: LocalTarget) -> None:
        """The plug-in is in this process now."""
        self.retire_target()
        self.target, self.caller, self.reason = target, None, None
        self.bound = async_methods(self, target)  # before the others, which are made of these
        self.rebind(self.bound, blocking_methods(self, target))
        self.open_gate()

    def use_remote(self, callers: Sequence[Caller], ahead: Sequence[BlockingCaller] = ()) -> None:
        """The plug-in is elsewhere now; one caller for each replica, and those for threads that are known to come."""
        self.retire_target()
        self.callers = list(callers)
        self.caller = self.callers[0] if len(self.callers) == 1 else Balance(self.callers, next(self.turns))
        self.reason = None
        thread = no_callers()
        thread.add(ahead, self.keeps_spare)
        self.thread = thread  # others look for a caller in it from here on
        self.rebind(self.sending, self.sending_blocking)
        self.open_gate()

    def close_gate(self) -> None:
        """Let new calls wait: the plug-in is being replaced.

        `def` methods of an instance here are called until `shut`: on the loop's own thread they can't wait, and have
        ended by the time that anybody else may act.
        """
        if self.gate is None:
            self.gate, self.held = self.loop.create_future(), 0
        if self.target is not None:
            at_once = [method.name for method in self.contract.methods.values() if ends_at_once(method)]
            ajar = {name: self.bound.pop(name) for name in at_once}
            self.retire_target()
            self.ajar = ajar
        self.caller = None
        self.rebind(self.sending | self.ajar, self.sending_blocking)

    def shut(self) -> None:
        """The instance that was here is drained, and gives up its state: nothing of it is called any more."""
        if self.ajar:
            self.retire_target()
            self.rebind(self.sending, self.sending_blocking)

    def open_gate(self) -> None:
        """Begin the calls that wait, here and now: if their callers only woke, calls that are made meanwhile would
        overtake them."""
        if self.gate is not None:
            gate, self.gate = self.gate, None
            gate.set_result(None)
            waiting, self.waiting = self.waiting, []
            for turn, context, call in waiting:
                if not turn.done():  # else its caller was cancelled
                    self.held += 1
                    turn.set_result(context.run(start_task, self.loop, self.elsewhere(*call)))

    def close(self, reason: str, denied: bool = False) -> None:
        """No call can succeed any more. `denied`: since none may be made from here."""
        self.retire_target()
        self.caller, self.reason, self.denied = None, reason, denied
        self.thread = no_callers()
        self.rebind(self.sending, self.sending_blocking)
        self.open_gate()

    def retire_target(self) -> None:
        """Methods of the instance that callers may have kept lead back to this route from now on."""
        for name, function in self.ajar.items():
            redirect(self, name, function)
        self.ajar = {}
        if self.target is not None:
            self.last_plugin, self.target = self.target.plugin, None
            for name, function in self.bound.items():
                redirect(self, name, function)

    def check_open(self) -> None:
        """Raises what a call meets that finds the route closed: Unavailable or PermissionDenied."""
        if self.reason is not None:
            error: type[MukernelError] = PermissionDenied if self.denied else Unavailable
            raise error(f"{self.contract.name}: {self.reason}")

    # -- calls that found no caller ---------------------------------------------------------------------------

    async def ready(self) -> dict[str, Callable[..., Any]]:
        """The methods, once the plug-in is where it will be. Raises Unavailable when it is gone."""
        while (gate := self.gate) is not None:
            self.held += 1
            try:
                await asyncio.shield(gate)
            finally:
                if self.gate is gate:  # it was cancelled
                    self.held -= 1
        try:
            if self.dormant:
                await self.surroundings.revive(self)
            self.check_open()
            if self.caller is None and self.target is None:
                raise NotFound(f"{self.contract.name}: no plug-in serves it")
        except MukernelError:
            await asyncio.sleep(0)
            raise
        return self.bound

    async def elsewhere(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.gate is None:
            return await (await self.ready())[name](*args, **kwargs)
        turn: asyncio.Future[asyncio.Task[Any]] = self.loop.create_future()
        self.waiting.append((turn, copy_context(), (name, args, kwargs)))
        try:
            begun = await turn
        except BaseException:  # such as a cancellation, perhaps in the very turn in which it was begun
            if not turn.cancel() and not turn.cancelled():
                turn.result().cancel()
            raise
        return await begun

    async def elsewhere_stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        items: AsyncIterator[Any] = (await self.ready())[name](*args, **kwargs)
        return items

    def elsewhere_blocking(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A blocking call while there is no caller: wait for the route in this thread."""
        loop = self.loop
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is loop:
            if self.gate is not None:
                raise Unavailable(
                    f"{self.contract.name}.{name}: the plug-in is being replaced, and a blocking call on the event "
                    "loop's own thread can't wait for that; it was not run"
                )
            if self.dormant:
                self.surroundings.revive_now(self)
            self.check_open()
        else:
            # It is `dormant` before it is closed, and until it was opened: looked at on both sides of the reason, it
            # is seen whichever of the two goes on just now.
            if not self.dormant and self.reason is not None and not self.dormant:
                self.check_open()
            result_of(loop, self.ready(), self.now_ns)
        return (self.bound_blocking if here is not loop else self.bound)[name](*args, **kwargs)

    def caller_of_thread(self) -> BlockingCaller:
        """The caller of the loop's own thread, made at its first blocking call, or before it."""
        thread = self.thread
        caller: BlockingCaller | None = getattr(thread, "caller", None)
        if caller is None:
            caller = thread.caller = self.idle_caller(thread.idle)
        return caller

    @contextmanager
    def with_caller(self) -> Iterator[None]:
        """Within it this thread has a caller: from then on its own, made at its first blocking call, or before it.

        It is the loop that makes one. A plug-in's method, or a program, may hold up the loop until threads of a library
        have called: then they share the spare one, which each has for one call.
        """
        thread = self.thread  # the loop may put another in its place at any moment: what was made for one stays in it
        if is_here(self.loop):
            self.caller_of_thread()
        else:
            thread.caller = taken_from(thread.idle) or self.made_or_spare(thread)
        caller, lent = thread.caller, thread.asked is not None
        try:
            yield
        finally:
            if lent:
                vars(thread).pop("caller", None)
                if caller.reusable:
                    thread.spare.put(caller)

    def made_or_spare(self, thread: ThreadCallers) -> BlockingCaller:
        """What comes first: the caller that the loop makes for this thread, or the spare one, which it is while the
        thread still has `asked`."""
        asked = thread.asked
        if asked is None:
            refuse_own_loop(self.loop)
            asked = thread.asked = self.surroundings.begin_connecting(self, next(self.turns))
        ends = ends_of_caller(self.now_ns)
        while (task := asked.ended(A_MOMENT)) is None:
            if ends and self.now_ns() >= ends:
                raise DeadlineExceeded("no reply before the deadline")
            with suppress(Empty):
                return thread.spare.get(timeout=A_MOMENT)
        thread.asked = None
        try:
            made: BlockingCaller = outcome_of(task)
            return made
        finally:
            del task, asked  # as in there

    def idle_caller(self, idle: list[BlockingCaller]) -> BlockingCaller:
        """One that nobody else has."""
        return taken_from(idle) or self.surroundings.connect_thread(self, next(self.turns))

    def stream_to_thread(self, method: RemoteMethod, body: bytes, inputs: Iterable[Any] | None) -> Iterator[Any]:
        """A stream by a caller that is its own until it ends: one thread may begin it, another read it, and any at all
        let go of it, whatever calls they make meanwhile."""
        with self.lent_caller() as caller:
            yield from caller.stream(method, body, inputs, self.wait_for_room)

    @contextmanager
    def lent_caller(self) -> Iterator[BlockingCaller]:
        """A caller that nobody else has meanwhile."""
        idle = self.thread.idle
        most = max(MOST_IDLE, len(idle))
        caller = self.idle_caller(idle)
        try:
            yield caller
        finally:
            if caller.reusable and len(idle) < most:
                idle.append(caller)

    def forget_broken(self) -> None:
        """The present thread's caller may be of no use any more: then its next call connects anew."""
        caller = vars(self.thread).get("caller")
        if caller is not None and caller.wire.closed is not None:
            del self.thread.caller


def no_callers() -> ThreadCallers:
    return ThreadCallers([], SimpleQueue())


def taken_from(idle: list[BlockingCaller]) -> BlockingCaller | None:
    """One that can be used. Called from any thread."""
    while True:
        try:
            caller = idle.pop()
        except IndexError:
            return None
        if caller.reusable:
            return caller


def acknowledged_method(method: Method) -> Method:
    """A method as it is called where its calls are kept, at least once."""
    return replace(method, model=Model.CALL if method.model is Model.ONEWAY else method.model, idempotent=True)


class Balance:
    """Several replicas: each call goes to the one with the fewest under way, and of equals to the next one after
    `turn`."""

    def __init__(self, callers: Sequence[Caller], turn: int) -> None:
        self.callers, self.turn = list(callers), turn

    def least_busy(self) -> Caller:
        if not self.callers:
            raise Unavailable("no replica is running")
        self.turn = (self.turn + 1) % len(self.callers)
        order = self.callers[self.turn :] + self.callers[: self.turn]
        return min(order, key=lambda caller: caller.busy)

    async def call(self, method: RemoteMethod, body: bytes, wait_for_room: bool = False) -> bytes:
        return await self.least_busy().call(method, body, wait_for_room)

    async def oneway(self, method: RemoteMethod, body: bytes, wait: bool = False) -> None:
        await self.least_busy().oneway(method, body, wait)

    def stream(self, method: RemoteMethod, body: bytes, inputs: Any = None, wait: bool = False) -> IncomingStream:
        return self.least_busy().stream(method, body, inputs, wait)
