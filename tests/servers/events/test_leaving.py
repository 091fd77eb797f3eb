"""What a member was sent ahead, and nobody was handed, counts as not delivered when it leaves, or is busy elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from events_collecting import take, until
from test_group import Kept

from mukernel import ContractError, Kernel, PluginCrashed
from mukernel.servers.events import Batch, Delivery, Event, EventClient, Events, EventServer, Subscription
from mukernel.testing import TestKernel

AT = datetime(2030, 1, 1, tzinfo=UTC)
COUNT = 60


async def client_with_events(kernel: Kernel | TestKernel, config: dict[str, Any], placement: str) -> EventClient:
    await kernel.load(EventServer, name="events", placement=placement, config=config)
    client = EventClient(kernel.get(Events))
    for _ in range(COUNT):
        await client.publish("orders.new", b"body")
    return client


# -- who leaves -------------------------------------------------------------------------------------------------


async def close_it(client: EventClient, **more: Any) -> Event[bytes]:
    async with aclosing(client.subscribe("orders.>", group="g", start="first", **more)) as events:
        event = await anext(events)
        await event.ack()
        return event


async def break_off(client: EventClient, **more: Any) -> Event[bytes]:
    async for event in client.subscribe("orders.>", group="g", start="first", **more):
        await event.ack()
        return event
    raise AssertionError("a subscription has no end")


async def be_cancelled(client: EventClient, **more: Any) -> Event[bytes]:
    handled: asyncio.Future[Event[bytes]] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with aclosing(client.subscribe("orders.>", group="g", start="first", **more)) as events:
            async for event in events:
                await event.ack()
                handled.set_result(event)
                await asyncio.get_running_loop().create_future()

    working = asyncio.create_task(work())
    event = await handled
    working.cancel()
    await asyncio.wait([working])
    return event


@pytest.mark.parametrize("prefetch", [1, 64])
@pytest.mark.parametrize("leave", [close_it, break_off, be_cancelled])
async def test_who_takes_one_event_and_leaves_uses_up_no_other(
    process_kernel: Kernel, config: dict[str, Any], leave: Any, prefetch: int
) -> None:
    client = await client_with_events(process_kernel, config, "process")
    events = [await leave(client, prefetch=prefetch)]
    while (await client.events.stats()).streams["orders"].groups["g"].settled < COUNT:
        events.append(await leave(client, prefetch=prefetch))
    assert sorted((event.offset, event.delivery.deliveries) for event in events) == [
        (offset, 1) for offset in range(1, COUNT + 1)
    ]
    figures = (await client.events.stats()).streams["orders"].groups["g"]
    assert (figures.settled, figures.dead, figures.redelivered) == (COUNT, 0, 0)


async def test_what_its_handler_never_settles_becomes_a_dead_letter_alone(
    process_kernel: Kernel, config: dict[str, Any]
) -> None:
    """Its handler fails, which ends the subscription, whatever was before it."""
    client = await client_with_events(process_kernel, config, "process")
    handed: Counter[int] = Counter()
    while (figures := (await client.events.stats()).streams["orders"].groups.get("g")) is None or not figures.dead:
        async with aclosing(client.subscribe("orders.>", group="g", start="first")) as events:
            for _ in range(3):
                event = await anext(events)
                handed[event.offset] += 1
                if event.offset == 2:
                    break
                await event.ack()
        await client.publish("orders.new", b"body")
    assert handed.pop(2) == 5
    assert set(handed.values()) == {1}


# -- who does something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 64])
async def test_what_waits_for_who_is_busy_elsewhere_is_for_others_and_dies_of_nothing(
    kernel: TestKernel, config: dict[str, Any], prefetch: int
) -> None:
    client = await client_with_events(kernel, config, "process")
    more: dict[str, Any] = {"group": "g", "start": "first", "prefetch": prefetch}
    async with aclosing(client.subscribe("orders.>", **more)) as events:
        [first] = await take(events, 1, ack=True)
        await kernel.clock.sleep(3600)  # streams end meanwhile, and are asked for again
        async with aclosing(client.subscribe("orders.>", **more)) as others:
            by_others = await take(others, 2, ack=True)
        rest = await take(events, COUNT - 3, ack=True)
    handled = [first, *by_others, *rest]
    assert [(event.offset, event.delivery.deliveries) for event in handled] == [(n, 1) for n in range(1, COUNT + 1)]
    figures = (await client.events.stats()).streams["orders"].groups["g"]
    assert (figures.settled, figures.dead) == (COUNT, 0)


async def test_what_its_consumer_works_on_for_long_is_settled_when_it_is_done(
    kernel: TestKernel, config: dict[str, Any]
) -> None:
    client = await client_with_events(kernel, config, "process")
    async with aclosing(client.subscribe("orders.>", group="g", start="first")) as events:
        for _ in range(3):
            event = await anext(events)
            await kernel.clock.sleep(3600)
            assert await event.ack()
    figures = (await client.events.stats()).streams["orders"].groups["g"]
    assert (figures.settled, figures.dead, figures.redelivered) == (3, 0, 0)


# -- the group --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_dies", [False, True])
def test_what_is_given_back_counts_for_nothing_and_what_was_handed_over_counts(
    tmp_path: Path, server_dies: bool
) -> None:
    group = (kept := Kept()).group(tmp_path)
    assert [record.offset for record, _ in group.take("one", 5).records] == [1, 2, 3, 4, 5]
    group.settle(1)
    group.put_off(2, 60.0)
    assert [record.offset for record, _ in group.take("one", 6).records] == [6, 7]
    assert group.pause("one", 6, {4, 5}) == 7  # 7 was on its way
    assert [record.offset for record, _ in group.take("two", 2).records] == [4, 5]
    group.pause("two", 0, set())
    group.release("one")
    if server_dies:
        group = kept.after_a_crash(group)
    taken = [*group.take("three", 6).records, *group.take("three", 6).records]
    given = sorted((record.offset, deliveries) for record, deliveries in taken if record.offset <= 7)
    assert given == [(2, 2)] * server_dies + [(3, 2), (4, 1), (5, 1), (6, 2), (7, 1)]
    group.journal.close()


# -- what the client says ---------------------------------------------------------------------------------------


def batch(offset: int, number: int) -> Batch:
    return Batch([Delivery("orders.new", b"", {}, "orders", offset, AT)], number=number)


class Server:
    """Events that sends what a test puts into `batches`; an exception, or None, ends a stream."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[Batch | Exception | None] = asyncio.Queue()
        self.streams: list[Subscription] = []
        self.said: asyncio.Queue[tuple[int, list[int]] | str] = asyncio.Queue()
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def subscribe(self, asked: Subscription) -> AsyncIterator[Batch]:
        self.streams.append(asked)
        while True:
            sent = await self.batches.get()
            if sent is None:
                return
            if isinstance(sent, Exception):
                raise sent
            yield sent

    async def pause(self, asked: Subscription, number: int, waiting: list[int]) -> int:
        self.said.put_nowait((number, waiting))
        return await self.answer

    async def resume(self, asked: Subscription) -> None:
        self.said.put_nowait("resume")


async def offset_of(events: Any) -> int:
    event: Event[bytes] = await anext(events)
    return event.offset


async def test_what_was_given_back_is_not_handed_over_though_it_arrives_later(kernel: TestKernel) -> None:
    server: Any = Server()
    for sent in (batch(1, 10), batch(2, 11)):
        server.batches.put_nowait(sent)
    events = EventClient(server).subscribe("orders.>", group="g")
    assert await offset_of(events) == 1
    assert await server.said.get() == (11, [2])
    following = asyncio.create_task(offset_of(events))
    server.answer.set_result(12)
    assert await server.said.get() == "resume"
    for sent in (batch(3, 12), batch(4, 13)):
        server.batches.put_nowait(sent)
    assert await following == 4
    await events.aclose()
    assert await server.said.get() == (13, [])


@pytest.mark.parametrize(("end", "paused"), [(PluginCrashed("killed"), False), (None, True)])
async def test_a_server_that_was_started_again_counts_its_deliveries_anew(
    kernel: TestKernel, end: Exception | None, paused: bool
) -> None:
    """One that was killed knows nothing of a pause; one that has ended the stream is told so with the next."""
    server: Any = Server()
    server.batches.put_nowait(batch(1, 10))
    server.answer.set_result(10)
    events = EventClient(server).subscribe("orders.>", group="g")
    assert await offset_of(events) == 1
    await server.said.get()
    server.batches.put_nowait(end)
    await until(lambda: len(server.streams) == 2)
    server.batches.put_nowait(batch(2, 1))
    assert await offset_of(events) == 2
    assert [asked.paused for asked in server.streams] == [False, paused]
    await events.aclose()


async def test_who_leaves_a_server_that_hangs_does_not_wait_for_it(kernel: TestKernel) -> None:
    server: Any = Server()
    server.batches.put_nowait(batch(1, 10))
    events = EventClient(server).subscribe("orders.>", group="g")
    assert await offset_of(events) == 1
    await events.aclose()
    assert server.answer.cancelled()


# -- where to begin ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{"start": "frist"}, {"offset": -1}, {"offset": 0}])
async def test_where_to_begin_is_checked(process_kernel: Kernel, config: dict[str, Any], bad: dict[str, Any]) -> None:
    """Inline, where nobody looks at types on the way."""
    await process_kernel.load(EventServer, name="events", placement="inline", config=config)
    batches: Any = process_kernel.get(Events).subscribe(Subscription("orders.>", "member", **bad))
    [(field, value)] = bad.items()
    async with aclosing(batches):
        with pytest.raises(ContractError, match=rf"^{field}: got '?{value}'?, wanted"):
            await anext(batches)
