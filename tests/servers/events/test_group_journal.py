"""What becomes of a group whose journal is damaged, or can't be written since the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mukernel import ContractError, Unavailable
from mukernel.servers.events import EventClient, Events, EventServer, Subscription
from mukernel.servers.events.group import Group
from mukernel.servers.events.records import HEADER_SIZE
from mukernel.servers.events.settings import StreamSettings
from mukernel.servers.events.store import Store
from mukernel.servers.events.stream import Stream
from mukernel.testing import TestKernel

COUNT = 8


def store_of(folder: Path) -> Store:
    """A work queue whose segments hold an event or two."""
    jobs = StreamSettings(["jobs.>"], retention="workqueue", segment=100)
    return Store(folder, {"jobs": jobs}, lambda: 0.0, lambda: 10**9)


async def publish(stream: Stream, count: int) -> None:
    for _ in range(count):
        await stream.writer.append("jobs.new", b"x" * 100, {}, "", False)


def join(stream: Stream, group: str, pattern: str = "jobs.*") -> None:
    stream.join(Subscription(pattern, "member", group, start="new"))


def offsets(stream: Stream, group: str) -> list[int]:
    """Of all that the group is given now."""
    found: list[int] = []
    while taken := stream.groups[group].take("member", 1000).records:
        found += [record.offset for record, _ in taken]
    return found


@pytest.mark.parametrize("place", [9, HEADER_SIZE + 6])
async def test_a_group_with_a_damaged_journal_is_given_all_that_the_log_has(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(tmp_path)
    stream = store.streams["jobs"]
    for group in ("busy", "idle"):
        join(stream, group)
    await publish(stream, COUNT)
    for group, settled in (("busy", COUNT), ("idle", 5)):
        for offset in offsets(stream, group)[:settled]:
            stream.groups[group].settle(offset)
    stream.retain()
    first = stream.log.first
    assert first == 6
    await store.close()
    path = tmp_path / "streams/jobs/groups/idle.group"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    await store_of(tmp_path).close()
    assert "idle" in caplog.text and path.with_suffix(".damaged").read_bytes() == data
    store = store_of(tmp_path)
    stream = store.streams["jobs"]
    await publish(stream, 1)
    assert stream.log.first == first
    join(stream, "idle")
    assert offsets(stream, "idle") == list(range(first, COUNT + 2))
    await store.close()
    store = store_of(tmp_path)
    with pytest.raises(ContractError, match=r"wanted 'jobs\.\*'"):
        join(store.streams["jobs"], "idle", "jobs.>")
    await store.close()


# -- a full disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]).returncode:
        pytest.skip("only who may mount has a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_work_queue_that_has_filled_its_disk_is_worked_off(
    kernel: TestKernel, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = {"topics": ["jobs.>"], "retention": "workqueue", "segment": "100K"}
    config = {"folder": str(small_disk / "events"), "streams": {"jobs": jobs}}
    await kernel.load(EventServer, name="events", config=config)
    client = EventClient(kernel.get(Events))
    events = client.subscribe("jobs.>", group="workers", start="first")
    last = (await client.publish("jobs.new", b"first")).offset
    event = await anext(events)
    with pytest.raises(Unavailable, match="No space left"):
        while True:
            last = (await client.publish("jobs.new", b"x" * 1000)).offset
    for offset in range(1, last + 1):
        assert event.offset == offset and await event.ack()
        event = event if offset == last else await anext(events)
    assert "until there is room" in caplog.text
    assert (await client.publish("jobs.new", b"x" * 1000)).offset == last + 1
    await events.aclose()
    await kernel.unload("events")
    await kernel.load(EventServer, name="events", config=config)
    client = EventClient(kernel.get(Events))
    figures = (await client.events.stats()).streams["jobs"]
    assert figures.groups["workers"].settled == last and figures.first > 1
    assert (figures.torn, figures.damaged) == (0, 0)


async def test_a_group_on_a_full_disk_settles_and_writes_it_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(tmp_path)
    stream = store.streams["jobs"]
    join(stream, "idle")
    join(stream, "busy")
    await publish(stream, 3)
    group = stream.groups["busy"]
    first, second, third = offsets(stream, "busy")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def known() -> int:
        return Group.load(group.journal.path, "busy", stream.read, lambda: 0.0).floor

    with monkeypatch.context() as patched:
        patched.setattr("mukernel.servers.events.group_journal.write_all", full)
        patched.setattr("mukernel.servers.events.group_journal.replace_file", full)
        assert group.settle(first) and group.settle(second)
        assert caplog.text.count("until there is room") == 1
        assert (known(), group.floor) == (0, 2)
    assert group.settle(third)
    assert known() == 3
    with monkeypatch.context() as patched:
        patched.setattr("mukernel.servers.events.group_journal.replace_file", full)
        await store.close()
    assert caplog.text.count("stays as it is") == 2 and known() == 3


async def test_what_a_full_disk_kept_out_of_a_journal_a_swapped_server_writes(
    kernel: TestKernel, tmp_path: Path, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"folder": str(small_disk / "events"), "streams": {"jobs": {"topics": ["jobs.>"]}}}
    await kernel.load(EventServer, name="events", config=config)
    client = EventClient(kernel.get(Events))
    last = (await client.publish("jobs.new", b"first")).offset
    events = client.subscribe("jobs.>", group="workers", start="first")
    event = await anext(events)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 400_000)
    with pytest.raises(Unavailable, match="No space left"):
        while True:
            last = (await client.publish("jobs.new", b"x" * 1000)).offset
    while "until there is room" not in caplog.text:
        assert await event.ack()
        event = await anext(events)
    await events.aclose()
    assert not (await kernel.swap("events", EventServer)).rolled_back
    filler.unlink()
    await client.publish("jobs.new", b"x")  # with that somebody looks whether there is room
    batches = client.events.subscribe(Subscription("jobs.>", "member", "workers"))
    await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined]
    copy = tmp_path / "copy"  # what a kill leaves
    shutil.copytree(small_disk / "events", copy)
    store = Store(copy, {"jobs": StreamSettings(["jobs.>"])}, lambda: 0.0, lambda: 10**9)
    stream = store.streams["jobs"]
    assert (stream.groups["workers"].floor, stream.log.end) == (event.offset - 1, last + 2)
    await store.close()
