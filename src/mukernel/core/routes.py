"""Routes: the ways from one process to the plug-ins that are called in it, wherever those are."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from ..contract import Description, Interface, MukernelError, Overloaded, PermissionDenied, Unavailable
from ..kernel.clock import Clock as KernelClock
from ..mesh.route import Route
from ..transports.blocking import BlockingCaller, BlockingWire
from ..transports.calling import Caller
from ..transports.carriers import Carriers, ThreadEnd
from ..transports.contract import Wire
from ..transports.descriptors import enough_for
from ..transports.no_reply import had_no_room
from ..transports.waiting_thread import GivenToLoop, is_here, owned_here, result_of
from .builtin import BuiltinClock, Clock
from .directory import Directory, Grant, give_back
from .forked import refused_after_fork
from .instance import Instance

MOMENT = 0.001  # seconds
ASKED_AGAIN = 1.0, 60.0  # seconds after which what there was no room for is asked for again: at first, and at most
SETTLING = 1000  # moments without one begun, after which later calls are let by; not time: our loop may stand still


class Routes:
    """The routes of one process. Owned by one event loop; blocking calls may connect from any thread.

    `instances`: those in this very process, which need no channel; another writes them. `thread`: the loop's own.
    """

    def __init__(
        self, name: str, directory: Directory, clock: KernelClock, loop: asyncio.AbstractEventLoop,
        transport: str | None = None,
    ) -> None:  # fmt: skip
        self.name, self.directory, self.clock, self.loop = name, directory, clock, loop
        self.now_ns: Callable[[], int] = clock.now_ns
        self.thread = threading.get_ident()
        owned_here(loop)
        self.carriers = Carriers(loop, transport)
        self.instances: dict[str, Instance] = {}
        # By plug-in, interface, whether it waits for room. By the class, not its name: what comes is decoded to the
        # types of that very class, and it has those methods, whatever another version of it has.
        self.routes: dict[tuple[str, type[Interface], bool], Route] = {}
        self.of_threads: dict[int, str] = {}  # the plug-ins that the channels of threads lead to, by number
        self.background: set[asyncio.Task[None]] = set()
        self.lacking: set[Route] = set()  # those that go on by the channels that they had, for want of room for others
        self.asking_again: asyncio.Task[None] | None = None
        self.reviving = asyncio.Lock()
        self.thread_callers: weakref.WeakSet[BlockingCaller] = weakref.WeakSet()
        self.lost: str | None = None  # this process was forked, and these are its parent's
        self.parents: list[Any] = []  # what they held: let go of here, it would be closed
        refused_after_fork(self)

    def leave_to_parent(self, reason: str) -> None:
        self.lost = reason
        blocking = list(self.thread_callers)  # streams that are under way have some, too
        self.parents.append(blocking)
        for caller in blocking:
            caller.leave(reason)
        for route in {id(r): r for r in self.routes.values()}.values():
            self.parents.append((route.callers, route.thread))
            route.callers, route.gate, route.dormant = [], None, False
            route.close(reason)

    def check_ours(self) -> None:
        """Raises Unavailable in a process that was forked."""
        if self.lost is not None:
            raise Unavailable(self.lost)

    @property
    def bell(self) -> int:
        """What the other ends of this process's channels ring. Raises Overloaded, at first, where none is left."""
        self.carriers.get_ready()
        return self.carriers.bell

    # -- where they lead --------------------------------------------------------------------------------------

    async def get(
        self, interface: type[Interface], plugin: str | None = None, blocking: bool = False,
        wait_for_room: bool = False, threads: bool = False,
    ) -> Any:  # fmt: skip
        """A connected proxy. `wait_for_room`: where a mailbox is full. `threads`: for threads, too. Raises NotFound or
        ContractError."""
        self.check_ours()
        route = self.routes.get((plugin or "", interface, wait_for_room))
        if route is None or route.reason is not None:
            if interface.__contract__.name == Clock.__contract__.name:
                return BuiltinClock(self.clock)
            grant = await self.directory.connect(interface.__contract__.describe(), plugin, self.bell, self.name)
            route = self.route_for(interface, plugin, wait_for_room, grant)
        return route.proxy(blocking, threads)

    def get_now(
        self, interface: type[Interface], plugin: str | None = None, blocking: bool = False, wait_for_room: bool = False
    ) -> Any:
        """As `get`, without waiting."""
        self.check_ours()
        route = self.routes.get((plugin or "", interface, wait_for_room))
        if route is None or route.reason is not None:
            if interface.__contract__.name == Clock.__contract__.name:
                return BuiltinClock(self.clock)
            description = interface.__contract__.describe()
            grant = self.directory.connect_now(description, plugin, self.bell, self.name, -1)
            route = self.route_for(interface, plugin, wait_for_room, grant)
        if blocking:
            self.keep_spare(route)
        return route.proxy(blocking)

    async def redeem(self, interface: type[Interface], token: str) -> Any:
        """A proxy for what was passed on to a plug-in here; its route ends with the last that is held. Raises
        PermissionDenied, ContractError."""
        key = f"token {token}", interface, False  # no plug-in has such a name
        route = self.routes.get(key)
        if route is None or route.reason is not None:
            description = interface.__contract__.describe()
            grant = await self.directory.connect(description, None, self.bell, self.name, -1, token)
            route = self.routes.get(key)
            if route is None:
                route = self.routes[key] = Route(grant.connected.plugin, interface, self)
                route.token = token
                self.lead(route, grant)
            elif route.reason is not None:
                self.lead(route, grant)
            else:  # two asked at once
                give_back([grant], self.directory)
        proxy = route.proxy()
        weakref.finalize(proxy, self.proxy_gone, key).atexit = False
        return proxy

    def proxy_gone(self, key: tuple[str, type[Interface], bool]) -> None:
        """Called in whatever thread let go of the proxy."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.let_go, key)

    def let_go(self, key: tuple[str, type[Interface], bool]) -> None:
        """A proxy of what was passed on is gone: so is the route, where it was the last."""
        route = self.routes.get(key)
        if route is not None and not route.proxies:
            del self.routes[key]
            self.close_route(route, "nobody holds a proxy of it any more")

    def route_for(self, interface: type[Interface], asked: str | None, wait_for_room: bool, grant: Grant) -> Route:
        name = grant.connected.plugin
        key = name, interface, wait_for_room
        route = self.routes.get(key)
        if route is None:
            route = self.routes[key] = Route(name, interface, self)
            route.wait_for_room = wait_for_room
            self.lead(route, grant)
        elif route.reason is not None:  # the plug-in was gone, and is there again
            self.lead(route, grant)
        else:  # two asked at once; the first has connected it
            give_back([grant], self.directory)
        self.routes[asked or "", interface, wait_for_room] = route
        return route

    def lead(self, route: Route, grant: Grant, ahead: Sequence[BlockingCaller] = ()) -> None:
        """Let a route lead to where the grant says; `ahead` are callers for its threads."""
        self.lacking.discard(route)
        route.asked, route.plugin = grant.connected.plugin, grant.connected.broker or grant.connected.plugin
        route.acknowledge(bool(grant.connected.broker))
        if grant.connected.local is not None:
            instance = self.instances[grant.connected.local]
            if instance.server.paused:  # it is being replaced; whoever does that says where this leads then
                route.reason = None
                route.close_gate()
            else:
                route.use_local(instance)
        else:
            old = route.callers
            callers = [Caller(wire, self.loop, self.now_ns) for wire in self.wires(grant)]
            for caller in callers:
                caller.when_broken = partial(self.broken, route, caller)
            route.use_remote(callers, ahead)
            if route.blocks_here:
                route.caller_of_thread()
            if route.keeps_spare and not ahead:
                self.keep_spare(route)
            for caller in old:
                self.retire(caller)
        route.dormant = False  # only now: threads look

    def wires(self, grant: Grant) -> list[Wire]:
        """The callers' ends of the channels that were granted."""
        made, transport = [], grant.connected.transport
        for number, rights in zip(grant.connected.channels, grant.for_each(), strict=True):
            wire = self.carriers.caller(transport, rights, number)
            wire.number = number
            wire.listen()
            made.append(wire)
        return made

    def broken(self, route: Route, caller: Caller) -> None:
        """A wire closed that nobody here wanted to: its other side wrote what no sender writes. Connect anew."""
        if caller in route.callers and route.reason is None and not self.loop.is_closed():
            self.directory.disconnect(caller.wire.number)
            if route not in self.routes_to(route.plugin):  # a visitor's, who goes
                return
            if caller.last is not None and had_no_room(*caller.last):
                self.not_connected(route, Overloaded(f"{route.plugin} has no room for more callers"))
            else:
                self.in_background(self.connect_anew(route))

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is given up when the routes are closed."""
        task = self.loop.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    def retire(self, caller: Caller) -> None:
        """Close a caller's wire once nothing is under way on it. It may have broken: its channel is let go of, too."""
        if caller.busy:
            caller.when_idle.append(lambda: self.retire(caller))
        else:
            caller.wire.close()
            self.directory.disconnect(caller.wire.number)

    def routes_to(self, plugin: str) -> list[Route]:
        return list({id(r): r for r in self.routes.values() if r.plugin == plugin}.values())

    def gate(self, plugin: str) -> None:
        """Let calls from here to a plug-in wait."""
        for route in self.routes_to(plugin):
            route.close_gate()

    async def settle(self, plugin: str, key: str) -> None:
        """Wait until every call is begun that was sent from here to a plug-in, which is the instance `key` here now, so
        that later ones don't overtake them.

        Not for ever: those that are being run may themselves wait for one that the gate holds back, and keep others
        from being begun.
        """
        left = moments = 0
        while (now_left := self.not_begun(plugin, key)) and moments < SETTLING:
            left, moments = now_left, moments + 1 if now_left == left else 0
            await self.clock.sleep(MOMENT)

    def not_begun(self, plugin: str, key: str) -> int:
        """How many calls were sent from here, by the loop or a thread, that the instance `key` has not begun yet."""
        ours = [caller.wire for route in self.routes_to(plugin) for caller in route.callers]
        count = sum(len(wire.when_room) + wire.holds_calls() for wire in ours)
        threads = [number for number, called in list(self.of_threads.items()) if called == plugin]
        instance = self.instances.get(key)
        for number in [*(wire.number for wire in ours), *threads]:
            wire = instance.wires.get(number) if instance is not None else None
            if wire is not None and wire.closed is None:
                accepted, taken, _, _ = wire.ledger()
                count += accepted - taken
        return count

    def question(self, route: Route) -> tuple[Description, str, int, str, int, str]:
        """What the directory is asked for a route: channels to every replica."""
        return route.contract.describe(), route.asked, self.bell, self.name, -1, route.token

    async def lead_all(self, plugin: str, local: str | None) -> int:
        """Lead the routes of a plug-in to where it is now: the instance `local` here, or what the directory says.
        Returns how many calls had waited for that."""
        if local is not None:
            await self.settle(plugin, local)
            self.reroute_local(plugin, local)
        else:
            await self.reroute(plugin)
        return sum(route.held for route in self.routes_to(plugin))

    async def reroute(self, plugin: str) -> None:
        """A plug-in is somewhere else now: ask where, and lead its routes there."""
        for route in self.routes_to(plugin):
            await self.connect_anew(route)

    async def connect_anew(self, route: Route) -> None:
        """Ask where its plug-in is, and lead the route there. Where that fails it is closed, and no other: others may
        know another version of the interface, or have channels that serve."""
        try:
            self.lead(route, *await self.connect_whole(route))
        except MukernelError as error:
            self.not_connected(route, error)

    def not_connected(self, route: Route, error: MukernelError) -> None:
        """Close a route. Where there is only no room for it, it goes on by the channels that it has; without any, the
        next call asks again."""
        lacks_room = isinstance(error, Overloaded)
        if lacks_room and self.goes_on(route):
            return
        reason = str(error).removeprefix(f"{route.interface.__contract__.name}: ")  # which a call says itself
        self.close_route(route, reason, isinstance(error, PermissionDenied), lacks_room)

    async def connect_whole(self, route: Route) -> tuple[Grant, list[BlockingCaller]]:
        """What the directory grants for a route, and the callers for its threads: all of it, or nothing."""
        grant = await self.directory.connect(*self.question(route))
        count = self.callers_for(route) + int(route.keeps_spare) if grant.connected.local is None else 0
        try:
            return grant, await self.connect_ahead(route, count)
        except BaseException:
            give_back([grant], self.directory)
            raise

    def goes_on(self, route: Route) -> bool:
        """Let a route go on by the channels that it has, until there is room for others. False where it has none:
        whoever serves a mailbox serves all that were not closed."""
        if route.reason is not None or route.target is not None:
            return False
        callers = [caller for caller in route.callers if caller.wire.closed is None]
        if not callers:
            return False
        if route.caller is None or len(callers) < len(route.callers):
            route.use_remote(callers)
        self.lacking.add(route)
        if self.asking_again is None or self.asking_again.done():
            self.asking_again = self.in_background(self.ask_again())
        return True

    async def ask_again(self) -> None:
        """Ask, now and then, for what routes lack: nobody tells when something was closed somewhere."""
        pause, longest = ASKED_AGAIN
        while self.lacking:
            await self.clock.sleep(pause)
            pause = min(2 * pause, longest)
            for route in [each for each in self.lacking if each.caller is not None]:  # the others are being led
                await self.connect_anew(route)

    def reroute_local(self, plugin: str, key: str) -> None:
        """A plug-in is in this process now."""
        for route in self.routes_to(plugin):
            old, route.callers = route.callers, []
            self.lacking.discard(route)
            route.use_local(self.instances[key])
            for caller in old:
                self.retire(caller)

    def close_routes(self, plugin: str, reason: str) -> None:
        for route in self.routes_to(plugin):
            self.close_route(route, reason)

    def let_go_of(self, proxies: Sequence[Any]) -> None:
        """An instance is gone, and with it its `proxies`. The routes that only they used, by an interface whose module
        has been imported anew since, are of no use any more: others go by the present one."""
        for route in {id(each._mukernel_route): each._mukernel_route for each in proxies}.values():
            if superseded(route.interface):
                for proxy in proxies:
                    route.proxies.discard(proxy)
                if not route.proxies and route not in self.blocking_routes():
                    self.close_route(route, "nobody uses this route", dormant=True)
                    self.routes = {key: each for key, each in self.routes.items() if each is not route}

    async def revive(self, route: Route) -> None:
        """Somebody kept a method of a route that nobody seemed to use, or calls by one that there was no room for. Of
        several one asks after the other, as the first may have connected it for all."""
        async with self.reviving:
            if route.dormant:
                self.revived(route, await self.directory.connect(*self.question(route)))

    def revive_now(self, route: Route) -> None:
        self.revived(route, self.directory.connect_now(*self.question(route)))

    def revived(self, route: Route, grant: Grant) -> None:
        if not route.dormant:  # two asked at once
            give_back([grant], self.directory)
            return
        if route not in self.routes.values():
            self.routes[f"{route.asked}#{id(route)}", route.interface, route.wait_for_room] = route
        self.lead(route, grant)

    def blocking_routes(self) -> list[Route]:
        """Those by which threads of the instances that are here make blocking calls."""
        return [route for each in self.instances.values() for route in each.blocks_by]

    def close_route(self, route: Route, reason: str, denied: bool = False, dormant: bool = False) -> None:
        """The route stays: should the plug-in come back, or be granted, `reroute` opens it again."""
        route.dormant = dormant  # first: threads look
        route.close(reason, denied)
        self.lacking.discard(route)
        for caller in route.callers:
            self.retire(caller)
        route.callers = []

    # -- for threads that block -------------------------------------------------------------------------------

    def connect_thread(self, route: Route, turn: int) -> BlockingCaller:
        """A caller for the present thread, with a waiter of its own."""
        if is_here(self.loop):
            return self.connect_now(route, turn)
        made: BlockingCaller = result_of(self.loop, self.connect_on_loop(route, turn), self.now_ns)
        return made

    def begin_connecting(self, route: Route, turn: int) -> GivenToLoop:
        """The same, by the loop for another thread, which may have ended by then: nobody holds what is made, and it is
        given back."""
        given = GivenToLoop(self.loop, self.connect_on_loop(route, turn), 0, self.now_ns)
        given.give()
        return given

    async def connect_on_loop(self, route: Route, turn: int) -> BlockingCaller:
        return self.connect_now(route, turn)

    def connect_now(self, route: Route, turn: int) -> BlockingCaller:
        """On the loop's own thread, without waiting for the loop."""
        with enough_for("a thread's first call"):
            end = ThreadEnd(self.carriers.transport)
        grant = self.directory.connect_now(
            route.contract.describe(), route.asked, end.bell, self.name, turn, route.token
        )  # fmt: skip
        return self.thread_caller(route, end, grant)

    def keep_spare(self, route: Route) -> None:
        """Where threads may call while the loop stands still. Without one, for want of room, they wait for the loop."""
        route.keeps_spare = True
        if route.caller is not None and route.thread.spare.empty():
            with contextlib.suppress(MukernelError):
                route.thread.add([self.connect_now(route, next(route.turns))], True)

    def thread_caller(self, route: Route, end: ThreadEnd, grant: Grant) -> BlockingCaller:
        """A caller for whichever thread, or stream, takes it."""
        number = grant.connected.channels[0]
        caller = BlockingCaller(end.wire(grant.connected.transport, grant.rights, number), self.now_ns)
        caller.when_broken, caller.another = route.forget_broken, route.lent_caller
        # The loop's own thread looks now and then whether it waits for something that it would have to do itself.
        caller.ask_now_and_then(self.thread, partial(self.check_served, number))
        self.of_threads[number] = route.plugin
        weakref.finalize(caller, self.thread_gone, caller.wire, number).atexit = False
        self.thread_callers.add(caller)
        return caller

    def check_served(self, channel: int) -> None:
        """As the directory's; where it raises, the call in the channel is withdrawn."""
        try:
            self.directory.check_served(channel)
        except MukernelError:
            self.directory.disconnect(channel)
            raise

    async def connect_ahead(self, route: Route, count: int) -> list[BlockingCaller]:
        """Callers for threads to come, `count` of them. While they make their first blocking calls the kernel may be
        waiting for one of ours itself, and could connect nobody."""
        made: list[BlockingCaller] = []
        for _ in range(count):
            with enough_for("the first call of a thread to come"):
                end, turn = ThreadEnd(self.carriers.transport), next(route.turns)
            grant = await self.directory.connect(
                route.contract.describe(), route.asked, end.bell, self.name, turn, route.token
            )  # fmt: skip
            made.append(self.thread_caller(route, end, grant))
        return made

    def callers_for(self, route: Route) -> int:
        """How many blocking callers the threads of plug-ins that are here need, the loop's own included."""
        pools = [each.blueprint.threads for each in self.instances.values() if route in each.blocks_by]
        return (int(route.blocks_here) + sum(pools)) * route.callers_each

    def thread_gone(self, wire: BlockingWire, number: int) -> None:
        """A thread or a stream has ended, or connects anew: what it held is given back. Called from any thread."""
        wire.close()
        self.of_threads.pop(number, None)
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.directory.disconnect, number)

    async def prepare_to_block(self, route: Route, threads: int) -> None:
        """The loop's own thread, and `threads` of a pool, may make blocking calls by a route from now on."""
        count = max(0, (threads + int(not route.blocks_here)) * route.callers_each - len(route.thread.idle))
        spare, route.keeps_spare, route.blocks_here = not route.keeps_spare, True, True
        if route.target is None:
            ahead = await self.connect_ahead(route, count + int(spare))
            if route.target is None:
                route.thread.add(ahead, spare)
                route.caller_of_thread()

    def close(self) -> None:
        """Give back what the routes hold."""
        for task in self.background:
            task.cancel()
        for route in {id(r): r for r in self.routes.values()}.values():
            route.close("the kernel has stopped")
            for caller in route.callers:
                caller.wire.close("the kernel has stopped")
        self.routes.clear()
        self.carriers.close()


def superseded(interface: type[Interface]) -> bool:
    """Does its module have another class in its place by now? A class inside a function has no place."""
    if "<locals>" in interface.__qualname__:
        return False
    found: Any = sys.modules.get(interface.__module__)
    for part in interface.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is not interface
