"""The pleasant side of Events: a client that goes on after a crash of the server, events that are acknowledged by
themselves, and topics whose bodies have a type."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec

from ...contract import PluginCrashed
from ...contract.error_texts import text_of
from .interface import Batch, Delivery, Events, Published, Subscription

log = logging.getLogger("mukernel.events")
T = TypeVar("T")
ATTEMPTS = 8  # of a publish that crashes of the server interrupt
UNDER_WAY = 256  # publishes of a client that are sent at a time: more would fill the server's mailbox
AHEAD = 2  # batches that are fetched before they are asked for

Start = Literal["new", "first", "live"]


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
        fetched: asyncio.Queue[Batch | BaseException] = asyncio.Queue(0 if group else AHEAD)
        newest: dict[int, Delivery] = {}  # of what waits here for its turn, by offset; sent again, it keeps its place
        missed = 0
        pump = asyncio.create_task(self._pump(asked, fetched, newest))
        try:
            while True:
                batch = await fetched.get()
                if isinstance(batch, BaseException):
                    raise batch
                if ready is not None:
                    ready.set()
                for sent in batch.events:
                    missed += sent.missed
                    delivery = newest.pop(sent.offset, None) if group and sent.stream else sent
                    if delivery is None:  # it came before, in the place of an older delivery
                        continue
                    if delivery.missed != missed:
                        delivery = msgspec.structs.replace(delivery, missed=missed)
                    missed = 0
                    yield Event(self.events, delivery, group, delivery.body)
        finally:
            pump.cancel()
            await asyncio.wait([pump])  # a cancellation that comes meanwhile is the subscriber's own

    async def _pump(
        self, asked: Subscription, fetched: asyncio.Queue[Batch | BaseException], newest: dict[int, Delivery]
    ) -> None:
        """Keep a stream of the server open. It ends with this task, so the server sees at once that we have gone."""
        try:
            while True:
                batches = self.events.subscribe(asked)
                try:
                    async for batch in batches:
                        if batch.next:
                            asked = msgspec.structs.replace(asked, offset=batch.next)
                        if asked.group:
                            newest.update((each.offset, each) for each in batch.events if each.stream)
                        await fetched.put(batch)
                except PluginCrashed:
                    continue  # the mailbox outlives the server: the next call waits for its successor
                finally:
                    close: Callable[[], Any] | None = getattr(batches, "aclose", None)
                    if close is not None:
                        await close()
        except Exception as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # else nobody fetches any more
                await fetched.put(error)


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
