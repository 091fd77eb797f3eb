"""Instances: how those of each plug-in come, and how they go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ..contract import ContractError, Description, Overloaded, PluginCrashed, Unavailable, encode_fault
from ..kernel.ipc import Channel, Port
from ..transports.carriers import Carriers, ledger, new_port
from ..transports.contract import WHOLE_WIRE, Wire
from ..transports.descriptors import close_all
from ..transports.kind import Kind
from ..transports.link import LARGEST_MESSAGE
from . import messages
from .brokerable import check_brokered
from .callers import Silent, tell
from .capabilities import checked_rights, is_sandbox
from .checks import too_many_replicas
from .ending import together
from .ledger import Ledger
from .lifecycle import Event, State
from .messages import Blueprint, Built, Counts, Source
from .place import BESIDE_STATE, Place, RemotePlace
from .processes import Processes
from .registry import Entry, Instance, Options, Replica
from .switchboard import account_of

log = logging.getLogger("mukernel")
LARGEST_STATE = 256 << 20  # bytes, of a process that was given no `memory`
SLACK = 5.0  # seconds: whatever blocks its loop is found by its heartbeat before
MOST_WAITING = 4096  # messages that any mailbox holds at one time
NOTHING_COUNTED = (0, 0, 0, 0)
NOBODY = Counts()  # the very object tells that nobody serves, not that nothing was served yet


class Instances:
    """Builds instances, lets them receive from the ports of their replicas, and ends them.

    `new_port`: makes a mailbox. `strict`: inline values pass through the codec. `on_begun`: called with an entry and
    its replica whose instance serves from now on.
    """

    def __init__(self, processes: Processes, new_port: Callable[[], Port], strict: bool) -> None:
        self.processes, self.space, self.clock = processes, processes.space, processes.clock
        self.registry, self.switchboard = processes.registry, processes.switchboard
        self.new_port, self.strict = new_port, strict
        self.on_begun: Callable[[Entry, Replica], object] = lambda entry, replica: None
        self.processes.on_unattached = self.unattached
        self.space.on_emptied = lambda channel: self.switchboard.emptied(channel, self.space.name)

    # -- how they come --------------------------------------------------------------------------------------------

    def new_replica(self, entry: Entry) -> Replica:
        """One more replica, with a mailbox and nobody who reads it, so that the kernel may have to."""
        self.space.carriers.get_ready()
        replica = Replica(max((r.number for r in entry.replicas), default=-1) + 1, self.new_port())
        entry.replicas.append(replica)
        return replica

    async def build(self, entry: Entry, replica: Replica, source: Source, options: Options) -> Instance:
        """A warm instance in a place of its own. Raises what went wrong, with nothing left behind."""
        key = f"{entry.name}#{replica.number}.{next(entry.builds)}"
        known = {name: plugin for name, plugin in entry.bindings.items() if plugin in self.registry.entries}
        blueprint = Blueprint(
            key, entry.name, source, options.config, options.concurrency, options.threads, options.checkpoint,
            self.strict, {**known, **options.bind}, interfaces_for(entry, options.placement), options.shared_memory,
            largest_state(options),
        )  # fmt: skip
        place = await self.processes.place_for(options, source, entry.name)
        try:
            self.fit_port(replica, place)
        except BaseException:
            await self.processes.leave(place)
            raise
        instance = Instance(blueprint, place, messages.Built([], False))
        instance.life.on(Event.BUILD)
        capabilities = self.switchboard.capabilities
        capabilities.enter(place.space, key, entry, options.placement)
        try:
            if isinstance(place, RemotePlace):  # a constructor or a start that never returns counts as hanging, too
                place.patience[key] = options.restart.hang
            await self.connect_anew(place)  # for the whole of what its neighbours and it hold now
            instance.built = await built_in_time(place, blueprint, options.restart.hang)
            check_serves_something(entry.name, instance.built)
            await self.connect_anew(place)  # and once more, where that had to be asked
        except BaseException:
            instance.life.on(Event.BROKEN)
            capabilities.leave(place.space, key)
            if isinstance(place, RemotePlace):
                place.patience.pop(key, None)
            await self.processes.leave(place)
            raise
        instance.life.on(Event.BUILT)
        return instance

    def fit_port(self, replica: Replica, place: Place) -> None:
        """Give a mailbox that nobody sends to yet a transport that the process has, whose mukernel may not be compiled.
        Raises ContractError where somebody does."""
        known = place.transports if isinstance(place, RemotePlace) else None
        if known is None or all(each.transport in known for each in replica.port.channels.values()):
            if known is None or replica.port.transport in known:
                return
            if not replica.port.channels:
                replica.port.close()
                replica.port = new_port(known[0])
                return
        raise ContractError(
            f"the process of its environment can be reached by {', '.join(known)} only, since mukernel is not compiled "
            f"for its Python, and present callers use {replica.port.transport}; with gcc and the headers of that "
            "Python, `mukernel install --upgrade` compiles it"
        )

    async def start_replica(
        self, entry: Entry, replica: Replica, source: Source, options: Options, recover: bool = False
    ) -> None:
        """Build an instance for a port that has none, and let it receive."""
        instance = await self.build(entry, replica, source, options)
        try:
            replica.successor = instance  # from now on every new channel is given to it, too
            check_serves_no_more(
                entry.name, options.placement, entry.interfaces or entry.declared, instance.built.interfaces
            )
            check_callers_grants(replica, entry.name, instance.built)
            check_replicas(entry, options, instance.built)
            check_brokered(self.registry.brokers, entry.name, instance.built.interfaces, instance.built.rights)
            self.attach_all(replica, instance)
            await self.activate(replica, instance, recover)
        except BaseException:
            replica.successor = None
            await self.discard(instance)
            raise
        await self.begun(entry, replica, instance, recover)

    async def activate(self, replica: Replica, instance: Instance, recover: bool) -> None:
        """Let an instance receive to which nobody hands anything over: it has the last checkpoint. `recover`: it
        answers what its predecessor was running."""
        state, version = replica.checkpoint or (None, 1)
        await instance.place.activate(instance.blueprint.key, state, version, recover, replica.ended)

    async def begun(self, entry: Entry, replica: Replica, instance: Instance, recover: bool) -> None:
        """It receives: from now on it is the replica's."""
        replica.instance, replica.successor, replica.failure = instance, None, None
        instance.life.on(Event.ACTIVATE)
        entry.served_by(instance)
        self.refuse_unattached(entry, replica)
        self.on_begun(entry, replica)
        if recover and entry.name in self.switchboard.space_plugins.get(instance.place.space, ()):
            await tell([instance.place], lambda place: place.reroute(entry.name, instance.blueprint.key))

    async def revive(self, entry: Entry, replicas: Sequence[Replica]) -> None:
        """Build instances for replicas that crashed, or were given up. Callers connect anew where some were given up;
        else they have their channels still, and by new ones would overtake what they have sent."""
        given_up = any(replica.failure is not None for replica in replicas)
        try:
            for replica in replicas:
                replica.restarts.clear()
                await self.start_replica(entry, replica, entry.source, entry.options, recover=True)
        finally:  # to those that serve now, though another could not be started
            if given_up and entry.failure is None:
                await self.reroute_callers(entry)

    def attach_all(self, replica: Replica, instance: Instance) -> None:
        """Give an instance the receiving end of every channel of its port."""
        for number, channel in replica.port.channels.items():
            instance.place.attach(
                instance.blueprint.key, channel, replica.callers[number], replica.granted.get(number),
                self.switchboard.bounds.sandbox(channel.caller),
            )  # fmt: skip
            if number in replica.abandoned:
                instance.place.detach(number)

    # -- how they go ----------------------------------------------------------------------------------------------

    async def discard(self, instance: Instance) -> None:
        """A new instance is not wanted after all."""
        if instance.life.may(Event.BROKEN):
            instance.life.on(Event.BROKEN)
        await self.end(instance, 0.0, cut_off("the instance is not wanted after all"))

    async def replaced(self, instance: Instance) -> None:
        """Another instance has taken over from an old one."""
        await self.retire(instance, 0.0, cut_off(f"plug-in {instance.blueprint.name!r} was replaced"))

    async def retire(self, instance: Instance, drain: float, reason: str) -> None:
        """An old instance is not wanted any more."""
        if instance.life.may(Event.STOP):
            instance.life.on(Event.STOP)
        await self.end(instance, drain, reason)

    async def end(self, instance: Instance, drain: float, reason: str) -> None:
        """Stop an instance, and end its process if it was the last there. `drain`: seconds for what still runs;
        `reason`: what the callers of that are told which is cut off then."""
        try:
            await instance.place.stop(instance.blueprint.key, drain, reason)
        except Exception as error:
            log.warning("%s did not stop cleanly: %s", instance.blueprint.key, error)
        self.switchboard.capabilities.leave(instance.place.space, instance.blueprint.key)
        if instance.place.keys:
            await self.connect_anew(instance.place)
        await self.processes.leave(instance.place)

    async def remove_replica(
        self, entry: Entry, replica: Replica, reason: str | None = None, drain: float | None = None
    ) -> None:  # fmt: skip
        """End an instance and its port. What still runs after `drain` seconds (None: as its options say) is cut off,
        and whatever waits in the mailbox is refused. `reason`: why, where it is not scaled."""
        instance = replica.instance
        entry.replicas.remove(replica)
        reason = reason or f"plug-in {entry.name!r} has fewer replicas now"
        cut = None
        try:
            if instance is not None and not (
                isinstance(instance.place, RemotePlace) and instance.place.conversation.closed
            ):  # fmt: skip
                cut = cut_off(reason)
                await self.retire(instance, entry.options.drain if drain is None else drain, cut)
        finally:  # nobody comes to this replica again
            self.answer_rest(replica, reason, cut)
            entry.settled = entry.settled.with_(replica.settled)
            replica.port.close()

    async def remove(self, entry: Entry, reason: str, drain: float | None = None) -> None:
        """End a plug-in; `drain` as in `remove_replica`. The routes that lead to it are closed, unless it has never
        served: they were before, and they are opened when one of its name is there again."""
        if entry.interfaces:
            await self.close_callers_routes(entry, reason)
        await together(self.remove_replica(entry, replica, reason, drain) for replica in list(entry.replicas))
        self.registry.entries.pop(entry.name, None)

    async def drain_replica(self, entry: Entry, replica: Replica, silent: Silent) -> float:
        """Wait until a leaving replica has served all that its callers had sent it, or nobody will; returns the seconds
        that are left of the plug-in's `drain`. `silent`: callers that may still send to it."""
        limit = self.clock.now() + entry.options.drain
        while self.clock.now() < limit and replica in entry.replicas and replica.failure is None:
            account = account_of(replica)
            served = account.waiting == 0 and account.accepted == account.replied + account.refused
            if served and all(caller.done() for caller in silent):
                break
            await self.clock.sleep(0.001)
        return max(0.0, limit - self.clock.now())

    # -- their callers --------------------------------------------------------------------------------------------

    async def reroute_callers(self, entry: Entry) -> Silent:
        """Every caller connects anew to the replicas that there are now, also those whose routes were closed; returns
        those that are silent."""
        return await tell(self.processes.calling_places(entry.name), lambda place: place.reroute(entry.name, None))

    async def close_callers_routes(self, entry: Entry, reason: str) -> None:
        """No caller calls any more; later calls end in Unavailable with `reason`."""
        await tell(self.processes.calling_places(entry.name), lambda place: place.close_routes(entry.name, reason))

    async def connect_anew(self, place: Place) -> None:
        """Where the plug-ins of a process hold other capabilities than when its channels were made, make them anew."""

        async def reroute(place: Place) -> None:
            for server in self.switchboard.outdated(place.space):
                await place.reroute(server, None)

        await tell([place], reroute)

    def depends(self, entry: Entry, on: Entry) -> bool:
        """Was `entry` given a proxy of `on`? Its constructor was, or it has redeemed a token, which is known where an
        instance has a process to itself: the routes of that are its own."""
        own = [r.instance.place for r in entry.replicas if r.instance is not None and is_own(r.instance.place)]
        routes = self.switchboard.space_plugins
        return on.name in entry.bindings.values() or any(on.name in routes.get(place.space, ()) for place in own)

    def related(self, one: Entry, other: Entry) -> bool:
        """May one of two plug-ins call the other? It may in doubt: what shares a process shares its routes."""
        return self.may_call(one, other) or self.may_call(other, one)

    def may_call(self, entry: Entry, server: Entry) -> bool:
        places = [each.instance.place for each in entry.replicas if each.instance is not None]
        routes = self.switchboard.space_plugins
        given = {server.name, self.registry.kept_for(server.name)} & set(entry.bindings.values())
        return bool(given) or any(server.name in routes.get(place.space, ()) for place in places)

    async def refuse_all(self, entry: Entry, replica: Replica, reason: str) -> None:
        """No instance will come for a replica: answer every call. Its callers have the others, or closed routes. While
        they are told, somebody may revive it: then its mailbox is its new instance's."""
        if entry.failure is None:
            await self.reroute_callers(entry)
        else:
            await self.close_callers_routes(entry, reason)
        async with entry.lock:
            if replica in entry.replicas and replica.failure is not None:
                self.answer_rest(replica, reason)

    def answer_rest(self, replica: Replica, reason: str, cut: str | None = None) -> None:
        """The kernel itself receives what is left in a mailbox, and refuses it. `cut`: why what was being run has no
        answer, where that is not for a crash."""
        for number in list(replica.port.channels):
            self.refuse(replica, number, Kind.GONE, reason.encode(), cut)

    def refuse(self, replica: Replica, number: int, kind: int, body: bytes, cut: str | None = None) -> None:
        """Receive from a channel in its server's stead, and end it as `finish`. `cut`: as for `answer_rest`."""
        channel, counts = replica.port.channels[number], NOTHING_COUNTED
        try:
            wire = received_by_kernel(self.space.carriers, channel)
            if cut is None:
                wire.end_interrupted(Kind.INTERRUPTED, replica.ended.encode(errors="replace"))
            else:
                wire.end_interrupted(Kind.GONE, cut.encode())
            finish(wire, kind, body)
            if number in replica.abandoned:  # nobody is there to be told
                wire.close()
            else:
                self.switchboard.unread.keep(channel, wire)
            counts = wire.ledger()
        except Exception:  # such as for want of memory: it is closed, and the others have answers
            log.exception("what waits in a channel from %s could not be refused", channel.caller)
        self.switchboard.forget(replica, number, counts)

    def unattached(self, number: int, key: str, space: str) -> None:
        """The process of an instance may open no more files, and can't serve a channel."""
        for entry, replica in self.registry.replicas():
            for instance in (replica.instance, replica.successor) if number in replica.port.channels else ():
                if instance is not None and (instance.blueprint.key, instance.place.space) == (key, space):
                    instance.unattached.add(number)
                    self.refuse_unattached(entry, replica)
                    return

    def refuse_unattached(self, entry: Entry, replica: Replica) -> None:
        """The kernel refuses what comes by the channels that an instance can't serve. While it has a successor, or is
        one, the other of the two serves them, or will."""
        if replica.instance is None or replica.successor is not None:
            return
        why = f"{entry.name}: its process serves no more callers: it may open no more files (its limit of files)"
        for number in replica.instance.unattached & replica.port.channels.keys():
            self.refuse(replica, number, Kind.ERROR, encode_fault(Overloaded(why)))
        replica.instance.unattached.clear()

    def check_served(self, channel: int) -> None:
        """Raises Unavailable, or PluginCrashed, where the last call of a channel is not run, or not any more, until the
        loop, which stands still for it, has done something."""
        for entry, replica in self.registry.replicas():
            if channel in replica.port.channels:
                accepted, taken, _, _ = ledger(replica.port.channels[channel])
                instance = replica.instance
                own = "; this blocking call has the kernel's own thread, which alone could "
                if instance is None or instance.place.has_ended:
                    if taken < accepted:
                        raise Unavailable(f"{entry.name!r} died before it ran this call{own}restart it")
                    raise PluginCrashed(f"the process of {entry.name!r} died while it ran this call{own}restart it")
                if instance.life.state is not State.SERVING and taken < accepted:
                    raise Unavailable(f"{entry.name!r} is being replaced{own}go on with that; it was not run")

    # -- where they are, and what they did ------------------------------------------------------------------------

    def places_of(self, entry: Entry) -> list[Place]:
        """Where a plug-in is, or is being built."""
        places = [self.processes.here, *self.processes.places.values()]
        return [each for each in places if any(key.rpartition("#")[0] == entry.name for key in each.keys)]

    async def ledger(self, entry: Entry) -> Ledger:
        """The account of the calls that came by channels. What a server did is counted by it at one moment."""
        account = entry.settled
        for replica in list(entry.replicas):
            account = account.with_(await self.account(replica))
        return account

    async def account(self, replica: Replica) -> Ledger:
        """The part of one replica in it."""
        counts = NOBODY
        for _ in range(10):  # again, if channels came or went meanwhile
            channels = list(replica.port.channels)
            counts = await self.counts(replica)
            if channels == list(replica.port.channels):
                break
        if counts is NOBODY:  # what was being run is on record until a successor has ended it
            account = account_of(replica)
            return account.with_(Ledger(running=account.lost))
        accepted = sum(ledger(channel)[0] for channel in replica.port.channels.values())
        served = Ledger(accepted, counts.answered, counts.refused, counts.serving, accepted - counts.taken)
        return replica.settled.with_(served)

    async def counts(self, replica: Replica) -> Counts:
        """How busy the instance of a replica is; NOBODY where none serves. Raises what its process raises."""
        instance = replica.instance
        if instance is None or instance.life.state is not State.SERVING:
            return NOBODY
        try:
            return await instance.place.count(instance.blueprint.key)
        except Unavailable:  # it has just died
            return NOBODY


def is_own(place: Place) -> bool:
    """Does an instance share it with no other, nor with the application?"""
    return isinstance(place, RemotePlace) and place.group is None


def received_by_kernel(carriers: Carriers, channel: Channel) -> Wire:
    """The receiving end of a channel that nobody else receives from any more. It owns the channel's rights from here
    on, as there may be no file left for copies; those of the caller are closed, which makes room for what it opens."""
    rights = channel.server_rights
    close_all(fd for fd in channel.owned if fd not in rights)
    channel.owned.clear()
    wire, _ = carriers.server(channel.transport, rights, channel.number)  # the bell stays the port's
    return wire


def finish(wire: Wire, kind: int, body: bytes) -> None:
    """End a channel: what waits is answered with `kind` and `body`. So is, by its caller, what is sent from now on, by
    a thread that is unaware of this or again after an interruption: where that is no ERROR, it was not started."""
    refuse_waiting(wire, kind, body)
    wire.post(Kind.ERROR if kind == Kind.ERROR else Kind.NOT_STARTED, WHOLE_WIRE, body)
    wire.finish()


def refuse_waiting(wire: Wire, kind: int, body: bytes) -> None:
    """Take what waits in a mailbox, and answer each call with `kind` and `body`. Who goes on sending meanwhile does not
    keep us: what comes after that is answered by its caller, when that has heard."""
    for _ in range(MOST_WAITING):
        if wire.closed is not None or (message := wire.peek()) is None:
            break
        try:
            message.discard()
        except ConnectionError as broken:
            wire.fail(str(broken))
            break
        if message.kind < Kind.ITEM and message.kind != Kind.ONEWAY:
            wire.post(kind, message.call, body)


def cut_off(reason: str) -> str:
    """What the callers of an instance are told that is ended while it runs their calls."""
    return f"it was stopped while it ran this call: {reason}"


def interfaces_for(entry: Entry, placement: str) -> list[str] | None:
    """The interfaces that an instance may ask for; None: all that its constructor does."""
    if entry.grants is None:
        return [] if is_sandbox(placement) else None
    return sorted({each.interface for each in entry.grants})


def largest_state(options: Options) -> int | None:
    """Bytes of a state that an instance may save, which the kernel then holds; None: any number, inline."""
    if options.placement == "inline":
        return None
    return min(options.limits.memory or LARGEST_STATE, LARGEST_MESSAGE - BESIDE_STATE)


def check_callers_grants(replica: Replica, plugin: str, built: Built) -> None:
    """Raises ContractError where a version would not look at what is kept from its present callers."""
    for granted in replica.granted.values():
        for each in granted.capabilities:
            # Whether it is a broker's was checked when it was minted.
            checked_rights(plugin, built.rights, built.scopes, each, to_broker=True)


def check_serves_something(plugin: str, built: Built) -> None:
    """Raises ContractError where an instance says that it serves nothing, as no plug-in does: what one serves in a
    sandbox is compared with that later."""
    if not built.interfaces:
        raise ContractError(f"plug-in {plugin!r}: got no interface that it serves, wanted one at least")


def check_serves_no_more(
    plugin: str, placement: str, known: Sequence[Description], served: Sequence[Description]
) -> None:  # fmt: skip
    """Raises ContractError where a sandbox serves more than what it is known to (nothing: that is not known): it would
    take its neighbours' calls. Who swaps it says that it may."""
    names = {each.name for each in known}
    more = sorted({each.name for each in served} - names)
    if names and more and is_sandbox(placement):
        raise ContractError(
            f"plug-in {plugin!r}, in a sandbox: got {', '.join(more)}, which it did not serve before; wanted "
            f"{', '.join(sorted(names))} and no more; to let it serve that, swap it (`mukernel swap {plugin}`)"
        )


def check_replicas(entry: Entry, options: Options, built: Built) -> None:
    """Raises ContractError where there would be more than a plug-in can have."""
    count = max(options.replicas, sum(not each.leaving for each in entry.replicas))
    if built.one_replica and count > 1:
        raise too_many_replicas(entry.name, count)


async def built_in_time(place: Place, blueprint: Blueprint, hang: float) -> Built:
    """Build an instance. Raises Unavailable when that takes longer than `hang` (seconds; 0: it may) and SLACK."""
    try:
        async with asyncio.timeout(hang + SLACK if hang else None) as limit:
            return await place.build(blueprint)
    except TimeoutError:
        if not limit.expired():
            raise
        raise Unavailable(
            f"plug-in {blueprint.name!r} was not there after {hang + SLACK:g} s (`hang` of its restart policy, and "
            f"{SLACK:g} s more): its start, or its health check, does not return"
        ) from None
