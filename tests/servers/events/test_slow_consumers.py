"""Who is slower than what it is sent ahead: an ack wait begins when its member has come to the event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mukernel.servers.events import Batch, Delivery, EventClient, Events, EventServer, Subscription
from mukernel.servers.events.group import Group
from mukernel.servers.events.segment import Record
from mukernel.testing import TestKernel

AT = datetime(2030, 1, 1, tzinfo=UTC)
COUNT = 1000
WAIT = 30.0  # seconds, the ack wait


class Time:
    now = 0.0


def read(offset: int, count: int) -> tuple[list[Record], int, int]:
    following = min(offset + count, COUNT + 1)
    return [Record(each, 1, "orders.new", b"body") for each in range(offset, following)], following, 0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def group(tmp_path: Path, time: Time) -> Any:
    group = Group("g", ">", read, lambda: time.now)
    group.create(tmp_path / "g.group", 1)
    yield group
    group.journal.close()


def offsets(group: Group, member: str, prefetch: int = 64) -> list[int]:
    taken = group.take(member, prefetch)
    assert not taken.dead
    return [record.offset for record, _ in taken.records]


def test_what_waits_for_its_turn_is_not_sent_again(group: Group, time: Time) -> None:
    waiting = offsets(group, "one")
    for offset in range(1, 301):
        time.now += WAIT / 10
        assert waiting[0] == offset, "sent once"
        group.settle(waiting.pop(0))
        waiting += offsets(group, "one")
    assert group.redelivered == 0 and len(waiting) == 64


@pytest.mark.parametrize(
    "say", [Group.settle, lambda group, offset: group.keep_on(offset, WAIT)], ids=["settled", "working"]
)
def test_what_a_member_went_past_and_forgot_comes_again_though_it_goes_on(
    group: Group, time: Time, say: Callable[[Group, int], Any]
) -> None:
    sent = offsets(group, "one")
    forgotten = sent.pop(10)
    while forgotten not in sent:
        time.now += WAIT / 10
        say(group, sent[0])
        if say is Group.settle:
            sent.pop(0)
        else:
            sent.append(sent.pop(0))
        sent += offsets(group, "one")
        assert time.now < 4 * WAIT
    assert time.now >= 2 * WAIT
    assert group.outstanding[forgotten].counted == 2, "its member had it in hands"


def test_what_a_member_that_hangs_was_only_sent_ahead_does_not_count(group: Group, time: Time) -> None:
    sent = offsets(group, "one")
    time.now = WAIT
    assert offsets(group, "two") == sent
    assert [offset for offset, each in group.outstanding.items() if each.counted > 1] == [sent[0]]


def test_a_swap_knows_how_far_a_member_has_come(tmp_path: Path, group: Group, time: Time) -> None:
    sent = offsets(group, "one")
    time.now = WAIT - 1
    group.settle(sent[0])
    successor = Group("g", ">", read, lambda: time.now)
    successor.create(tmp_path / "successor.group", 1)
    successor.settled.add(sent[0])
    successor.take_over(group.hand_over("orders"))
    time.now = 2 * WAIT - 2
    assert offsets(successor, "one") == [65] and successor.deliveries == 65
    successor.journal.close()


async def test_a_slow_consumer_sends_nothing_to_the_dead_letters(kernel: TestKernel, config: dict[str, Any]) -> None:
    await kernel.load(EventServer, name="events", placement="process", config=config)
    client = EventClient(kernel.get(Events))
    for _ in range(64):
        await client.publish("orders.new", b"body")
    handled = []
    async with aclosing(client.subscribe("orders.>", group="g", start="first")) as events:
        async for event in events:
            handled.append(event.offset)
            await kernel.clock.sleep(WAIT / 10)
            assert await event.ack()
            if len(handled) == 64:
                break
    assert handled == list(range(1, 65))
    assert (await client.events.stats()).streams["dead-letters"].last == 0


class SendingAgain:
    """Events that sends all but the first once more while they wait in the client."""

    def __init__(self) -> None:
        self.sent = asyncio.Event()

    async def subscribe(self, asked: Subscription) -> AsyncIterator[Batch]:
        for deliveries, first in ((1, 1), (2, 2)):
            yield Batch([Delivery("orders.new", b"", {}, "orders", each, AT, deliveries) for each in range(first, 4)])
        self.sent.set()
        await asyncio.get_running_loop().create_future()


async def test_what_is_sent_again_while_it_waits_in_the_client_is_handled_once() -> None:
    events: Any = SendingAgain()
    async with aclosing(EventClient(events).subscribe("orders.>", group="g")) as subscription:
        first = await anext(subscription)
        await events.sent.wait()
        rest = [await anext(subscription) for _ in range(2)]
    assert [(each.offset, each.delivery.deliveries) for each in (first, *rest)] == [(1, 1), (2, 2), (3, 2)]
