"""CallBroker: the plug-in behind a brokered route. What it has accepted is in the log of the event server, and is run
at least once, though its plug-in, the event server, the broker or all of them are killed meanwhile."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
from collections.abc import Collection
from contextlib import suppress
from contextvars import Context
from typing import Any, Literal

from ...contract import (
    ContractError,
    MethodCodec,
    MukernelError,
    NotFound,
    Overloaded,
    PermissionDenied,
    Plugin,
    PluginCrashed,
    Unavailable,
    interfaces_of,
)
from ...contract.error_texts import text_of
from ...contract.faults import was_answered
from ...core.builtin import Clock
from ...core.described_type import DescribedTypes
from ...core.ending import to_its_end
from ...core.passing_on import identity
from ...core.standing_in import LEFT_OUT, checking_method
from ...transports.context import CallContext, current
from .client import Event, EventClient
from .interface import Events, LogDamaged, StreamFigures
from .settings import call_stream, call_topic

log = logging.getLogger("mukernel.events")
GROUP = "broker"
ACK_WAIT = 6.0  # seconds after which what nobody works on any more, since its broker died, is delivered again
PREFETCH = 256  # calls that are made at a time
CRASHES = 5  # of the plug-in, over one call, after which that is not made again
CAREFUL = 2  # crashes of the plug-in after which new calls may be to blame for the next, too
BURST = 0.05  # seconds: calls that end in a crash so soon after one another are of the same crash
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0  # seconds between two looks for who is not there
LEAVING = 1.0  # seconds that calls have to end before a replacement cuts them off
METHOD, CALL, CONTEXT = "Mukernel-Method", "Mukernel-Call", "Mukernel-Context"
ABSENT = (Unavailable, NotFound, PermissionDenied, ContractError, Overloaded)  # where nobody answered: not yet


class CallBroker(Plugin):
    """Stands in for the plug-in of one interface, whose methods may have any name but those of hooks: all else here
    begins with an underscore.

    plugin: the one that serves the interface. queue: calls that may wait or run; beyond them callers get Overloaded.
    intensity, period: the plug-in is given up when it crashes more often than that within so many seconds.
    """

    def __init__(
        self, clock: Clock, events: Events, *, plugin: str, queue: int, intensity: int, period: float
    ) -> None:  # fmt: skip
        self._calls = KeptCalls(self, clock, EventClient(events), plugin, queue, intensity, period)

    async def start(self) -> None:
        await self._calls.start()

    def draining(self) -> None:
        self._calls.draining()

    async def save(self) -> list[float]:
        return await self._calls.save()

    def restore(self, crashes: list[float]) -> None:
        self._calls.take_over(crashes)

    async def stop(self) -> None:
        await self._calls.stop()

    async def _accept(self, method: str, arguments: tuple[Any, ...]) -> Any:
        return await self._calls.accept(method, arguments)


class KeptCalls:
    """Keeps the calls that `stand_in` is given, and makes each when `plugin`, which it stands in for, is there."""

    def __init__(
        self, stand_in: Plugin, clock: Clock, client: EventClient, plugin: str, queue: int, intensity: int,
        period: float,
    ) -> None:  # fmt: skip
        self.stand_in, self.clock, self.client, self.plugin, self.queue = stand_in, clock, client, plugin, queue
        self.intensity, self.period = intensity, period
        (self.interface,) = interfaces_of(type(stand_in))
        contract = self.interface.__contract__
        self.name, self.stream = contract.name, call_stream(contract.name)
        self.codecs = {name: MethodCodec(method) for name, method in contract.methods.items()}
        description = contract.describe()
        known = DescribedTypes(description.types)
        self.checks = {
            each.name: MethodCodec(checking_method(contract.name, each, known)) for each in description.methods
        }
        self.waited_for = {each.name for each in description.methods if each.model != "oneway"}
        self.identity, self.numbers = os.urandom(8).hex(), itertools.count(1)
        self.waiting: dict[str, asyncio.Future[Any]] = {}  # callers, by the identity of their call
        self.making: dict[int, Event[bytes]] = {}  # what is being made, by offset
        self.tasks: set[asyncio.Task[None]] = set()
        self.sent: dict[asyncio.Future[Any], int] = {}  # calls under way, and how many of them there may be beside each
        self.crashes: list[float] = []  # when the plug-in crashed over calls, within the last `period`
        self.crashed = self.rests = float("-inf")  # when a call ended in a crash last; until when suspects wait
        self.in_order = asyncio.Lock()  # held while a call is sent
        self.background: list[asyncio.Task[None]] = []
        self.delivering: asyncio.Task[None] | None = None
        self.leaving: asyncio.Task[None] | None = None
        self.methods: Any = None  # a proxy of the plug-in, once there was one
        self.publishing = self.last = self.settled = 0  # calls that are being stored; offsets stored, calls done with
        self.unsettled_told = False  # that nothing can be settled is said once, until something is

    async def start(self) -> None:
        stats = await self.client.events.stats()
        kept = stats.streams.get(self.stream)
        if kept is None or call_topic(self.name) not in kept.topics:
            raise ContractError(
                f"the route to {self.name} is brokered, and the event server does not keep its calls: wanted "
                f"calls = [{self.name!r}] in the configuration of the event server"
            )
        self.count(kept)
        self.background.append(asyncio.create_task(self.keep()))
        if not self.has_another():
            self.begin()  # else the one before delivers, until it hands over

    def has_another(self) -> bool:
        """Is there another instance of this broker, as while one is replaced?"""
        space, key = identity(self.stand_in)
        name = key.rpartition("#")[0]
        return any(other != key and other.rpartition("#")[0] == name for other in space.instances)

    def begin(self) -> None:
        """Deliver what is kept, from now on. Nothing begins while this is being replaced: where something does, that
        has failed."""
        if self.leaving is not None:
            self.leaving.cancel()
            self.leaving = None
        if self.delivering is None or self.delivering.done():
            self.delivering = asyncio.create_task(self.deliver(), context=Context())  # not the present call's

    def count(self, kept: StreamFigures) -> None:
        """How many calls wait or run, as the event server has it."""
        group = kept.groups.get(GROUP)
        left = group.outstanding + group.behind if group is not None else kept.last - kept.first + 1
        self.last, self.settled = kept.last, kept.last - left

    def draining(self) -> None:
        """Whoever still waits after a while is told so: the call is kept, and made by a successor."""
        self.leaving = asyncio.create_task(self.leave())

    async def leave(self) -> None:
        await self.clock.sleep(LEAVING)
        for answer in self.waiting.values():
            if not answer.done():
                answer.set_exception(
                    Unavailable(f"{self.name}: the broker is being replaced; the call is kept, and made later")
                )

    async def save(self) -> list[float]:
        """Deliver no more, so that the successor can. Should it fail, the next call, or the next count, begins anew."""
        if cancelled := await to_its_end(self.let_go([])):
            raise cancelled
        return self.crashes

    def take_over(self, crashes: list[float]) -> None:
        self.crashes = crashes
        self.begin()

    async def let_go(self, background: list[asyncio.Task[None]]) -> None:
        await end(background)
        if self.delivering is not None:
            await end([self.delivering])
            if self.tasks:  # what is being made, and settled: what is cut off is made again
                await asyncio.wait(self.tasks, timeout=LEAVING)
            await end(self.tasks)

    async def stop(self) -> None:
        if self.leaving is not None:
            self.background.append(self.leaving)
        cancelled = await to_its_end(self.let_go(self.background))
        if self.last > self.settled and not self.has_another():
            left = f"{self.last - self.settled:,} calls that were accepted wait on the disk"
            log.warning("%s: %s; they are made when the route is brokered again", self.name, left)
        if cancelled:
            raise cancelled

    # -- taking calls -----------------------------------------------------------------------------------------

    async def accept(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Keep a call; of a method with a result, wait for that. Raises what the call raised, ContractError for what
        does not fit, Overloaded, Unavailable where it can't be kept."""
        if self.last - self.settled + self.publishing >= self.queue:
            raise Overloaded(f"{self.name}: {self.queue:,} calls wait in the queue of this route already")
        self.begin()
        body = self.encoded(method, arguments)
        call = f"{self.identity}.{next(self.numbers)}"
        headers = {METHOD: method, CALL: call, **written(current.get())}
        if method in self.waited_for:
            self.waiting[call] = asyncio.get_running_loop().create_future()
        try:
            self.publishing += 1
            try:
                published = await self.client.publish(call_topic(self.name), body, headers=headers, identity=call)
                self.last = max(self.last, published.offset)
            finally:
                self.publishing -= 1
            return await self.waiting[call] if call in self.waiting else None
        finally:
            answer = self.waiting.pop(call, None)
            if answer is not None and not answer.cancel() and not answer.cancelled():
                answer.exception()  # where its caller has gone nobody else looks there

    def encoded(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        """The arguments as they are kept: whole, large values too. Raises ContractError."""
        codec, given = self.codecs[method], up_to_left_out(arguments)
        if any(each is not LEFT_OUT for each in arguments[len(given) :]):
            missing = codec.method.parameters[len(given)].name
            raise ContractError(
                f"{self.name}.{method}: parameter {missing!r} was left out before one that was given, by a caller of "
                "another version of the interface; a brokered call has to give it"
            )
        body = bytes(codec.encode_arguments(given, {}))
        self.checks[method].decode_arguments(body)
        return body

    # -- making them ------------------------------------------------------------------------------------------

    async def deliver(self) -> None:
        while True:
            events = self.client.subscribe(
                call_topic(self.name), group=GROUP, start="first", ack_wait=ACK_WAIT, max_deliver=0, prefetch=PREFETCH
            )
            try:
                async for event in events:
                    self.last = max(self.last, event.offset)
                    if event.offset not in self.making:  # after a crash of the event server all that is out comes again
                        self.making[event.offset] = event
                        task = asyncio.create_task(self.make(event))
                        self.tasks.add(task)
                        task.add_done_callback(functools.partial(self.ended, event.offset))
            except (MukernelError, LogDamaged) as error:
                log.warning("%s: its kept calls can't be read: %s", self.name, error)
                await self.clock.sleep(LONGEST_PAUSE)
            finally:
                await events.aclose()

    def ended(self, offset: int, task: asyncio.Task[None]) -> None:
        """Also of one that was cancelled before its first step, and so has ended nothing itself."""
        self.tasks.discard(task)
        del self.making[offset]

    async def keep(self) -> None:
        """Tell the event server that what runs for long is being worked on, and count with it."""
        while True:
            await self.clock.sleep(ACK_WAIT / 3)
            if self.delivering is not None and (self.leaving is None or self.leaving.done()):
                self.begin()
            with suppress(MukernelError):
                for event in list(self.making.values()):
                    await event.working()
                kept = (await self.client.events.stats()).streams.get(self.stream)
                if kept is None:
                    log.error("%s: the event server has stream %r no more", self.name, self.stream)
                else:
                    self.count(kept)

    async def make(self, event: Event[bytes]) -> None:
        """Make one call, give its caller the answer, and settle it."""
        answer = self.waiting.get(event.headers.get(CALL, ""))
        result, told = None, True
        failure: Exception | None = None
        try:
            result = await self.made(event)
        except PluginCrashed as crash:
            if not was_answered(crash):
                if event.delivery.given_back + 1 < CRASHES:
                    await self.settle(event, "nak")  # which the event server counts, and keeps on its disk
                    return
                # What the crash itself says is of the last time alone.
                crash = PluginCrashed(
                    f"{self.name}.{event.headers.get(METHOD)}: its plug-in died over this call {CRASHES} times; it is "
                    "not run again"
                )
            failure = crash
        except Exception as error:
            failure = error
        if answer is None or answer.done():
            told = False
        elif failure is None:
            answer.set_result(result)
        else:
            answer.set_exception(failure)
        # What failed and nobody was told of is not lost: the dead letters have it.
        verdict: Literal["ack", "term"] = "ack" if told or failure is None else "term"
        await self.settle(event, verdict, f"{type(failure).__name__}: {text_of(failure)}")

    async def made(self, event: Event[bytes]) -> Any:
        """The result of the call. While nobody is there to answer it waits. Raises what the plug-in raised, and
        PluginCrashed."""
        codec = self.codecs.get(event.headers.get(METHOD, ""))
        if codec is None:
            raise ContractError(f"{self.name} has no method {event.headers.get(METHOD)!r}")
        current.set(read(event.headers.get(CONTEXT, "")))
        arguments = up_to_left_out(codec.decode_arguments(event.body))
        crashes = event.delivery.given_back
        pause = FIRST_PAUSE
        while True:
            while rest := self.rest(crashes):
                await self.clock.sleep(rest)
            try:
                async with self.in_order:
                    while len(self.sent) >= min([self.company(crashes), *self.sent.values()]):
                        await asyncio.wait(self.sent, return_when=asyncio.FIRST_COMPLETED)
                    if self.rest(crashes):  # there was a crash meanwhile
                        continue
                    call = asyncio.ensure_future(getattr(await self.served(), codec.method.name)(*arguments))
                    self.sent[call] = self.company(crashes)
                    call.add_done_callback(self.answered)
                    try:
                        await asyncio.sleep(0)  # its first step sends it
                    except asyncio.CancelledError:
                        call.cancel()
                        raise
                return await call
            except ABSENT as error:
                if was_answered(error) or isinstance(error, ContractError):
                    raise
            await self.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def company(self, crashes: int) -> int:
        """How many calls, this one included, may be under way together with one that the plug-in has crashed over so
        often. Any of those that it crashed over may be to blame. Fewer and fewer are suspect together, and in the end
        each is made alone, so that what comes to `CRASHES` is what crashes it. And each may crash it anew: there are no
        more than it may crash. Only of new ones so many crash it that rarely."""
        if not crashes and len(self.crashes) < CAREFUL:
            return PREFETCH
        return max(1, min(PREFETCH >> 3 * crashes, self.most_crashes(crashes) - len(self.crashes)))

    def most_crashes(self, crashes: int) -> int:
        """Crashes within `period` that its supervisor puts up with; one is left for calls that it never crashed
        over."""
        return max(1, self.intensity - bool(crashes))

    def answered(self, call: asyncio.Future[Any]) -> None:
        """A call is under way no more; a crash counts before the next is sent."""
        del self.sent[call]
        error = None if call.cancelled() else call.exception()
        if isinstance(error, PluginCrashed) and not was_answered(error):
            now = self.clock.now()
            if now - self.crashed >= BURST:
                self.crashes.append(now)
            self.crashed = now

    def rest(self, crashes: int) -> float:
        """Seconds for which no call is made over which the plug-in has crashed so often: it would be given up should it
        crash again, and then honest calls are not made either."""
        now, most = self.clock.now(), self.most_crashes(crashes)
        self.crashes = [each for each in self.crashes if now - each < self.period]
        if len(self.crashes) < most:
            return 0.0
        until = self.crashes[-most] + self.period
        if until > self.rests:
            self.rests = until
            log.warning(
                "%s: its plug-in crashed %d times within %g s; %s wait for %.1f s, so that it is not given up",
                self.name, len(self.crashes), self.period, "those that it ran" if crashes else "calls", until - now,
            )  # fmt: skip
        return until - now

    async def served(self) -> Any:
        """A proxy of the plug-in, as soon as it is there."""
        pause = FIRST_PAUSE
        while self.methods is None or self.methods._mukernel_route.reason is not None:
            space, _ = identity(self.stand_in)
            try:
                self.methods = await space.get(self.interface, self.plugin, wait_for_room=True)
            except ABSENT as error:
                level = logging.WARNING if pause == FIRST_PAUSE else logging.DEBUG
                log.log(level, "%s: %d calls wait: %s", self.name, self.last - self.settled, error)
                await self.clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return self.methods

    async def settle(self, event: Event[bytes], verdict: Literal["ack", "nak", "term"], reason: str = "") -> None:
        """Until the event server knows: what it does not know is delivered, and so made, again."""
        pause = FIRST_PAUSE
        while True:
            try:
                if verdict == "nak":
                    await event.nak(FIRST_PAUSE)
                    return
                await (event.ack() if verdict == "ack" else event.term(reason))
                self.settled += 1
                self.unsettled_told = False
                return
            except NotFound as error:  # the log that it was in: there is nothing to settle
                log.error("%s: offset %d was not settled: %s", self.name, event.offset, error)
                return
            except (MukernelError, LogDamaged) as error:
                passing = isinstance(error, Unavailable | PluginCrashed | Overloaded) and pause < LONGEST_PAUSE
                level = logging.DEBUG if passing or self.unsettled_told else logging.ERROR
                self.unsettled_told = self.unsettled_told or level == logging.ERROR
                log.log(level, "%s: offset %d is not settled yet: %s", self.name, event.offset, error)
            await self.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def up_to_left_out(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Those before the first that was left out; compared to nothing, as arrays can't be."""
    return tuple(itertools.takewhile(lambda each: each is not LEFT_OUT, arguments))


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel them, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def written(context: CallContext | None) -> dict[str, str]:
    """What travels on with a kept call: its priority and its trace. Its deadline is its caller's alone."""
    if context is None or not (context.priority or context.trace):
        return {}
    return {CONTEXT: " ".join(map(str, (context.priority, *(context.trace or ()))))}


def read(text: str) -> CallContext | None:
    if not text:
        return None
    priority, *trace = map(int, text.split())
    return CallContext(0, priority, (trace[0], trace[1], trace[2]) if trace else None)


__all__ = ["CallBroker"]
