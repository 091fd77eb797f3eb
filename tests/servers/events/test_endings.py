"""Subscriptions and brokers that are ended half-way: what is cancelled ends, and nobody is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from brokered_samples import Bills
from events_collecting import until

from mukernel import ContractError, NotFound, PermissionDenied, Plugin, PluginCrashed, RemoteError, Unavailable
from mukernel.core.passing_on import identify
from mukernel.servers.events import (
    Batch,
    Delivery,
    Event,
    EventClient,
    EventFigures,
    LogDamaged,
    StreamFigures,
    Subscription,
)
from mukernel.servers.events.broker import KeptCalls
from mukernel.servers.events.settings import call_stream, call_topic

AT = datetime(2030, 1, 1, tzinfo=UTC)
BATCH = Batch([Delivery("orders.new", b"body", {}, "orders", 1, AT)])


# -- subscriptions ----------------------------------------------------------------------------------------------


class Lingering:
    """Events whose stream ends only when it may."""

    def __init__(self) -> None:
        self.ending, self.go_on = asyncio.Event(), asyncio.Event()

    async def subscribe(self, asked: Subscription) -> AsyncIterator[Batch]:
        try:
            yield BATCH
            await asyncio.get_running_loop().create_future()
        finally:
            self.ending.set()
            await self.go_on.wait()


async def test_who_is_cancelled_while_a_subscription_ends_is_cancelled() -> None:
    events: Any = Lingering()
    went_on = False

    async def consume() -> None:
        nonlocal went_on
        subscription = EventClient(events).subscribe("orders.>")
        await anext(subscription)
        await subscription.aclose()
        went_on = True

    consuming = asyncio.create_task(consume())
    await events.ending.wait()
    consuming.cancel()
    await asyncio.wait([consuming])
    assert consuming.cancelled() and not went_on
    events.go_on.set()


class Breaking:
    """Events that has always more, and whose stream breaks as it ends."""

    async def subscribe(self, asked: Subscription) -> AsyncIterator[Batch]:
        try:
            while True:
                yield BATCH
        finally:
            raise PluginCrashed("as it ended")


async def test_a_subscription_ends_also_where_the_server_breaks_over_it() -> None:
    events: Any = Breaking()
    subscription = EventClient(events).subscribe("orders.>")
    await anext(subscription)
    for _ in range(10):  # what is fetched ahead waits by now
        await asyncio.sleep(0)
    ending = asyncio.ensure_future(subscription.aclose())
    for _ in range(20):
        await asyncio.sleep(0)
    assert ending.done()


# -- brokers ----------------------------------------------------------------------------------------------------


class StandIn(Plugin, Bills):
    """What callers of Bills reach, without a kernel."""


class Ticking:
    """A clock on which time is no matter."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Stats:
    """An event server that has lost its streams, and then has them."""

    def __init__(self) -> None:
        self.asked = 0

    async def stats(self) -> EventFigures:
        self.asked += 1
        kept = StreamFigures([call_topic("Bills")], 1, 7, 0, 1, 0, 0, 0, 0, {})
        return EventFigures({} if self.asked == 1 else {call_stream("Bills"): kept}, 0, 0)


def broker_of(events: Any = None) -> Any:
    clock: Any = Ticking()
    stand_in, space = StandIn(), SimpleNamespace(instances={})
    identify(stand_in, space, "Bills.broker#0.0")  # type: ignore[arg-type]
    return KeptCalls(stand_in, clock, EventClient(events), "billing", 10, 5, 10.0)


async def test_a_call_that_was_not_begun_when_it_was_cut_off_can_be_made_again() -> None:
    broker = broker_of()

    async def subscribe(*_: object, **__: object) -> AsyncGenerator[Event[bytes], None]:
        yield Event(broker.client.events, BATCH.events[0], "broker", b"body")
        assert list(broker.making) == [1]
        for task in broker.tasks:
            task.cancel()  # before its first step
        await asyncio.get_running_loop().create_future()

    broker.client.subscribe = subscribe
    broker.begin()
    await until(lambda: bool(broker.tasks))
    await until(lambda: not broker.tasks)
    assert not broker.making
    await broker.stop()


async def test_a_broker_goes_on_counting_when_its_stream_is_there_again(caplog: pytest.LogCaptureFixture) -> None:
    broker = broker_of(Stats())
    with caplog.at_level(logging.ERROR, "mukernel.events"):
        broker.background.append(asyncio.create_task(broker.keep()))
        await until(lambda: broker.last == 7 or broker.background[0].done())
    assert broker.last == 7 and "has stream 'calls-Bills' no more" in caplog.text
    await broker.stop()


@pytest.mark.parametrize("ending", ["stop", "save"])
async def test_a_broker_that_is_cancelled_as_it_ends_leaves_nothing_running(ending: str) -> None:
    broker, go_on, reached = broker_of(), asyncio.Event(), asyncio.Event()

    async def lingering() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            reached.set()
            await go_on.wait()

    broker.delivering, made = asyncio.create_task(lingering()), asyncio.create_task(lingering())
    broker.tasks.add(made)
    await asyncio.sleep(0)
    ended = asyncio.create_task(getattr(broker, ending)())
    await reached.wait()
    ended.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ended.done()
    go_on.set()
    await asyncio.wait([ended])
    assert ended.cancelled() and broker.delivering.done() and made.done()


class Refusing:
    """An event server that does not settle, a few times."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    async def settle(self, *_: object, **__: object) -> bool:
        self.asked += 1
        if self.asked < 4:
            raise self.error
        return True


@pytest.mark.parametrize(
    "error",
    [ContractError("no"), RemoteError("Odd", "no"), PermissionDenied("no"), Unavailable("no"), LogDamaged("s", 1, 1)],
)
async def test_a_broker_settles_until_the_event_server_knows(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """What it gave up would be delivered, and so made, again."""
    broker = broker_of(Refusing(error))
    with caplog.at_level(logging.ERROR, "mukernel.events"):
        await broker.settle(Event(broker.client.events, BATCH.events[0], "broker", b"body"), "term", "why")
    assert (broker.client.events.asked, broker.settled) == (4, 1)
    assert caplog.text.count("is not settled yet") == (0 if isinstance(error, Unavailable) else 1)


async def test_what_the_event_server_has_no_more_needs_no_settling(caplog: pytest.LogCaptureFixture) -> None:
    broker = broker_of(Refusing(NotFound("there is no stream")))
    await broker.settle(Event(broker.client.events, BATCH.events[0], "broker", b"body"), "term", "why")
    assert (broker.client.events.asked, broker.settled) == (1, 0)
    assert "was not settled: there is no stream" in caplog.text


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("it has no text")


@pytest.mark.parametrize("failure", [Unspeakable(), ValueError("\ud800")])
async def test_what_a_call_raised_is_a_reason_whatever_its_text_is(failure: Exception) -> None:
    """What can't be sent would be refused by the event server for ever."""
    broker, reasons = broker_of(), list[str]()

    async def settle(*_: object, reason: str) -> bool:
        reasons.append(reason.encode().decode())
        return True

    async def made(_: object) -> None:
        raise failure

    broker.client.events, broker.made = SimpleNamespace(settle=settle), made
    await broker.make(Event(broker.client.events, BATCH.events[0], "broker", b"body"))
    assert len(reasons) == 1 and reasons[0].startswith(type(failure).__name__)
