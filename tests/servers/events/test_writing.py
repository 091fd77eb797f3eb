"""What publishers and groups see of a disk that is slow, full or damaged."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from events_collecting import Listening, take

from mukernel import Kernel, Overloaded, Unavailable
from mukernel.servers.events import Delivery, EventClient, Events, EventServer, LogDamaged, Subscription
from mukernel.servers.events.group import Group
from mukernel.servers.events.group_journal import GroupJournal, Settled, Snapshot, Tried
from mukernel.servers.events.live import LiveSubscriber
from mukernel.servers.events.log import Log
from mukernel.servers.events.records import HEADER_SIZE
from mukernel.servers.events.segment import Record, Segment
from mukernel.testing import TestKernel


async def client_of(kernel: Kernel, config: dict[str, Any], **stream: Any) -> EventClient:
    config["streams"]["orders"] |= stream
    await kernel.load(EventServer, name="events", config=config)
    return EventClient(kernel.get(Events))


async def test_publishers_wait_for_a_slow_disk_or_are_refused(
    process_kernel: Kernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await client_of(process_kernel, config, backlog="1K")
    go_on = threading.Event()
    write = Log.write

    def slowly(log: Log, records: Any, sync: bool) -> None:
        go_on.wait()
        write(log, records, sync)

    monkeypatch.setattr(Log, "write", slowly)
    waiting = [asyncio.ensure_future(client.publish("orders.new", b"x" * 400)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match=r"800 bytes wait for the disk already, and backlog is 1,024"):
        await client.publish("orders.new", b"x" * 400, when_full="refuse")
    assert not any(each.done() for each in waiting)
    go_on.set()
    published = await asyncio.gather(*waiting)
    assert [each.offset for each in published] == list(range(1, 21))


async def test_more_publishers_than_a_mailbox_has_room_for_wait(process_kernel: Kernel, config: dict[str, Any]) -> None:
    config["streams"]["orders"]["fsync"] = "never"
    await process_kernel.load(EventServer, name="events", placement="process", config=config)
    client = EventClient(process_kernel.get(Events))
    published = await asyncio.gather(*(client.publish("orders.new", b"x" * 100) for _ in range(4000)))
    assert {each.offset for each in published} == set(range(1, 4001))


async def test_a_full_disk_is_told_and_the_next_try_may_succeed(
    process_kernel: Kernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await client_of(process_kernel, config)
    await client.publish("orders.new", b"one")

    def full(descriptor: int, data: bytes, position: int) -> None:
        os.pwrite(descriptor, data[: len(data) // 2], position)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mukernel.servers.events.segment.write_all", full)
        refused = await asyncio.gather(
            *(client.publish("orders.new", b"lost") for _ in range(5)), return_exceptions=True
        )
    assert all(isinstance(each, Unavailable) and "No space left" in str(each) for each in refused)
    assert (await client.publish("orders.new", b"two")).offset == 2
    events = await take(client.subscribe("orders.>", start="first"), 2)
    assert [event.body for event in events] == [b"one", b"two"]


async def test_after_a_sync_that_failed_nothing_is_written_until_a_restart(
    process_kernel: Kernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await client_of(process_kernel, config)
    await client.publish("orders.new", b"one")

    def broken(segment: Segment) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Segment, "sync", broken)
        with pytest.raises(Unavailable, match="Input/output error"):
            await client.publish("orders.new", b"lost")
    with pytest.raises(Unavailable, match="restart the event server"):
        await client.publish("orders.new", b"lost")
    await process_kernel.restart("events")
    assert (await client.publish("orders.new", b"two")).offset == 2


async def test_an_interval_syncs_what_is_left_over(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config, fsync="10s")
    for _ in range(50):
        await client.publish("orders.new", b"body")
    before = (await client.events.stats()).streams["orders"].syncs
    assert before <= 2  # as the log was opened, and of the first
    await kernel.clock.sleep(11)
    assert (await client.events.stats()).streams["orders"].syncs == before + 1
    await kernel.clock.sleep(100)
    assert (await client.events.stats()).streams["orders"].syncs == before + 1


def damage(folder: str, what: bytes) -> None:
    [path] = Path(folder).glob("streams/orders/*.log")
    data = path.read_bytes()
    path.write_bytes(data.replace(what, b"?" * len(what)))


@pytest.mark.parametrize("group", ["", "g"])
async def test_subscribers_are_told_of_damage_and_can_go_on(
    kernel: TestKernel, config: dict[str, Any], group: str
) -> None:
    client = await client_of(kernel, config)
    for body in (b"first", b"second", b"third"):
        await client.publish("orders.new", body)
    await kernel.unload("events")
    damage(config["folder"], b"second")
    client = await client_of(kernel, config)
    got: list[bytes] = []
    with pytest.raises(LogDamaged, match="offset=3") as told:
        async for event in client.subscribe("orders.>", start="first", group=group):
            got.append(event.body)
    assert got == [b"first"]
    [event] = await take(client.subscribe("orders.>", offset=told.value.last + 1), 1)
    assert event.body == b"third"
    assert (await client.events.stats()).streams["orders"].damaged == 1


@pytest.mark.parametrize("group", ["", "g"])
async def test_damage_is_skipped_where_the_operator_says_so(
    kernel: TestKernel, config: dict[str, Any], group: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(kernel, config, on_damage="skip")
    for body in (b"first", b"second", b"third"):
        await client.publish("orders.new", body)
    await kernel.unload("events")
    damage(config["folder"], b"second")
    client = await client_of(kernel, config)
    with caplog.at_level(logging.ERROR):
        async with Listening(client, "orders.>", start="first", group=group) as events:
            await kernel.clock.sleep(1)
            assert events.bodies == [b"first", b"third"]
    assert events.events[1].delivery.missed == 1
    assert "offsets 2 to 2 are damaged" in caplog.text


async def test_a_member_is_told_what_was_lost_before_what_is_not_for_it(
    kernel: TestKernel, config: dict[str, Any]
) -> None:
    client = await client_of(kernel, config, on_damage="skip")
    for topic, body in (("orders.new", b"first"), ("orders.new", b"lost"), ("orders.old", b"old")):
        await client.publish(topic, body)
    await kernel.unload("events")
    damage(config["folder"], b"lost")
    client = await client_of(kernel, config)
    async with Listening(client, "orders.new", group="g", start="first", ack=True) as events:
        await kernel.clock.sleep(1)
        await client.publish("orders.new", b"last")
        await kernel.clock.sleep(1)
        assert [(event.body, event.delivery.missed) for event in events.events] == [(b"first", 0), (b"last", 1)]


@pytest.mark.parametrize("on_damage", ["stop", "skip"])
async def test_a_server_starts_though_pages_of_its_log_are_lost(
    kernel: TestKernel, config: dict[str, Any], on_damage: str
) -> None:
    """Records side by side, also in the middle, where the log is looked at first when it is opened."""
    client = await client_of(kernel, config, segment="8K", on_damage=on_damage)
    written = [b"<%d>" % number + b"." * 100 for number in range(200)]
    for body in written:
        await client.publish("orders.new", body)
    await kernel.unload("events")
    files = sorted(Path(config["folder"]).glob("streams/orders/*.log"))
    assert len(files) > 3
    whole = list(written)
    for path in files:
        data = path.read_bytes()
        numbers = [int(each) for each in re.findall(rb"<(\d+)>", data)]
        lost = numbers[10:36]
        begin, end = (data.index(written[each]) for each in (lost[0], lost[-1]))
        path.write_bytes(data[:begin] + bytes(end + 1 - begin) + data[end + 1 :])
        whole = [body for body in whole if body not in [written[each] for each in lost]]
    assert 50 < len(whole) < 100
    client = await client_of(kernel, config)
    for asked in ({"start": "first"}, {"since": kernel.clock.wall() - timedelta(hours=1)}):
        got, told = await read_to_the_end(client, 200, **asked)
        assert got == whole
        assert told == (len(files) if on_damage == "stop" else 0)
    assert (await client.publish("orders.new", b"more")).offset == 201
    if on_damage == "skip":
        async with Listening(client, "orders.>", group="g", start="first", ack=True) as events:
            await kernel.clock.sleep(1)
        assert events.bodies == [*whole, b"more"]
        assert sum(event.delivery.missed for event in events.events) == 200 - len(whole)


async def read_to_the_end(client: EventClient, last: int, **asked: Any) -> tuple[list[bytes], int]:
    """Every body up to an offset, and how often damage was told on the way."""
    got: list[bytes] = []
    told = 0
    while True:
        events = client.subscribe("orders.>", **asked)
        try:
            async for event in events:
                got.append(event.body)
                if event.offset == last:
                    return got, told
        except LogDamaged as damaged:
            asked, told = {"offset": damaged.last + 1}, told + 1
        finally:
            await events.aclose()


def cut_off(folder: str, left: int) -> None:
    """Let the last record be torn (-1), or the file end after so many bytes."""
    [path] = Path(folder).glob("streams/orders/*.log")
    os.truncate(path, path.stat().st_size - 1 if left < 0 else left)


@pytest.mark.parametrize("left", [-1, 200, HEADER_SIZE, 0])
@pytest.mark.parametrize("fsync", ["always", "1s"])
async def test_a_group_that_had_settled_what_the_disk_lost_is_given_all_that_is_published_then(
    kernel: TestKernel, config: dict[str, Any], left: int, fsync: str
) -> None:
    client = await client_of(kernel, config, fsync=fsync)
    for number in range(10):
        await client.publish("orders.new", b"old %d" % number)
    await take(client.subscribe("orders.>", start="first", group="g"), 10, ack=True)
    await kernel.unload("events")
    cut_off(config["folder"], left)
    client = await client_of(kernel, config)
    published = [await client.publish("orders.new", b"new %d" % number) for number in range(3)]
    assert all(each.offset > 10 and not each.duplicate for each in published)
    events = await take(client.subscribe("orders.>", group="g"), 3, ack=True)
    assert [event.body for event in events] == [b"new 0", b"new 1", b"new 2"]
    assert [event.offset for event in events] == [each.offset for each in published]
    figures = (await client.events.stats()).streams["orders"]
    assert figures.damaged and not figures.torn
    await kernel.restart("events")
    await client.publish("orders.new", b"newer")
    [event] = await take(client.subscribe("orders.>", group="g"), 1, ack=True)
    assert event.body == b"newer"


async def test_what_a_group_has_settled_it_goes_past_though_the_disk_has_lost_it(
    kernel: TestKernel, config: dict[str, Any]
) -> None:
    client = await client_of(kernel, config)
    for number in range(1, 6):
        await client.publish("orders.new", b"%d" % number)
    events = await take(client.subscribe("orders.>", start="first", group="g"), 5)
    for event in events[:3] + events[4:]:
        await event.ack()
    await kernel.unload("events")
    cut_off(config["folder"], -1)
    client = await client_of(kernel, config)
    await client.publish("orders.new", b"6")
    assert [event.body for event in await take(client.subscribe("orders.>", group="g"), 2)] == [b"4", b"6"]


# -- the journal of a group -------------------------------------------------------------------------------------


def test_a_journal_has_what_was_written(tmp_path: Path) -> None:
    journal = GroupJournal.create(tmp_path / "g.group", Snapshot("orders.>", 5, [Tried(3, 2, 1, 1)], [7]))
    journal.append(Settled(6))
    journal.close()
    again, entries = GroupJournal.open(tmp_path / "g.group")
    assert entries == [Snapshot("orders.>", 5, [Tried(3, 2, 1, 1)], [7]), Settled(6)]
    again.close()


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_step_is_cut_off(tmp_path: Path, cut: int) -> None:
    journal = GroupJournal.create(tmp_path / "g.group", Snapshot("orders.>", 5, [], []))
    journal.append(Settled(6))
    whole = journal.size
    journal.append(Settled(7))
    journal.close()
    os.truncate(tmp_path / "g.group", whole + cut)
    again, entries = GroupJournal.open(tmp_path / "g.group")
    assert entries[1:] == [Settled(6)]
    again.append(Settled(8))
    again.close()
    again, entries = GroupJournal.open(tmp_path / "g.group")
    assert entries[1:] == [Settled(6), Settled(8)]
    again.close()


async def test_a_journal_that_can_not_be_read_is_set_aside(
    kernel: TestKernel, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(kernel, config)
    await client.publish("orders.new", b"one")
    assert len(await take(client.subscribe("orders.>", start="first", group="g"), 1, ack=True)) == 1
    await kernel.unload("events")
    path = Path(config["folder"]) / "streams" / "orders" / "groups" / "g.group"
    path.write_bytes(b"\0" * HEADER_SIZE)
    client = await client_of(kernel, config)
    assert "a copy is kept beside it" in caplog.text and path.with_suffix(".damaged").exists()
    [event] = await take(client.subscribe("orders.>", start="first", group="g"), 1, ack=True)
    assert event.body == b"one"


async def test_a_long_journal_is_replaced_by_a_short_one(
    kernel: TestKernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mukernel.servers.events.group_journal.LONG", 500)
    client = await client_of(kernel, config)
    for _ in range(300):
        await client.publish("orders.new", b"body")
    await take(client.subscribe("orders.>", start="first", group="g"), 250, ack=True)
    path = Path(config["folder"]) / "streams" / "orders" / "groups" / "g.group"
    assert path.stat().st_size < 1500
    await kernel.restart("events")
    events = await take(client.subscribe("orders.>", group="g"), 50, ack=True)
    assert [event.offset for event in events] == list(range(251, 301))


@pytest.mark.parametrize("long", [1, 100, 1 << 20])
def test_a_group_that_is_killed_at_any_step_knows_what_was_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    monkeypatch.setattr("mukernel.servers.events.group_journal.LONG", long)
    records = [Record(offset, 1, "orders.new", b"body") for offset in range(1, 101)]

    def read(offset: int, count: int) -> tuple[list[Record], int, int]:
        found = records[offset - 1 : offset - 1 + count]
        return found, found[-1].offset + 1 if found else offset, 0

    path = tmp_path / "g.group"
    group = Group("g", "orders.>", read, lambda: 0.0)
    group.create(path, 1)
    taken = group.take("one", 100)
    assert len(taken.records) == 100
    settled: set[int] = set()
    for number in range(0, 100, 3):
        offset = (number * 37) % 100 + 1
        assert group.settle(offset)
        assert not group.settle(offset)
        settled.add(offset)
        again = Group.load(path, "g", read, lambda: 0.0)  # as after a kill -9: nothing was closed
        again.go_on()
        left = {record.offset for record, _ in again.take("two", 1000).records}
        assert left == set(range(1, 101)) - settled
        again.journal.close()
    group.journal.close()


async def test_a_folder_that_can_not_be_used_fails_the_load(process_kernel: Kernel, config: dict[str, Any]) -> None:
    Path(config["folder"]).write_text("a file")
    with pytest.raises(Unavailable, match="can't be opened"):
        await client_of(process_kernel, config)


async def test_large_plain_events_are_bounded_by_bytes(kernel: TestKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mukernel.servers.events.live.WAITING", 1000)
    live = LiveSubscriber(Subscription("x", "m", prefetch=100))
    event = Delivery("x", b"b" * 100, {"header": "h" * 294}, "", 0, kernel.clock.wall())
    assert [live.put(event) for _ in range(5)] == [0, 0, 1, 1, 1]
    assert [each.missed for each in live.take()] == [3, 0]
    assert live.size == 0
