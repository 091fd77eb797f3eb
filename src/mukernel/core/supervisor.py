"""Supervisor: what died is started again, with its mailbox as it was; what dies too often is given up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..contract import Unavailable
from .lifecycle import Event, State
from .place import RemotePlace
from .registry import Entry, Replica

if TYPE_CHECKING:
    from .kernel import Kernel

log = logging.getLogger("mukernel")
T = TypeVar("T")


class Supervisor:
    """Watches processes by their exit and by their heartbeat."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tasks: set[asyncio.Task[Any]] = set()
        self.closing = False

    # -- what happens ---------------------------------------------------------------------------------------------

    def process_died(self, place: RemotePlace, how: str) -> None:
        """A process ended. If nobody asked for that, everything in it is restarted."""
        kernel = self.kernel
        kernel.switchboard.space_died(place.space)
        kernel.processes.places.pop(place.space, None)
        place.conversation.close()
        if place.group is not None and kernel.processes.groups.get(place.group) is place:
            del kernel.processes.groups[place.group]
        if place.ending or self.closing:
            return
        for entry in list(kernel.registry.entries.values()):
            for replica in entry.replicas:
                instance = replica.instance
                if instance is None or instance.place is not place:
                    continue
                self.crashed(entry, replica, how)

    def crashed(self, entry: Entry, replica: Replica, how: str) -> None:
        """An instance died: restart it."""
        assert replica.instance is not None
        if replica.instance.life.may(Event.CRASH):
            replica.instance.life.on(Event.CRASH)
            self.kernel.record("crash", entry.name, how)
            self.restart_soon(entry, replica)

    def begun(self, entry: Entry, replica: Replica) -> None:
        """An instance serves from now on. Its process may have died before this was noted: nobody will say so again."""
        place = replica.instance.place if replica.instance is not None else None
        if isinstance(place, RemotePlace) and not place.process.alive and not (place.ending or self.closing):
            self.crashed(entry, replica, "ended as soon as it had begun to serve")

    def beat(self) -> None:
        """One tick: ask every process for a sign of life; end those that gave none for too long.

        Beats are counted, not time: when the kernel's own loop stood still, it is not the processes that hang.
        """
        for place in list(self.kernel.places.values()):
            if place.ending:
                continue
            if place.pinging is None or place.pinging.done():
                place.missed = 0
                place.pinging = self.keep(self.ping(place))
                continue
            place.missed += 1
            limit = self.patience(place)
            if limit and place.missed * self.kernel.heartbeat > limit:
                log.warning("%s gave no sign of life for %g s and is ended", place.space, limit)
                self.kernel.record("hang", ", ".join(sorted(place.patience)), f"no heartbeat for {limit:g} s")
                place.missed = 0
                place.kill(f"gave no sign of life for {limit:g} s and was ended")

    def patience(self, place: RemotePlace) -> float:
        """Seconds without a sign of life after which a process counts as hanging: the least that is asked for."""
        return min((limit for limit in place.patience.values() if limit), default=0.0)

    async def ping(self, place: RemotePlace) -> None:
        with contextlib.suppress(Unavailable):
            await place.ping()

    def keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in a task that is ended with the supervisor."""
        task = self.kernel.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # -- restarting -----------------------------------------------------------------------------------------------

    def restart_soon(self, entry: Entry, replica: Replica) -> None:
        if replica.restarting is None or replica.restarting.done():
            replica.restarting = self.keep(self.restart(entry, replica))

    async def restart(self, entry: Entry, replica: Replica) -> None:
        """Start a crashed instance again, as its policy says, until it serves or is given up."""
        kernel, policy = self.kernel, entry.options.restart
        while not self.closing and replica in entry.replicas and died(replica):
            now = kernel.clock.now()
            replica.restarts = [when for when in replica.restarts if now - when < policy.period]
            if len(replica.restarts) >= policy.intensity:
                await self.give_up(
                    entry, replica, f"crashed more than {policy.intensity} times within {policy.period:g} s"
                )
                return
            if replica.restarts:
                wait = policy.backoff * 2 ** (len(replica.restarts) - 1)
                await kernel.clock.sleep(min(wait, policy.longest_backoff))
            replica.restarts.append(kernel.clock.now())
            async with entry.lock:
                if replica not in entry.replicas or not died(replica):
                    return  # somebody replaced or removed it meanwhile
                began = kernel.clock.now()
                try:
                    await kernel.start_replica(entry, replica, entry.source, entry.options, recover=True)
                except Exception as error:
                    log.warning("%s could not be restarted: %s", entry.name, error)
                    kernel.record("restart failed", entry.name, str(error).splitlines()[0])
                    continue
                entry.restarts += 1
                kernel.record("restart", entry.name, "serves again", kernel.clock.now() - began)
            await self.restart_dependants(entry)  # and if it has died again meanwhile, it is our turn once more

    async def restart_dependants(self, entry: Entry) -> None:
        """rest-for-one: restart what was loaded after it and is connected to it."""
        if entry.options.restart.strategy != "rest-for-one":
            return
        for other in sorted(self.kernel.registry.entries.values(), key=lambda e: e.order):
            if other.order > entry.order and self.kernel.depends(other, entry):
                try:
                    await self.kernel.restart(other.name)
                except Exception as error:  # it serves on as it was; the others have their turn
                    log.warning("%s was not restarted with %s: %s", other.name, entry.name, error)

    async def give_up(self, entry: Entry, replica: Replica, reason: str) -> None:
        """Nobody will serve this mailbox: answer everything that waits in it."""
        assert replica.instance is not None
        replica.instance.life.on(Event.GIVE_UP)
        entry.failure = reason
        self.kernel.record("given up", entry.name, reason)
        log.error("%s is given up: %s", entry.name, reason)
        await self.kernel.refuse_all(entry, replica, f"{entry.name} is given up: {reason}")

    async def close(self) -> None:
        self.closing = True
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def died(replica: Replica) -> bool:
    """Is there an instance that has crashed, and nobody has replaced?"""
    return replica.instance is not None and replica.instance.life.state is State.CRASHED
