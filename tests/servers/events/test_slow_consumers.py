"""Who is slower than what it is sent ahead: an ack wait begins when its member has come to the event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
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


def test_who_takes_no_more_has_its_whole_ack_wait_for_what_it_has_in_hand(group: Group, time: Time) -> None:
    first, second, third, *ahead = offsets(group, "one")
    time.now = WAIT / 3
    group.settle(first)
    group.settle(second)  # and comes to the third
    time.now = WAIT * 2 / 3
    group.pause("one", group.deliveries, set(ahead))
    assert offsets(group, "two") == ahead
    time.now = WAIT * 1.2
    assert third not in offsets(group, "two", 128)
    time.now = WAIT * 1.4
    assert third in offsets(group, "two", 256)


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


@pytest.mark.parametrize("seconds", [[WAIT / 10], [1.2 * WAIT, 1.2 * WAIT, WAIT / 10]], ids=["slow", "overdue"])
async def test_a_slow_consumer_sends_nothing_to_the_dead_letters(
    kernel: TestKernel, config: dict[str, Any], seconds: list[float]
) -> None:
    """`seconds` that it takes for each event; the last is for all that come after."""
    await kernel.load(EventServer, name="events", placement="process", config=config)
    client = EventClient(kernel.get(Events))
    for _ in range(64):
        await client.publish("orders.new", b"body")
    handled: dict[int, None] = {}
    async with aclosing(client.subscribe("orders.>", group="g", start="first")) as events:
        while len(handled) < 64:
            event = await anext(events)
            handled[event.offset] = None
            await kernel.clock.sleep(seconds.pop(0) if len(seconds) > 1 else seconds[0])
            await event.ack()
    assert list(handled) == list(range(1, 65))
    assert (await client.events.stats()).streams["dead-letters"].last == 0


class SendingAgain:
    """Events that sends one once more while it waits in the client, after some that were lost."""

    def __init__(self) -> None:
        self.sent = asyncio.Event()

    async def subscribe(self, asked: Subscription) -> AsyncIterator[Batch]:
        first = [Delivery("orders.new", b"", {}, "orders", offset, AT) for offset in range(1, 5)]
        yield Batch(first[:3], number=3)
        yield Batch([msgspec.structs.replace(first[1], deliveries=2, missed=5), first[3]], number=5)
        self.sent.set()
        await asyncio.get_running_loop().create_future()

    async def pause(self, asked: Subscription, number: int, waiting: list[int]) -> int:
        return number


async def test_what_is_sent_again_while_it_waits_in_the_client_is_handled_once_and_keeps_its_place() -> None:
    events: Any = SendingAgain()
    async with aclosing(EventClient(events).subscribe("orders.>", group="g")) as subscription:
        first = (await anext(subscription)).delivery
        await events.sent.wait()
        rest = [(await anext(subscription)).delivery for _ in range(3)]
    got = [(each.offset, each.deliveries, each.missed) for each in (first, *rest)]
    assert got == [(1, 1, 0), (2, 2, 0), (3, 1, 0), (4, 1, 5)]
