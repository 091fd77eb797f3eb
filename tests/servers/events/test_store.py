"""The folder of an event server: opened and closed beside the loop, and held as long as anything writes there."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from events_collecting import take, until

from mukernel import ContractError, Kernel, SwapFailed
from mukernel.servers.events import EventClient, Events, EventServer, Subscription
from mukernel.servers.events.log import AWAKE, Log
from mukernel.servers.events.segment import Record, Segment
from mukernel.servers.events.settings import StreamSettings
from mukernel.servers.events.store import FolderInUse, Store

LONG = 60.0  # seconds, after which what never comes has not come


def store_of(folder: Path) -> Store:
    return Store(folder, {"orders": StreamSettings(["orders.>"])}, lambda: 0.0, lambda: 10**9)


async def test_what_can_t_be_removed_is_reported_once_and_nobody_waits_for_it(
    process_kernel: Kernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config["streams"]["orders"] |= {"max_count": 8}
    await process_kernel.load(EventServer, name="events", config=config)
    client = EventClient(process_kernel.get(Events))

    def refused(segment: Segment) -> None:
        raise OSError(1, "Operation not permitted")

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, "mukernel.events"):
        patched.setattr(Segment, "remove", refused)
        for number in range(1, 21):
            assert (await client.publish("orders.new", b"%d" % number)).offset == number
        events = await take(client.subscribe("orders.>", start="first"), 20)
        assert [event.body for event in events] == [b"%d" % number for number in range(1, 21)]
    assert caplog.text.count("what is too old can't be removed") == 1
    await client.publish("orders.new", b"21")  # from now on it can
    assert (await client.events.stats()).streams["orders"].first > 12


async def test_a_cancelled_close_keeps_the_folder_until_nothing_is_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, begun, go_on, write = store_of(tmp_path), threading.Event(), threading.Event(), Log.write

    def slowly(log: Log, records: Any, sync: bool) -> None:
        begun.set()
        go_on.wait(LONG)
        write(log, records, sync)

    monkeypatch.setattr(Log, "write", slowly)
    publishing = asyncio.create_task(store.streams["orders"].writer.append("orders.new", b"body", {}, "", False))
    await asyncio.to_thread(begun.wait, LONG)
    closing = asyncio.create_task(store.close())
    for _ in range(3):
        await asyncio.sleep(0)
        closing.cancel()
    await asyncio.sleep(0)
    with pytest.raises(FolderInUse):
        store_of(tmp_path)
    go_on.set()
    assert isinstance(await closing, asyncio.CancelledError)
    assert (await publishing).offset == 1
    again = store_of(tmp_path)
    assert again.streams["orders"].log.end == 2
    await again.close()


async def test_what_one_stream_can_t_write_when_it_closes_keeps_no_other_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {name: StreamSettings([f"{name}.>"]) for name in ("orders", "news")}
    store = Store(tmp_path, settings, lambda: 0.0, lambda: 10**9)
    before = store.streams["news"].log.syncs
    for name, stream in store.streams.items():
        await stream.writer.append(f"{name}.new", b"body", {}, "", False)
    sync = Log.sync

    def broken(log: Log) -> None:
        if log.name == "orders":
            raise OSError(5, "Input/output error")
        sync(log)

    monkeypatch.setattr(Log, "sync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        await store.close()
    assert store.streams["news"].log.syncs == before + 2
    assert not open_files(tmp_path)


@pytest.mark.parametrize("method", ["_open", "sync"])
async def test_the_loop_goes_on_while_the_log_is_opened_and_closed(
    process_kernel: Kernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    begun, turned, seen = threading.Event(), threading.Event(), []
    plain = getattr(Log, method)

    def slowly(log: Log, *more: int) -> None:
        begun.set()
        seen.append(turned.wait(LONG))  # which only the loop sets
        plain(log, *more)

    monkeypatch.setattr(Log, method, slowly)

    async def used() -> None:
        await process_kernel.load(EventServer, name="events", config=config)
        await process_kernel.unload("events")

    using = asyncio.create_task(used())
    await until(begun.is_set)
    turned.set()
    await using
    assert seen and all(seen)


async def test_a_copy_of_a_journal_is_no_group(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(tmp_path)
    store.streams["orders"].join(Subscription("orders.>", "member", "billing"))
    await store.close()
    copy = tmp_path / "streams/orders/groups/billing (copy).group"
    copy.write_bytes(copy.with_name("billing.group").read_bytes())
    with caplog.at_level(logging.WARNING, "mukernel.events"):
        store = store_of(tmp_path)
    assert list(store.streams["orders"].groups) == ["billing"]
    assert str(copy) in caplog.text and copy.exists()
    await store.close()


@pytest.mark.parametrize("name", ["lock", f"streams/orders/{1:020}.log", "streams/orders/groups/billing.group"])
async def test_a_fifo_in_the_place_of_a_file_is_named_and_waited_for_by_nobody(tmp_path: Path, name: str) -> None:
    store = store_of(tmp_path)
    store.streams["orders"].join(Subscription("orders.>", "member", "billing"))
    await store.close()
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match=f"a regular file was wanted.*{name}"):
        store_of(tmp_path)


@pytest.mark.parametrize("fsync", ["always", "1s", "never"])
async def test_what_was_written_before_a_kill_is_synced_when_it_is_opened(tmp_path: Path, fsync: str) -> None:
    """Its publisher asks again, and is told that it is there."""
    settings = {"orders": StreamSettings(["orders.>"], fsync=fsync)}
    log = Log("orders", tmp_path / "streams/orders", settings["orders"].limits, 1000)
    log.write([Record(1, 10**9, "orders.new", b"body", {}, "one")], sync=False)
    log.close()
    store = Store(tmp_path, settings, lambda: 0.0, lambda: 10**9)
    stream = store.streams["orders"]
    assert stream.log.syncs == (fsync != "never")
    assert (await stream.writer.append("orders.new", b"body", {}, "one", False)).duplicate
    await store.close()


async def test_more_than_one_replica_is_refused(process_kernel: Kernel, config: dict[str, Any]) -> None:
    how = {"name": "events", "placement": "process", "config": config}
    with pytest.raises(ContractError, match=r"replicas: got 2, wanted 1 for 'events'"):
        await process_kernel.load(EventServer, replicas=2, **how)
    await process_kernel.load(EventServer, **how)
    with pytest.raises(SwapFailed, match=r"replicas: got 2, wanted 1 for 'events'"):
        await process_kernel.scale("events", 2)
    client = EventClient(process_kernel.get(Events))
    assert [(await client.publish("orders.new", b"body")).offset for _ in range(4)] == [1, 2, 3, 4]


async def test_a_forked_child_does_not_hold_the_folder(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"kept" if tmp_path / "lock" in open_files(tmp_path) else b"free")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "free", "else it outlives a parent that is killed"
    with pytest.raises(FolderInUse):
        store_of(tmp_path)
    forked = os.dup(store.lock.descriptor)  # what a child has that was forked just now
    await store.close()
    await store_of(tmp_path).close()
    os.close(forked)


async def test_few_segments_are_open_at_a_time(tmp_path: Path) -> None:
    settings = {"orders": StreamSettings(["orders.>"], segment=100)}
    store = Store(tmp_path, settings, lambda: 0.0, lambda: 10**9)
    stream = store.streams["orders"]
    for _ in range(20):
        await stream.writer.append("orders.new", b"x" * 100, {}, "", False)
    assert len(stream.log.segments) == 20
    assert len(open_files(tmp_path, ".log")) <= AWAKE + 1, "what was sealed"
    for offset in range(1, 21):
        assert stream.log.read(offset, 1)[0].offset == offset
        stream.log.read(1, 1)
        assert tmp_path / "streams/orders/00000000000000000001.log" in open_files(tmp_path), "it is read all the time"
    assert len(open_files(tmp_path, ".log")) <= AWAKE + 1, "what was read"
    await store.close()
    assert not open_files(tmp_path)


def open_files(folder: Path, suffix: str = "") -> set[Path]:
    """The files in a folder that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            path = Path(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
        if path.is_relative_to(folder) and path.name.endswith(suffix):
            found.add(path)
    return found
