"""One-way calls that were accepted are run, though their caller lets go of its channel, is replaced or dies meanwhile;
and a caller that has as many calls under way as its channel can account for holds up nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from core_samples import Diary, Scribe, blow
from waiting import until

from mukernel import Interface, Kernel, Plugin, oneway

COUNT = 50


class Notes(Interface):
    @oneway
    async def note(self, number: int, path: str) -> None: ...


class Notebook(Scribe, Notes):
    async def note(self, number: int, path: str) -> None:
        await asyncio.sleep(0)
        with open(path, "a") as file:
            file.write(f"{number}\n")


class Writing(Interface):
    async def write(self, count: int, path: str) -> int: ...


class Writer(Plugin, Writing):
    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    async def write(self, count: int, path: str) -> int:
        for number in range(count):
            await self.notes.note(number, path)
        return os.getpid()


async def swap(kernel: Kernel, pid: int) -> None:
    await kernel.swap("writer", Writer)


async def kill(kernel: Kernel, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until(lambda: any(each.what == "crash" for each in kernel.events))


async def unload(kernel: Kernel, pid: int) -> None:
    await kernel.unload("writer")


async def scale(kernel: Kernel, pid: int) -> None:
    await kernel.scale("notebook", 2)


Change = Callable[[Kernel, int], Awaitable[None]]


@pytest.mark.parametrize("transport", ["ring", "socket"])
@pytest.mark.parametrize("change", [swap, kill, unload, scale])
@pytest.mark.parametrize("then", ["nothing", "swap", "kill", "scale to one"])
async def test_what_was_accepted_is_run(
    transport: str, change: Change, then: str, whistle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    os.mkfifo(whistle.path + ".open")
    written = tmp_path / "written"
    async with Kernel() as kernel:
        replicas = 2 if then == "scale to one" else 1
        await kernel.load(Notebook, placement="process", concurrency=1, replicas=replicas)
        await kernel.load(Writer, placement="process")
        gates = [asyncio.create_task(kernel.get(Diary).gate(whistle.path)) for _ in range(replicas)]
        for _ in gates:
            await whistle.heard()  # the one place there is, is taken
        pid = await kernel.get(Writing).write(COUNT, str(written))
        await change(kernel, pid)
        changing: asyncio.Future[Any] | None = None
        if then == "swap":
            changing = asyncio.ensure_future(kernel.swap("notebook", Notebook))
        elif then == "scale to one":
            changing = asyncio.ensure_future(kernel.scale("notebook", 1))
        if then == "kill":
            instance = kernel.registry.entry("notebook").replicas[0].instance
            assert instance is not None
            os.kill(instance.place.pid, signal.SIGKILL)
        else:
            gate_pipe = os.open(whistle.path + ".open", os.O_RDWR | os.O_NONBLOCK)  # one who reads it may be gone
            os.write(gate_pipe, b"open\n" * len(gates))
        await until(lambda: written.exists() and len(written.read_text().split()) >= COUNT)
        await asyncio.gather(*gates, return_exceptions=True)
        if changing is not None:
            await changing
        entry = kernel.registry.entry("notebook")
        await until(lambda: not any(replica.abandoned for replica in entry.replicas))
        assert sorted(map(int, written.read_text().split())) == list(range(COUNT))
        account = await kernel.ledger("notebook")
        assert account.lost == 0 and account.waiting == 0 and account.accepted == account.replied + account.refused
        assert account.refused == (then == "kill") * len(gates)


async def test_what_a_thread_has_sent_is_run_after_its_end(whistle: Any, tmp_path: Path) -> None:
    os.mkfifo(whistle.path + ".open")
    written = tmp_path / "written"
    async with Kernel() as kernel:
        await kernel.load(Notebook, placement="process", concurrency=1)
        gate = asyncio.create_task(kernel.get(Diary).gate(whistle.path))
        await whistle.heard()
        notes = kernel.get(Notes, blocking=True)

        def write() -> None:
            for number in range(COUNT):
                notes.note(number, str(written))

        await asyncio.to_thread(write)
        await asyncio.get_running_loop().shutdown_default_executor()  # the thread ends
        blow(whistle.path + ".open")
        await gate
        await until(lambda: written.exists() and len(written.read_text().split()) >= COUNT)


class Watch(Interface):
    def watch(self) -> AsyncIterator[int]: ...
    def plus(self, number: int) -> int: ...


class Watched(Plugin, Watch):
    async def watch(self) -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    def plus(self, number: int) -> int:
        return number + 1


@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_who_has_as_many_calls_under_way_as_a_channel_takes_holds_up_nobody_else(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    async with Kernel() as kernel:
        await kernel.load(Watched, placement="process", drain=0.1)
        watch = kernel.get(Watch, when_full="wait")
        streams = [watch.watch() for _ in range(1030)]
        await asyncio.gather(*(anext(stream) for stream in streams[:1024]))
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams[1024:]]
        await asyncio.sleep(0)
        other = kernel.get(Watch, blocking=True)
        assert await asyncio.to_thread(other.plus, 1) == 2
        own = asyncio.ensure_future(anext(watch.watch()))  # waits behind the six
        for stream in streams[:7]:
            await stream.aclose()
        assert await own == 1
        assert await asyncio.gather(*waiting) == [1] * 6


@pytest.mark.parametrize("placement", ["process", "inline"])
async def test_who_waits_for_room_is_not_left_behind_by_a_scale_or_a_move(placement: str, whistle: Any) -> None:
    os.mkfifo(whistle.path + ".open")
    async with Kernel() as kernel:
        await kernel.load(Notebook, placement="process", concurrency=1)
        gate = asyncio.create_task(kernel.get(Diary).gate(whistle.path))
        await whistle.heard()
        diary = kernel.get(Diary, when_full="wait")
        calls = [asyncio.create_task(diary.enter(str(number))) for number in range(1100)]  # 1,024 may wait
        await asyncio.sleep(0)
        if placement == "inline":
            changing = asyncio.ensure_future(kernel.move("notebook", "inline"))
        else:
            changing = asyncio.ensure_future(kernel.scale("notebook", 2))
            await changing
        pipe = os.open(whistle.path + ".open", os.O_RDWR | os.O_NONBLOCK)
        os.write(pipe, b"open\n")
        await gate
        await asyncio.gather(changing, *calls)
        os.close(pipe)
