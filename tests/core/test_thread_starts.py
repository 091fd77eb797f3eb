"""A process that can start no thread, for want of memory or of `processes`: its calls wait for one that it has, or are
told that they were not run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from mukernel import Interface, Kernel, Overloaded, Plugin

TOO_LARGE = 1 << 46  # bytes: no stack has room for that


class Work(Interface):
    async def permit_threads(self, permitted: bool) -> None: ...
    async def work(self, until_let_go: bool = False) -> int: ...
    async def begun(self) -> None: ...
    async def let_go(self) -> int: ...
    def items(self) -> Iterator[int]: ...


class Worker(Plugin, Work):
    def __init__(self) -> None:
        self.runs, self.waits, self.go = 0, asyncio.Event(), threading.Event()
        self.loop = asyncio.get_running_loop()

    async def permit_threads(self, permitted: bool) -> None:
        threading.stack_size(0 if permitted else TOO_LARGE)

    def work(self, until_let_go: bool = False) -> int:  # type: ignore[override]
        if until_let_go:
            self.loop.call_soon_threadsafe(self.waits.set)
            self.go.wait()
        self.runs += 1
        return self.runs

    async def begun(self) -> None:
        await self.waits.wait()

    async def let_go(self) -> int:
        self.go.set()
        return self.runs

    def items(self) -> Iterator[int]:
        yield self.work()


async def test_what_no_thread_can_be_started_for_was_not_run_and_the_next_is(kernel: Kernel) -> None:
    await kernel.load(Worker, placement="process", threads=2)
    work = kernel.get(Work, blocking=False)
    await work.permit_threads(False)
    for _ in range(3):  # more than it has threads
        with pytest.raises(Overloaded, match=r"no thread could be started: .*wanted fewer `threads`, or more `memory`"):
            await work.work()
        with pytest.raises(Overloaded, match="no thread could be started"):
            await asyncio.to_thread(list, kernel.get(Work, blocking=True).items())
    await work.permit_threads(True)
    assert await work.work() == 1
    assert await asyncio.to_thread(list, kernel.get(Work, blocking=True).items()) == [2]
    await kernel.swap("worker", Worker)


async def test_what_no_further_thread_can_be_started_for_waits_for_one(kernel: Kernel) -> None:
    await kernel.load(Worker, placement="process", threads=4)
    work = kernel.get(Work)
    first = asyncio.ensure_future(work.work(True))
    await work.begun()
    await work.permit_threads(False)
    others = [asyncio.ensure_future(work.work()) for _ in range(8)]
    assert await work.let_go() == 0
    assert sorted(await asyncio.gather(first, *others)) == [*range(1, 10)]
    await work.permit_threads(True)
    await kernel.swap("worker", Worker)
