"""The pleasant side of Events: a client that goes on after a crash of the server, events that are acknowledged by
themselves, and topics whose bodies have a type."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import Context
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec

from ...contract import PluginCrashed
from ...contract.error_texts import text_of
from .bell import Bell
from .interface import Batch, Delivery, Events, Published, Start, Subscription

log = logging.getLogger("mukernel.events")
T = TypeVar("T")
ATTEMPTS = 8  # of a publish that crashes of the server interrupt
UNDER_WAY = 256  # publishes of a client that are sent at a time: more would fill the server's mailbox
AHEAD = 2  # batches that are fetched before they are asked for
LEAVING = 5.0  # seconds that the server has to hear that a member leaves: one that hangs is waited for no longer


class Event(Generic[T]):
    """One event that arrived. `body` as its publisher gave it; `delivery` has topic, offset, time and all else.

    In a group, settle each one: `ack`, `nak` or `term`. Elsewhere these do nothing.
    """

    __slots__ = ("_events", "body", "delivery", "group")

    def __init__(self, events: Events, delivery: Delivery, group: str, body: T) -> None:
        self._events, self.delivery, self.group, self.body = events, delivery, group, body

    @property
    def topic(self) -> str:
        return self.delivery.topic

    @property
    def offset(self) -> int:
        return self.delivery.offset

    @property
    def headers(self) -> dict[str, str]:
        return self.delivery.headers

    async def ack(self) -> bool:
        """Done. False if nobody waited for it any more: it was settled already."""
        return await self._settle("ack")

    async def nak(self, delay: float = 0.0) -> bool:
        """Not done: deliver it again, to any member, after `delay` seconds."""
        return await self._settle("nak", delay=delay)

    async def term(self, reason: str = "") -> bool:
        """It can't be done: never deliver it again; it goes to the dead letters."""
        return await self._settle("term", reason=reason)

    async def working(self) -> bool:
        """Not yet: the ack wait begins anew."""
        return await self._settle("working")

    async def _settle(self, verdict: Literal["ack", "nak", "term", "working"], **more: Any) -> bool:
        if not self.group or not self.delivery.stream:
            return True
        return await self._events.settle(self.delivery.stream, self.group, self.offset, verdict, **more)

    def __repr__(self) -> str:
        return f"Event({self.topic!r}, offset={self.offset}, {self.body!r})"


class EventClient:
    """Publishes and subscribes by the Events that a plug-in was injected, or that `kernel.get(Events)` gave."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.identity = os.urandom(8).hex()
        self.numbers = itertools.count(1)
        self.room = asyncio.Semaphore(UNDER_WAY)

    async def publish(
        self, topic: str, body: bytes, *, headers: dict[str, str] | None = None, identity: str = "",
        when_full: Literal["refuse", "wait"] = "wait",
    ) -> Published:  # fmt: skip
        """Publish an event, once, also where the server dies meanwhile. Returns as `Events.publish` does.

        `when_full`: "wait" waits for the disk, and while UNDER_WAY publishes of this client are under way. `identity`:
        names the event; one that its topic has already is not stored again. Raises as `Events.publish`, PluginCrashed
        if the server died again and again.
        """
        identity = identity or f"{self.identity}.{next(self.numbers)}"
        if when_full == "refuse":
            return await self._publish(topic, body, headers, identity, when_full)
        async with self.room:
            return await self._publish(topic, body, headers, identity, when_full)

    async def _publish(
        self, topic: str, body: bytes, headers: dict[str, str] | None, identity: str,
        when_full: Literal["refuse", "wait"],
    ) -> Published:  # fmt: skip
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self.events.publish(
                    topic, body, headers=headers, identity=identity, when_full=when_full
                )  # fmt: skip
            except PluginCrashed:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def subscribe(
        self, pattern: str, *, group: str = "", start: Start = "new", offset: int | None = None,
        since: datetime | None = None, ack_wait: float = 30.0, max_deliver: int = 5, prefetch: int = 64,
        ready: asyncio.Event | None = None,
    ) -> AsyncGenerator[Event[bytes], None]:  # fmt: skip
        """The events of a pattern, without end, also across crashes and swaps of the server.

        In a `group` the members share the events, and settle each. Without one every subscriber gets all: of a stream
        in order from `start`, `offset` or `since` on; of plain topics what comes from now on. `ready` is set when the
        server knows of the subscription. Raises ContractError, LogDamaged, Unavailable.
        """
        asked = Subscription(pattern, os.urandom(8).hex(), group, start, offset, since, ack_wait, max_deliver, prefetch)
        member = _Member(self.events, asked)
        missed = 0
        tasks = [asyncio.create_task(member.fetch())]
        try:
            while True:
                batch = await member.fetched.get()
                if isinstance(batch, BaseException):
                    raise batch
                if ready is not None:
                    ready.set()
                if group and len(tasks) == 1:
                    tasks.append(asyncio.create_task(member.watch(), context=Context()))  # not the present call's
                for sent in batch.events:
                    missed += sent.missed
                    delivery = member.waiting.pop(sent.offset, None) if group and sent.stream else sent
                    if delivery is None:  # it came before, in the place of an older delivery, or was given back
                        continue
                    if delivery.missed != missed:
                        delivery = msgspec.structs.replace(delivery, missed=missed)
                    missed = 0
                    member.handed += 1
                    member.away = True
                    yield Event(self.events, delivery, group, delivery.body)
                    member.away = False
                    if member.asked.paused:
                        await member.resume()
        finally:
            try:
                if group:
                    for task in tasks[1:]:
                        task.cancel()
                    tasks.append(asyncio.create_task(member.pause(), context=Context()))
                    await asyncio.wait(tasks[-1:], timeout=LEAVING)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)  # a cancellation that comes meanwhile is the subscriber's own


class _Member:
    """Fetches what a subscriber is sent ahead. In a group the server is told what of it nobody was handed, when the
    subscriber leaves, or has not come back for long: it does not count as delivered, and is for other members.

    `waiting`: what was sent and waits here for its turn, by offset; sent again, it keeps its place. `number`: of the
    last delivery that came; `given_back`: up to which they are ours no more. `handed`: how many the subscriber was
    handed; `away`: it has not come back for the next.
    """

    def __init__(self, events: Events, asked: Subscription) -> None:
        self.events, self.asked = events, asked
        self.fetched: asyncio.Queue[Batch | BaseException] = asyncio.Queue(0 if asked.group else AHEAD)
        self.waiting: dict[int, Delivery] = {}
        self.number = self.given_back = self.handed = 0
        self.away = False
        self.reached = False  # does the server know us? after a crash it does not
        self.turn = asyncio.Lock()  # of what is said to the server

    async def fetch(self) -> None:
        """Keep a stream of the server open. It ends with this task, so the server sees at once that we have gone."""
        try:
            while True:
                self.given_back = 0  # what was on its way came before the last stream ended
                batches = self.events.subscribe(self.asked)
                try:
                    async for batch in batches:
                        self._keep(batch)
                        await self.fetched.put(batch)
                except PluginCrashed:  # the mailbox outlives the server: the next call waits for its successor
                    self.reached, self.number = False, 0
                    self.asked = msgspec.structs.replace(self.asked, paused=False)
                    continue
                finally:
                    close: Callable[[], Any] | None = getattr(batches, "aclose", None)
                    if close is not None:
                        await close()
        except Exception as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # else nobody fetches any more
                await self.fetched.put(error)

    def _keep(self, batch: Batch) -> None:
        self.reached = True
        if batch.next:
            self.asked = msgspec.structs.replace(self.asked, offset=batch.next)
        if self.asked.group and batch.number > self.given_back:
            self.number = batch.number
            self.waiting.update((each.offset, each) for each in batch.events if each.stream)

    async def watch(self) -> None:
        """Pause while the subscriber does something else for long: what waits here would come to its ack wait."""
        silent = Bell()
        while True:
            before = self.handed
            await silent.wait(self.asked.ack_wait / 3)
            if self.away and self.handed == before:
                await self.pause()

    async def pause(self) -> None:
        """Give back what waits here, and what is on its way, and take no more. Where the server can't be told it sees
        that we have gone, and takes the first of what we have for handed over."""
        async with self.turn:
            if self.asked.paused or not self.reached:
                return
            self.asked = msgspec.structs.replace(self.asked, paused=True)
            try:
                self.given_back = await self.events.pause(self.asked, self.number, list(self.waiting))
                self.asked = msgspec.structs.replace(self.asked, paused=True)  # it may be another server by now
                self.waiting.clear()
            except BaseException as error:
                self.asked = msgspec.structs.replace(self.asked, paused=False)
                if not isinstance(error, Exception):
                    raise

    async def resume(self) -> None:
        """Take more. Should the server not hear it, it does when it is asked for the next stream, within a minute."""
        async with self.turn:
            if self.asked.paused:
                self.asked = msgspec.structs.replace(self.asked, paused=False)
                with suppress(Exception):
                    await self.events.resume(self.asked)


class Topic(Generic[T]):
    """A topic, or a pattern of topics, whose bodies are of one type: `Topic(events, "orders.created", Order)`.

    They travel as msgpack and are checked where they arrive, as arguments of calls are.
    """

    def __init__(self, events: Events | EventClient, topic: str, kind: type[T]) -> None:
        self.client = events if isinstance(events, EventClient) else EventClient(events)
        self.topic, self.kind = topic, getattr(kind, "__name__", str(kind))
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._encoder = msgspec.msgpack.Encoder()

    async def publish(self, body: T, *, topic: str = "", **more: Any) -> Published:
        """Publish a body, on `topic` where this is a pattern. Takes and raises what `EventClient.publish` does."""
        return await self.client.publish(topic or self.topic, self._encoder.encode(body), **more)

    async def subscribe(self, **more: Any) -> AsyncGenerator[Event[T], None]:
        """As `EventClient.subscribe`. A body of another type is reported, and goes to the dead letters in a group."""
        events = self.client.subscribe(self.topic, **more)
        try:
            async for event in events:
                try:
                    body = self._decoder.decode(event.body)
                except Exception as error:  # of another type, no msgpack at all, nested too deep
                    why = text_of(error)
                    log.warning("%s at offset %d is no %s: %s", event.topic, event.offset, self.kind, why)
                    await event.term(f"the body is no {self.kind}: {why}")
                    continue
                yield Event(self.client.events, event.delivery, event.group, body)
        finally:
            await events.aclose()
