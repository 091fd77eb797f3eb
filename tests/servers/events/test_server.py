"""The event server on virtual time: plain and durable topics, groups, ack waits of hours, dead letters, replay."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from events_collecting import Listening, take

from mukernel import ContractError, NotFound, SwapFailed
from mukernel.servers.events import EventClient, Events, EventServer, Topic
from mukernel.servers.events.server import EventState
from mukernel.testing import TestKernel

PLACEMENTS = ["inline", "process"]


async def client_of(kernel: TestKernel, config: dict[str, Any], placement: str = "process") -> EventClient:
    await kernel.load(EventServer, name="events", placement=placement, config=config)
    return EventClient(kernel.get(Events))


async def settled(kernel: TestKernel) -> None:
    """Until everything that is under way has come to rest: the smallest step of time comes after it."""
    await kernel.clock.sleep(0.001)


# -- plain topics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_plain_topics_reach_who_subscribes_now(
    kernel: TestKernel, placement: str
) -> None:  # fmt: skip
    client = await client_of(kernel, {}, placement)
    await client.publish("news.eu", b"before")
    async with Listening(client, "news.*") as one, Listening(client, ">") as all_of_it:
        published = await client.publish("news.eu", b"one", headers={"from": "Ada"})
        assert (published.stream, published.offset) == ("", 0)
        await kernel.clock.sleep(3700)  # subscriptions outlast every stream that carries them
        await client.publish("news.eu.late", b"two")
        await client.publish("news.us", b"three")
        await settled(kernel)
        assert one.bodies == [b"one", b"three"]
        assert all_of_it.bodies == [b"one", b"two", b"three"]
        assert one.events[0].headers == {"from": "Ada"}
        assert await one.events[0].ack()  # does nothing
    assert (await client.events.stats()).live == 0


async def test_members_of_a_plain_group_share(kernel: TestKernel) -> None:
    client = await client_of(kernel, {})
    async with Listening(client, "jobs", group="g") as one, Listening(client, "jobs", group="g") as two:
        for number in range(10):
            await client.publish("jobs", b"%d" % number)
        await settled(kernel)
        assert sorted(one.bodies + two.bodies) == [b"%d" % number for number in range(10)]
        assert len(one.bodies) == len(two.bodies) == 5


async def test_a_slow_plain_subscriber_loses_the_oldest_and_is_told_how_many(kernel: TestKernel) -> None:
    client = await client_of(kernel, {})
    ready = asyncio.Event()
    slow = client.subscribe("ticks", prefetch=10, ready=ready)
    first = asyncio.ensure_future(anext(slow))
    await ready.wait()
    await client.publish("ticks", b"-1")
    assert (await first).body == b"-1"
    await kernel.clock.sleep(2)
    for number in range(10_000):
        await client.publish("ticks", b"%d" % number)
    await settled(kernel)
    await client.publish("ticks", b"last")
    got = []
    async for event in slow:
        got.append(event)
        if event.body == b"last":
            break
    await slow.aclose()
    missed = sum(event.delivery.missed for event in got)
    assert missed > 0
    assert missed + len(got) == 10_001
    numbers = [int(event.body) for event in got[:-1]]
    assert numbers == sorted(set(numbers))
    assert (await client.events.stats()).missed == missed


# -- durable topics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_stream_is_replayed_from_where_one_likes(
    kernel: TestKernel, config: dict[str, Any], placement: str
) -> None:
    client = await client_of(kernel, config, placement)
    began = kernel.clock.wall()
    offsets = []
    for number in range(200):
        offsets.append((await client.publish(f"orders.{number % 2}", b"%d" % number)).offset)
        await kernel.clock.sleep(60)
    assert offsets == list(range(1, 201))
    replay = [
        ({"start": "first"}, 0),
        ({"offset": 51}, 50),
        ({"since": began + timedelta(minutes=100, seconds=-1)}, 100),
    ]
    for asked, first in replay:
        events = await take(client.subscribe("orders.>", **asked), 200 - first)  # type: ignore[arg-type]
        assert [event.offset for event in events] == list(range(first + 1, 201))
        assert [event.body for event in events] == [b"%d" % number for number in range(first, 200)]
        assert events[0].delivery.at == began + timedelta(minutes=first)
    odd = await take(client.subscribe("orders.1", start="first"), 100)
    assert [int(event.body) for event in odd] == list(range(1, 200, 2))
    async with Listening(client, "orders.>") as new:
        await kernel.clock.sleep(10)
        await client.publish("orders.x", b"new")
        await kernel.clock.sleep(10)
        assert new.bodies == [b"new"]


async def test_an_identity_is_stored_once(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config)
    first, *others = await asyncio.gather(*(client.publish("orders.new", b"body", identity="a") for _ in range(5)))
    assert not first.duplicate
    assert all(other.duplicate and other.offset == first.offset for other in others)
    await kernel.move("events", "inline")  # what is remembered is on the disk
    assert (await client.publish("orders.new", b"body", identity="a")).duplicate
    await kernel.clock.sleep(121)
    assert not (await client.publish("orders.new", b"body", identity="a")).duplicate


async def test_publishers_share_a_sync(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config)
    published = await asyncio.gather(*(client.publish("orders.new", b"%d" % number) for number in range(500)))
    assert sorted(each.offset for each in published) == list(range(1, 501))
    assert (await client.events.stats()).streams["orders"].syncs < 100


# -- groups -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_members_share_and_each_event_goes_to_one(
    kernel: TestKernel, config: dict[str, Any], placement: str
) -> None:
    client = await client_of(kernel, config, placement)
    async with (
        Listening(client, "orders.*", ack=True, group="billing", prefetch=4) as one,
        Listening(client, "orders.*", ack=True, group="billing", prefetch=4) as two,
        Listening(client, "orders.*", ack=True, group="audit") as audit,
    ):
        wanted = [b"%d" % number for number in range(300)]
        for body in wanted:
            await client.publish("orders.new", body)
        await kernel.clock.sleep(5)
        assert sorted(one.bodies + two.bodies, key=int) == wanted
        assert one.bodies and two.bodies
        assert audit.bodies == wanted
        figures = (await client.events.stats()).streams["orders"].groups
        assert [(each.settled, each.outstanding, each.behind) for each in figures.values()] == [(300, 0, 0)] * 2
    # A group goes on where it was; start says only where a new one begins.
    await client.publish("orders.new", b"while away")
    [event] = await take(client.subscribe("orders.*", group="billing", start="first"), 1, ack=True)
    assert event.body == b"while away"


async def test_what_is_not_acknowledged_comes_again_after_its_ack_wait(
    kernel: TestKernel, config: dict[str, Any]
) -> None:
    client = await client_of(kernel, config)
    await client.publish("orders.new", b"body")
    began = kernel.clock.now()
    events = client.subscribe("orders.>", group="g", start="first", ack_wait=3600, max_deliver=0)
    for deliveries in range(1, 5):
        event = await anext(events)
        assert event.delivery.deliveries == deliveries
        assert kernel.clock.now() == pytest.approx(began + 3600 * (deliveries - 1), abs=1)
    await event.working()
    await kernel.clock.sleep(3599)
    assert await event.ack()
    assert not await event.ack()
    await client.publish("orders.new", b"next")
    assert (await anext(events)).body == b"next"
    await events.aclose()


async def test_nak_delivers_again_after_a_delay(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config)
    await client.publish("orders.new", b"body")
    events = client.subscribe("orders.>", group="g", start="first")
    began = kernel.clock.now()
    await (await anext(events)).nak(delay=7200)
    assert (await anext(events)).delivery.deliveries == 2
    assert kernel.clock.now() == pytest.approx(began + 7200, abs=1)
    await events.aclose()


async def test_what_is_delivered_too_often_goes_to_the_dead_letters(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config)
    await client.publish("orders.poison", b"poison", headers={"trace": "1"})
    await client.publish("orders.fine", b"fine")
    events = client.subscribe("orders.>", group="g", start="first", max_deliver=3)
    seen = []
    async with asyncio.timeout(3600):
        while len(seen) < 4:
            event = await anext(events)
            seen.append((event.body, event.delivery.deliveries))
            await (event.ack() if event.body == b"fine" else event.nak(delay=60))
    await kernel.clock.sleep(120)
    assert seen == [(b"poison", 1), (b"fine", 1), (b"poison", 2), (b"poison", 3)]
    [dead] = await take(client.subscribe("dead-letters.>", start="first"), 1)
    assert (dead.topic, dead.body, dead.headers["trace"]) == ("dead-letters.orders.g", b"poison", "1")
    assert dead.headers["Mukernel-Topic"] == "orders.poison"
    assert dead.headers["Mukernel-Deliveries"] == "3"
    figures = (await client.events.stats()).streams["orders"].groups["g"]
    assert (figures.dead, figures.outstanding, figures.settled) == (1, 0, 2)
    await events.aclose()


async def test_what_a_member_that_leaves_had_goes_to_the_others_at_once(
    kernel: TestKernel, config: dict[str, Any]
) -> None:
    client = await client_of(kernel, config)
    for number in range(5):
        await client.publish("orders.new", b"%d" % number)
    leaving = client.subscribe("orders.>", group="g", start="first", ack_wait=3600)
    assert [event.body for event in await take(leaving, 2)] == [b"0", b"1"]
    began = kernel.clock.now()
    await leaving.aclose()
    staying = client.subscribe("orders.>", group="g", ack_wait=3600)
    assert [event.body for event in await take(staying, 5, ack=True)] == [b"0", b"1", b"2", b"3", b"4"]
    assert kernel.clock.now() < began + 5
    await staying.aclose()


async def test_a_member_has_no_more_than_it_prefetches(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config)
    for number in range(50):
        await client.publish("orders.new", b"%d" % number)
    async with Listening(client, "orders.>", group="g", start="first", prefetch=7, ack_wait=3600) as member:
        await kernel.clock.sleep(60)
        assert len(member.events) == 7
        await member.events[0].ack()
        await kernel.clock.sleep(1)
        assert len(member.events) == 8


@pytest.mark.parametrize(("before", "after"), [("process", "process"), ("process", "inline"), ("inline", "process")])
async def test_a_move_under_load_loses_nothing_and_repeats_nothing(
    kernel: TestKernel, config: dict[str, Any], before: str, after: str
) -> None:
    client = await client_of(kernel, config, before)
    wanted = [b"%d" % number for number in range(400)]
    async with (
        Listening(client, "orders.>", ack=True, group="g") as member,
        Listening(client, "orders.>", group="holding", ack_wait=3600, prefetch=500) as holding,
        Listening(client, "orders.>") as alone,
        Listening(client, "plain.>", prefetch=1000) as plain,
    ):
        await client.publish("orders.new", wanted[0])
        await client.publish("plain.new", wanted[0])

        async def publish() -> None:
            for body in wanted[1:]:
                await client.publish("orders.new", body)
                await client.publish("plain.new", body)

        publishing = asyncio.create_task(publish())
        report = await kernel.move("events", after)
        assert not report.rolled_back
        await publishing
        report = await kernel.restart("events")
        await kernel.clock.sleep(10)
        for each in (member, alone, plain, holding):
            assert each.bodies == wanted
        for event in holding.events:
            assert await event.ack()
        assert (await client.events.stats()).streams["orders"].groups["holding"].settled == 400


class Broken(EventServer):
    """A version that fails when it has the log already."""

    async def restore(self, state: EventState) -> None:
        await super().restore(state)
        raise ValueError("broken")


async def test_a_swap_that_fails_with_the_log_open_leaves_the_old_version_serving(
    kernel: TestKernel, config: dict[str, Any]
) -> None:
    client = await client_of(kernel, config, "inline")
    async with Listening(client, "orders.>", ack=True, group="g") as member:
        await client.publish("orders.new", b"before")
        with pytest.raises(SwapFailed, match="broken"):
            await kernel.swap("events", Broken)
        assert (await client.publish("orders.new", b"after")).offset == 2
        await kernel.clock.sleep(5)
        assert member.bodies == [b"before", b"after"]


# -- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"pattern": "orders..x"}, "pattern: got"),
        ({"pattern": ">", "group": "g"}, "goes beyond the topics of stream 'orders'"),
        ({"pattern": "news.>", "start": "first"}, "of which nothing is kept"),
        ({"pattern": "orders.>", "group": "../../etc"}, "group: got"),
        ({"pattern": "orders.>", "group": "g", "start": "live"}, "start: got 'live' with group 'g', wanted 'new'"),
        ({"pattern": "orders.>", "prefetch": 0}, "prefetch: got 0"),
        ({"pattern": "orders.>", "ack_wait": 0}, "ack_wait: got 0"),
        ({"pattern": "orders.>", "max_deliver": -1}, "max_deliver: got -1"),
        ({"pattern": "orders.>", "since": datetime.min}, "since: got 0001-01-01"),
    ],
)
async def test_a_subscription_that_can_not_be_served_is_refused(
    kernel: TestKernel, config: dict[str, Any], asked: dict[str, Any], wanted: str
) -> None:
    client = await client_of(kernel, config)
    with pytest.raises(ContractError, match=wanted):
        await anext(client.subscribe(**asked))


async def test_a_topic_is_looked_at_once(
    kernel: TestKernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, looked = await client_of(kernel, config, "inline"), []
    monkeypatch.setattr("mukernel.servers.events.server.check_topic", looked.append)
    for topic in ("orders.new", "news.today"):
        for _ in range(3):
            await client.publish(topic, b"body")
    assert looked == ["orders.new", "news.today"]


async def test_bad_events_and_verdicts_are_refused(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config | {"max_body": 100})
    with pytest.raises(ContractError, match="topic: got"):
        await client.publish("orders.*", b"")
    with pytest.raises(ContractError, match="got 101 bytes, wanted at most 100"):
        await client.publish("orders.new", b"x" * 101)
    with pytest.raises(NotFound, match="no stream 'bills'; there are: orders, dead-letters"):
        await client.events.settle("bills", "g", 1, "ack")
    with pytest.raises(NotFound, match="has no group 'g'"):
        await client.events.settle("orders", "g", 1, "ack")
    async with Listening(client, "orders.>", group="g"):
        with pytest.raises(NotFound, match="has no offset 999"):
            await client.events.settle("orders", "g", 999, "ack")
        for delay in (float("inf"), float("nan"), 1e300):  # it would never come again
            with pytest.raises(ContractError, match="delay: got"):
                await client.events.settle("orders", "g", 1, "nak", delay=delay)
        with pytest.raises(ContractError, match=r"wanted 'orders\.>'"):
            await anext(client.subscribe("orders.new", group="g"))
        await client.events.remove_group("orders", "g")
    with pytest.raises(NotFound):
        await client.events.remove_group("orders", "g")


@pytest.mark.parametrize(
    ("streams", "wanted"),
    [
        ({"a": {"topics": []}}, "topics: got"),
        ({"a": {"topics": ["x..y"]}}, "topics: got"),
        ({"a": {"topics": ["x.>"]}, "b": {"topics": ["x.y"]}}, "overlaps"),
        ({"a": {"topics": ["x"], "max_age": "soon"}}, "max_age: got 'soon'"),
        ({"a": {"topics": ["x"], "fsync": "often"}}, "fsync: got 'often', wanted 'always', 'never', or"),
        ({"a": {"topics": ["x"], "max_size": 5}}, "max_size"),
        ({"../a": {"topics": ["x"]}}, "wanted 1 to 64 letters"),
        ({"dead": {"topics": ["dead-letters.x"]}}, "overlaps"),
        ({"a": {"topics": ["x"], "max_age": 1e300}}, r"max_age: got 1e\+300, wanted at most '36500d'"),
        ({"a": {"topics": ["x"], "duplicate_window": 1e300}}, "duplicate_window: got"),
        ({"a": {"topics": ["x"], "fsync": 1e300}}, "fsync: got"),
    ],
)
async def test_configuration_is_checked_by_field(
    kernel: TestKernel, config: dict[str, Any], streams: Any, wanted: str
) -> None:
    with pytest.raises(Exception, match=wanted):
        await client_of(kernel, config | {"streams": streams})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"calls": ["x y"]}, r"config\.calls: got 'x y', wanted the name of an interface"),
        ({"calls": [""]}, r"config\.calls: got ''"),
        ({"calls": ["x.>"]}, r"config\.calls: got 'x.>'"),
        ({"calls": ["x" * 59]}, r"config\.calls: got"),
        (
            {"calls": ["Bills"], "streams": {"calls-Bills": {"topics": ["calls.Bill"]}}},
            r"config\.streams\.calls-Bills\.topics: got \['calls\.Bill'\], wanted 'calls\.Bills' among them",
        ),
        ({"folder": "a\0b"}, r"config\.folder: got"),
        ({"max_body": 0}, r"config\.max_body: got 0"),
    ],
)
@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_the_other_configuration_too(
    kernel: TestKernel, config: dict[str, Any], given: dict[str, Any], wanted: str, placement: str
) -> None:
    with pytest.raises(ContractError, match=wanted):
        await client_of(kernel, config | given, placement)


async def test_a_folder_has_one_server(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config)
    await client.publish("orders.new", b"body")
    await kernel.load(EventServer, name="other", placement="process", config=config)
    other = EventClient(kernel.get(Events, plugin="other"))
    with pytest.raises(Exception, match="in use by another event server"):
        await other.publish("orders.new", b"body")
    await kernel.unload("events")
    assert (await other.publish("orders.new", b"body")).offset == 2


# -- types ------------------------------------------------------------------------------------------------------


class Order(msgspec.Struct):
    article: str
    pieces: int


@pytest.mark.parametrize("rubbish", [b"\xc1 no msgpack", b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0"])
async def test_no_body_ends_a_subscriber(kernel: TestKernel, config: dict[str, Any], rubbish: bytes) -> None:
    """Not one that is nested too deep either: that is RecursionError, and no error of msgspec's."""
    client = await client_of(kernel, config)
    orders: Topic[Any] = Topic(client, "orders.new", dict[str, Any] | None)  # type: ignore[arg-type]
    await client.publish("orders.new", rubbish)
    await orders.publish({"fine": 1})
    [taken] = await take(orders.subscribe(group="g", start="first"), 1, ack=True)
    assert taken.body == {"fine": 1}
    [dead] = await take(client.subscribe("dead-letters.orders.g", start="first"), 1)
    assert dead.body == rubbish and "no dict[str" in dead.headers["Mukernel-Reason"]


async def test_bodies_have_types(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config)
    orders = Topic(client, "orders.new", Order)
    await orders.publish(Order("tea", 3))
    await client.publish("orders.new", b"rubbish")
    await orders.publish(Order("milk", 1))
    taken = await take(orders.subscribe(group="g", start="first"), 2, ack=True)
    assert [event.body for event in taken] == [Order("tea", 3), Order("milk", 1)]
    [dead] = await take(client.subscribe("dead-letters.orders.g", start="first"), 1)
    assert dead.body == b"rubbish" and "no Order" in dead.headers["Mukernel-Reason"]
