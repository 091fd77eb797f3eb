"""Supervisor: what died is started again, with its mailbox as it was; what dies too often is given up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ..contract import MukernelError
from .instances import Instances
from .journal import Journal
from .lifecycle import Event, State
from .place import RemotePlace
from .registry import Entry, Replica

log = logging.getLogger("mukernel")
T = TypeVar("T")


class Supervisor:
    """Watches processes by their exit and by their heartbeat. `replace`: restarts a plug-in that serves, given its
    name."""

    def __init__(self, instances: Instances, journal: Journal, replace: Callable[[str], Awaitable[object]]) -> None:
        self.instances, self.journal, self.replace = instances, journal, replace
        self.processes, self.registry, self.clock = instances.processes, instances.registry, instances.clock
        self.tasks: set[asyncio.Task[Any]] = set()
        self.closing = False

    # -- what happens ---------------------------------------------------------------------------------------------

    def process_died(self, place: RemotePlace, how: str) -> None:
        """A process ended. If nobody asked for that, everything in it is restarted."""
        processes = self.processes
        processes.switchboard.space_died(place.space)
        processes.places.pop(place.space, None)
        place.conversation.close()
        if place.group is not None and processes.groups.get(place.group) is place:
            del processes.groups[place.group]
        if place.ending or self.closing:
            return
        how = place.verdict or how
        for entry, replica in list(self.registry.replicas()):
            if replica.instance is not None and replica.instance.place is place:
                self.crashed(entry, replica, how)

    def crashed(self, entry: Entry, replica: Replica, how: str) -> None:
        """An instance died: restart it."""
        assert replica.instance is not None
        if replica.instance.life.may(Event.CRASH):
            replica.instance.life.on(Event.CRASH)
            replica.ended = how
            self.journal.record("crash", entry.name, how)
            if entry.preparing is not None and not entry.preparing.expired():
                entry.preparing.reschedule(self.processes.loop.time())
            self.restart_soon(entry, replica)

    def begun(self, entry: Entry, replica: Replica) -> None:
        """An instance serves from now on. Its process may have died before this was noted: nobody will say so again.
        Of one that somebody has replaced meanwhile the crash is over, and the next has a back-off of its own."""
        if replica.back_off is not None:
            replica.back_off.cancel()
        place = replica.instance.place if replica.instance is not None else None
        if isinstance(place, RemotePlace) and not place.process.alive and not (place.ending or self.closing):
            self.crashed(entry, replica, "ended as soon as it had begun to serve")

    def beat(self) -> None:
        """One tick: ask every process for a sign of life; end those that gave none for too long.

        Beats are counted, not time: when the kernel's own loop stood still, it is not the processes that hang. Nor does
        one that is not listened to at present.
        """
        self.processes.see_to_fork_servers()
        for place in list(self.processes.places.values()):
            if place.ending or place.hangs:
                continue
            if place.pinging is None or place.pinging.done():
                place.missed = 0
                place.pinging = self.keep(self.ping(place))
                continue
            if place.conversation.pause is not None:
                continue
            place.missed += 1
            limit = self.patience(place)
            if limit and place.missed * self.processes.heartbeat > limit:
                place.hangs = True
                self.keep(self.end_hanging(place, limit))

    async def end_hanging(self, place: RemotePlace, limit: float) -> None:
        """A process hangs: note where it stands, for whoever has to find out why, and end it."""
        try:
            stack = await place.stack(resume=True)
            names = ", ".join(sorted({key.partition("#")[0] for key in place.patience}))
            log.warning("%s gave no sign of life for %g s and is ended: %s", names, limit, stack.text)
            silence = f"no heartbeat for {limit:g} s; it was {stack.short}"
            with contextlib.suppress(OSError):  # such as a full disk: the process is ended all the same
                self.processes.logs.note(place.process.name, f"mukernel: {silence}\n{stack.text}")
            for key in place.patience:
                if entry := self.registry.entries.get(key.partition("#")[0]):
                    entry.hang = f"{silence}\n{stack.text}"
            self.journal.record("hang", names, silence)
            place.verdict = f"gave no sign of life for {limit:g} s and was ended; it was {stack.short}"
        finally:
            place.kill(place.verdict or f"gave no sign of life for {limit:g} s and was ended")

    def patience(self, place: RemotePlace) -> float:
        """Seconds without a sign of life after which a process counts as hanging: the least that is asked for."""
        return min((limit for limit in place.patience.values() if limit), default=0.0)

    async def ping(self, place: RemotePlace) -> None:
        with contextlib.suppress(MukernelError):  # whatever it answers is a sign of life
            await place.ping()

    def keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in a task that is ended with the supervisor."""
        task = self.processes.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # -- restarting -----------------------------------------------------------------------------------------------

    def restart_soon(self, entry: Entry, replica: Replica) -> None:
        if replica.restarting is None or replica.restarting.done():
            replica.restarting = self.keep(self.restart(entry, replica))

    async def restart(self, entry: Entry, replica: Replica) -> None:
        """Start a crashed instance again, as its policy says, until it serves or is given up."""
        clock, policy, problem = self.clock, entry.options.restart, ""
        while not self.closing and replica in entry.replicas and died(replica):
            now = clock.now()
            replica.restarts = [when for when in replica.restarts if now - when < policy.period]
            if len(replica.restarts) >= policy.intensity:
                often = f"crashed more than {policy.intensity} times within {policy.period:g} s"
                await self.give_up(entry, replica, often + problem)
                continue  # it may have been revived meanwhile, and have crashed again
            if replica.restarts:
                replica.back_off = self.keep(clock.sleep(policy.back_off(len(replica.restarts))))
                await asyncio.wait((replica.back_off,))
            async with entry.lock:
                if replica not in entry.replicas or not died(replica):
                    return  # somebody replaced or removed it meanwhile
                began = clock.now()
                replica.restarts.append(began)
                try:
                    await self.instances.start_replica(entry, replica, entry.source, entry.options, recover=True)
                except Exception as error:
                    log.warning("%s could not be restarted: %s", entry.name, error)
                    first = (str(error).splitlines() or [type(error).__name__])[0]
                    self.journal.record("restart failed", entry.name, first)
                    problem = f", or could not be started again: {first}"
                    continue
                entry.restarts += 1
                self.journal.record("restart", entry.name, "serves again", clock.now() - began)
            self.restart_dependants_soon(entry)

    def restart_dependants_soon(self, entry: Entry) -> None:
        """rest-for-one: restart what depends on it, too. In a task of its own, since a dependant that is replaced waits
        for the calls that it makes, and so for this very plug-in, should that die again meanwhile."""
        under_way = entry.restarting_dependants
        if entry.options.restart.strategy == "rest-for-one" and (under_way is None or under_way.done()):
            entry.restarting_dependants = self.keep(self.restart_dependants(entry))

    async def restart_dependants(self, entry: Entry) -> None:
        """Restart what was loaded after it and is connected to it; from the first on where it was restarted again."""
        restarts = -1
        while restarts != entry.restarts and self.registry.entries.get(entry.name) is entry:
            restarts = entry.restarts
            for other in sorted(self.registry.entries.values(), key=lambda e: e.order):
                if other.order > entry.order and self.instances.depends(other, entry):
                    try:
                        await self.replace(other.name)
                    except Exception as error:  # it serves on as it was; the others have their turn
                        log.warning("%s was not restarted with %s: %s", other.name, entry.name, error)
                    if restarts != entry.restarts:
                        break

    async def give_up(self, entry: Entry, replica: Replica, reason: str) -> None:
        """Nobody will serve this mailbox, unless it is revived: answer everything that waits in it. Its callers go to
        the other replicas."""
        assert replica.instance is not None
        replica.instance.life.on(Event.GIVE_UP)
        replica.failure = reason
        self.journal.record("given up", entry.name, reason)
        log.error("%s is given up: %s", entry.name, reason)
        await self.instances.refuse_all(entry, replica, f"{entry.name} is given up: {reason}")

    async def close(self) -> None:
        self.closing = True
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def died(replica: Replica) -> bool:
    """Is there an instance that has crashed, and nobody has replaced?"""
    return replica.instance is not None and replica.instance.life.state is State.CRASHED
