"""Replacement: swap, move and restart, without a caller noticing.

Each step either succeeds or is undone, and the old instance serves until the very moment at which the new one can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from ..contract import ContractError, MukernelError, SwapFailed, Unavailable, differences
from .brokerable import check_brokered
from .callers import tell, tell_one
from .ending import to_its_end, together
from .instances import Instances, check_callers_grants, check_replicas, check_serves_no_more, cut_off
from .journal import Journal
from .ledger import Ledger
from .lifecycle import Event, State
from .messages import Built, Quiesced, Source
from .place import Place
from .registry import Entry, Instance, Options, Replica
from .switchboard import account_of

log = logging.getLogger("mukernel")


@dataclass(slots=True)
class SwapReport:
    """What a swap, a move or a scale did. Times in seconds. `ledger` was taken while nothing ran.

    `pause`: the longest time in which a replica started no call. `drained`: calls that the old instances finished while
    nothing new was started. `carried_over`: calls that waited, in the mailboxes or in the caller's process, and were
    served by the new instances. Of calls that came by no channel, `ledger` has those two kinds.
    `rolled_back`: nothing has changed, and `reason` says why. `given_up`: it was, so that nobody handed anything over;
    `crashed`: so it was with some replica, which waited to be started again, or crashed while its successor was built.
    """

    plugin: str
    what: str
    before: str
    after: str
    pause: float = 0.0
    total: float = 0.0
    drained: int = 0
    carried_over: int = 0
    rolled_back: bool = False
    reason: str | None = None
    ledger: Ledger = field(default_factory=Ledger)
    given_up: bool = False
    crashed: bool = False

    @property
    def serves(self) -> str:
        """After it was rolled back, for people."""
        if self.given_up:
            return "it is given up as before"
        return "what crashed is started again as before" if self.crashed else "the old version serves on"


@dataclass(slots=True)
class Succession:
    """One replica of a plug-in that is being replaced: `old` is kept until every replica has been handed over.

    `down`: that had crashed, or was given up, so the new one begins as after a crash; `checkpoint`: the replica's then;
    `failure`: why it was given up at that moment.
    """

    replica: Replica
    old: Instance
    new: Instance
    down: bool
    checkpoint: tuple[bytes, int] | None
    failure: str | None = None
    handed_over: bool = False


class Replacement:
    """One replacement under way: the new instances of one plug-in, warm beside the old ones. `drain`: seconds that this
    one waits for calls that are being run; None: as the plug-in's options say."""

    def __init__(
        self, instances: Instances, journal: Journal, entry: Entry, what: str, source: Source, options: Options,
        drain: float | None = None,
    ) -> None:  # fmt: skip
        self.instances, self.journal = instances, journal
        self.entry, self.source, self.options = entry, source, options
        self.drain = options.drain if drain is None else drain
        before = f"{entry.source.title} {entry.options.placement}"
        self.successions: list[Succession] = []
        self.cancelled: asyncio.CancelledError | None = None  # its caller was, while a hand-over ran
        self.report = SwapReport(entry.name, what, before, f"{source.title} {options.placement}")
        self.report.given_up = entry.failure is not None
        self.report.crashed = not all(replica.serves or replica.failure is not None for replica in entry.staying)

    async def run(self) -> SwapReport:
        """Replace every replica. Raises SwapFailed, with `report`, when it was rolled back.

        When its caller is cancelled, what is being built is given up; a hand-over runs to its end, since half of one
        would leave two instances for one mailbox, or none. No replica is left on another version than the others.
        """
        clock, entry = self.instances.clock, self.entry
        began = clock.now()
        try:
            await self.prepare_all()
            for each in self.successions:
                work = self.begin(each) if each.down else self.hand_over(each.replica, each.old, each.new)
                self.cancelled = await to_its_end(work) or self.cancelled
                each.handed_over = True
                if self.cancelled is not None and each is not self.successions[-1]:
                    raise self.cancelled
        except asyncio.CancelledError:
            await to_its_end(self.take_back())
            why = f"the {self.report.what} was cancelled: who asked for it has gone, or the kernel is ending"
            self.journal.record("rolled back", entry.name, why)
            raise
        except Exception as error:
            self.report.rolled_back, self.report.reason = True, told(error)
            await to_its_end(self.take_back())
            self.report.total = clock.now() - began
            self.journal.record("rolled back", entry.name, self.report.reason)
            raise failed(self.report, error) from error
        self.remember()
        self.cancelled = await to_its_end(self.finish()) or self.cancelled
        self.report.total = clock.now() - began
        self.journal.record(
            self.report.what, entry.name, f"{self.report.before} → {self.report.after}", self.report.pause
        )
        if self.cancelled is not None:
            raise self.cancelled
        return self.report

    def remember(self) -> None:
        """The plug-in is of the new version from now on; the one before is noted, for rollbacks. That the same files
        were loaded again is noted once, however often that was, so that it pushes nothing out."""
        entry, what = self.entry, self.report.what
        source = msgspec.structs.replace(self.source, fresh=False)
        again = (source, self.options.config) == (entry.source, entry.options.config)
        if what == "rollback":
            entry.history.pop()
        elif not again or (what == "swap" and not source.environment and not entry.reloaded):
            entry.history.append((entry.source, entry.options.config))
        entry.source, entry.options = source, self.options

    async def finish(self) -> None:
        """Every mailbox has its new instance: the old ones go. Of what was given up they are gone, and its callers, who
        had been told that nobody would come, ask again."""
        if any(each.failure is not None for each in self.successions):
            await self.instances.reroute_callers(self.entry)
        await together(self.instances.replaced(each.old) for each in self.successions if not each.down)

    async def prepare_all(self) -> None:
        """Build a successor of each instance. That ends as soon as one of these crashes, since nobody can hand over for
        it: its supervisor starts it again, and waits for us."""
        entry = self.entry
        try:
            async with asyncio.timeout(None) as entry.preparing:
                for replica in entry.staying:
                    await self.prepare(replica)
        except TimeoutError:
            if entry.preparing is None or not entry.preparing.expired():
                raise  # a plug-in's own
            self.report.crashed = True
            raise SwapFailed("it crashed while its successor was built") from None
        finally:
            entry.preparing = None

    async def prepare(self, replica: Replica) -> None:
        """Build the successor of one instance; it is warm, and receives nothing yet."""
        old, down = replica.instance, not replica.serves
        assert old is not None  # what is being loaded has its turn until it serves, or is gone
        new = await self.instances.build(self.entry, replica, self.source, self.options)
        self.successions.append(Succession(replica, old, new, down, replica.checkpoint))
        self.check_callers(replica, new.built)
        if self.report.what != "swap":
            check_serves_no_more(self.entry.name, self.options.placement, self.entry.interfaces, new.built.interfaces)
        check_callers_grants(replica, self.entry.name, new.built)
        check_replicas(self.entry, self.options, new.built)
        replica.successor = new  # from now on every new channel is given to both
        self.instances.attach_all(replica, new)
        if not down:
            await check_room(replica, old, new)

    async def take_back(self) -> None:
        """Let the old instances serve again: those that had handed over take the state that the new ones have now."""
        for each in reversed(self.successions):
            replica = each.replica
            try:
                if each.handed_over and each.down:
                    await self.leave_again(each)
                    continue
                if each.handed_over:
                    replica.successor = each.old
                    self.instances.attach_all(replica, each.old)
                    await self.hand_over(replica, each.new, each.old, rejected=True)
            except Exception as error:
                log.error("%s: replica %d could not be taken back: %s", self.entry.name, replica.number, told(error))
                self.report.reason = f"{self.report.reason}; replica {replica.number} serves on as the new version, "
                self.report.reason += f"since it could not be taken back: {told(error)}"
                replica.successor = None
                await self.instances.replaced(each.old)
            else:
                replica.successor = None
                await self.instances.discard(each.new)
            self.instances.refuse_unattached(self.entry, replica)

    async def leave_again(self, each: Succession) -> None:
        """There is no old instance that could serve on: it is given up as before, or its supervisor, who waits for us,
        starts it again."""
        replica, why = each.replica, each.failure
        replica.instance, replica.failure, replica.checkpoint = each.old, why, each.checkpoint
        reason = f"the {self.report.what} was rolled back" if why is None else f"{self.entry.name} is given up: {why}"
        cut = cut_off(reason)
        await self.instances.retire(each.new, 0.0, cut)
        if why is not None:
            self.instances.answer_rest(replica, reason, cut)

    def check_callers(self, replica: Replica, built: Built) -> None:
        """Raises ContractError where some present caller could not call the new version."""
        served = {each.name: each for each in built.interfaces}
        for caller in replica.callers.values():
            if caller.name not in served:
                raise ContractError(f"the new version does not serve {caller.name}, which is being called")
            lines = differences(caller, served[caller.name]) if caller.hash != served[caller.name].hash else []
            if lines:
                raise ContractError(f"{caller.name}: present callers can't call the new version", lines)
        check_brokered(self.instances.registry.brokers, self.entry.name, built.interfaces, built.rights)
        missing = {each.name for each in self.entry.interfaces} - set(served)
        if missing:
            raise ContractError(f"the new version no longer serves {', '.join(sorted(missing))}")
        for now in self.entry.interfaces:
            lines = differences(now, served[now.name]) if now.hash != served[now.name].hash else []
            if lines:
                raise ContractError(f"{now.name}: the new version's contract does not fit the present one", lines)

    async def begin(self, each: Succession) -> None:
        """Let a new instance receive to which nobody hands anything over. What crashed may have been given up
        meanwhile."""
        await self.instances.activate(each.replica, each.new, recover=True)
        each.failure = each.replica.failure
        each.replica.restarts.clear()
        await self.instances.begun(self.entry, each.replica, each.new, recover=True)

    async def hand_over(self, replica: Replica, old: Instance, new: Instance, rejected: bool = False) -> None:
        """Move the receive right. From `quiesced.since` until the new instance is active no call is started: the
        pause. `rejected`: the version of `old` is not wanted after all."""
        report, began = self.report, self.instances.clock.now()
        if not old.life.may(Event.QUIESCE):
            raise SwapFailed(f"{self.entry.name!r} {old.life.state.value} while its successor was built")
        old.life.on(Event.QUIESCE)
        try:
            for place in self.direct_callers(old, new):
                await place.gate(self.entry.name)
            quiesced = await old.place.quiesce(old.blueprint.key, self.drain, old.built.stateful)
            old.life.on(Event.DRAINED)
            account = account_of(replica)  # nothing runs and nobody takes: the one moment at which it is exact
            since = await self.activate(new, quiesced)
        except BaseException:
            try:
                if old.life.state is State.QUIET:
                    await old.place.resume(old.blueprint.key)
            except Unavailable as error:
                log.warning("%s died while it was to take over again: %s", old.place.space, error)
            finally:
                if old.life.may(Event.RESUME):
                    old.life.on(Event.RESUME)
                await self.lead(old, self.direct_callers(old, new))
            report.pause = max(report.pause, self.instances.clock.now() - began)
            raise
        report.pause = max(report.pause, (since - quiesced.since) / 1e9)
        new.life.on(Event.ACTIVATE if new.life.may(Event.ACTIVATE) else Event.RESUME)
        replica.instance, replica.successor = new, None
        if replica.checkpoint is not None:  # older, and maybe of another version
            replica.checkpoint = None if quiesced.state is None else (quiesced.state, quiesced.state_version)
        self.entry.served_by(new)
        self.instances.refuse_unattached(self.entry, replica)
        self.instances.on_begun(self.entry, replica)
        held = await self.lead(new, self.direct_callers(old, new))
        report.drained += quiesced.drained
        report.carried_over += account.waiting + held
        # Of what came by no channel these alone are known; they are accounted for as what did.
        beside = Ledger(accepted=quiesced.inline + held, replied=quiesced.inline, waiting=held)
        report.ledger = report.ledger.with_(account).with_(beside)
        await tell([old.place], lambda place: place.release(old.blueprint.key, rejected))

    async def lead(self, instance: Instance, places: Sequence[Place]) -> int:
        """Open the gates: routes lead to `instance` now; returns how many calls had waited there. Where that is in the
        same process this waits for what was sent before: another replacement must not begin with a gate that is still
        to be opened."""
        held = 0

        async def reroute(place: Place) -> None:
            nonlocal held
            key = instance.blueprint.key if place is instance.place else None
            waited = await place.reroute(self.entry.name, key)
            held += waited

        if instance.place in places:
            await tell_one(instance.place, reroute)
        await tell([place for place in places if place is not instance.place], reroute)
        return held

    async def activate(self, new: Instance, quiesced: Quiesced) -> int:
        try:
            return await new.place.activate(new.blueprint.key, quiesced.state, quiesced.state_version, False)
        except MukernelError:
            raise
        except Exception as error:
            raise SwapFailed(f"the new version could not take over the state: {told(error)}") from error

    def direct_callers(self, old: Instance, new: Instance) -> list[Place]:
        """The processes in which the plug-in is called without a channel, before or after: their routes are changed.
        Somebody may connect there at any moment."""
        places: list[Place] = []
        for place in (old.place, new.place):
            calls = self.entry.name in self.instances.switchboard.space_plugins.get(place.space, ())
            if calls and place not in places:
                places.append(place)
        return places


async def check_room(replica: Replica, old: Instance, new: Instance) -> None:
    """Raises SwapFailed where the process of a successor may not open as many files as those callers take that the old
    one serves. Others may be trying, and find no room there either."""
    await new.place.count(new.blueprint.key)  # before that is answered it has said which channels it can't serve
    lacking = new.unattached & replica.port.channels.keys()
    if not lacking:
        return
    await old.place.count(old.blueprint.key)  # and so has this, of all of those
    served = replica.port.channels.keys() - old.unattached
    if lacking & served:
        raise SwapFailed(
            f"the process of the new version may not open enough files to serve the {len(served)} callers that there "
            f"are: {len(lacking & served)} would be left over; let it open more (`files` of its limits), or let some "
            "of them go"
        )


def told(error: Exception) -> str:
    """What went wrong, in a line or more; a plug-in's own exception with its type."""
    text = str(error)
    return text if text and isinstance(error, MukernelError) else ": ".join(filter(None, (type(error).__name__, text)))


def not_begun(report: SwapReport) -> SwapFailed:
    """The error of a replacement that found a reason against it before it had done anything; it carries the report."""
    problem = SwapFailed(f"{report.what} of {report.plugin!r} was not begun: {report.reason}")
    problem.report = report
    return problem


def failed(report: SwapReport, error: Exception) -> SwapFailed:
    """The error of a replacement that was rolled back; it carries the report."""
    problem = SwapFailed(f"{report.what} of {report.plugin!r} was rolled back, {report.serves}: {told(error)}")
    problem.report = report
    return problem
