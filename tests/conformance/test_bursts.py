"""Callers that ask again as fast as they are answered keep nobody from the rest: not the kernel, and not who is more
urgent. Whatever travels with their calls, and though their methods never wait for anything."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from conformance_worlds import WORLDS, World, between_processes, over

from mukernel import Interface, Kernel, Plugin, deadline, priority
from mukernel.core.switchboard import account_of
from mukernel.kernel import ipc
from mukernel.kernel.clock import Clock
from mukernel.transports.burst import BURST_NS

CIRCUMSTANCES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "plain": nullcontext,
    "deadline": lambda: deadline(600.0),
    "priority": lambda: priority(1),
    "limited": nullcontext,
}
CALLERS = 64


class Work(Interface):
    async def compute(self, milliseconds: float) -> int: ...
    def compute_by_itself(self, milliseconds: float) -> int: ...
    async def served(self) -> int: ...


class Computer(Plugin, Work):
    """Its calls end in their first step, and take the processor meanwhile. They return how many were served before."""

    def __init__(self) -> None:
        self.clock, self.done = Clock(), 0

    async def compute(self, milliseconds: float) -> int:
        return self.compute_by_itself(milliseconds)

    def compute_by_itself(self, milliseconds: float) -> int:
        end = self.clock.now_ns() + int(milliseconds * 1e6)
        while self.clock.now_ns() < end:
            pass
        self.done += 1
        return self.done - 1

    async def served(self) -> int:
        return self.done


@pytest.mark.parametrize("how", CIRCUMSTANCES)
@pytest.mark.parametrize("method", ["compute", "compute_by_itself"])
@between_processes
async def test_a_flood_keeps_neither_the_urgent_nor_the_kernel_waiting(
    world: World, kernel: Kernel, how: str, method: str
) -> None:
    concurrency = 8 if how == "limited" else None
    await kernel.load(Computer, name="computer", placement=world.placement, concurrency=concurrency)
    work, blocking, answered, stop = kernel.get(Work), kernel.get(Work, blocking=True), 0, False

    async def caller() -> None:
        nonlocal answered
        while not stop:
            with CIRCUMSTANCES[how]():
                if method == "compute":
                    await work.compute(1.0)
                else:
                    await asyncio.to_thread(blocking.compute_by_itself, 1.0)
            answered += 1

    def urgent() -> int:
        with priority(100):
            return blocking.served()  # type: ignore[return-value]

    callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
    while answered < 2 * CALLERS:  # noqa: ASYNC110 - they do it
        await asyncio.sleep(0)
    assert await asyncio.to_thread(urgent) > 0
    report = await kernel.swap("computer", Computer)
    assert report.ledger.lost == 0
    stop = True
    await asyncio.gather(*callers)


def on_rings(test):  # type: ignore[no-untyped-def]
    return over([world for world in WORLDS if world.transport == "ring"], test)


@pytest.mark.parametrize("how", CIRCUMSTANCES)
@on_rings
async def test_the_urgent_overtakes_what_its_own_caller_sent_before(world: World, kernel: Kernel, how: str) -> None:
    """Of 40 calls of 20 ms each, hardly any is served before it."""
    concurrency = 8 if how == "limited" else None
    await kernel.load(Computer, name="computer", placement=world.placement, concurrency=concurrency)
    work = kernel.get(Work)

    async def compute() -> int:
        with CIRCUMSTANCES[how]():
            return await work.compute(20.0)

    async def urgent() -> int:
        with priority(100):
            return await work.served()

    *computed, served = await asyncio.gather(*(compute() for _ in range(40)), urgent())
    assert sorted(computed) == list(range(40))
    assert served < 20


class Desk(Interface):
    def held(self, pipe: str) -> None: ...
    def serve(self, number: int) -> int: ...


class OneDesk(Plugin, Desk):
    """Each call keeps it for longer than a burst; it returns how many were served before."""

    def __init__(self) -> None:
        self.clock, self.served = Clock(), 0

    def held(self, pipe: str) -> None:
        with open(pipe, "rb") as opened:
            opened.read()

    def serve(self, number: int) -> int:
        end = self.clock.now_ns() + 2 * BURST_NS
        while number >= 0 and self.clock.now_ns() < end:
            pass
        self.served += number >= 0
        return self.served


@pytest.mark.skipif(ipc.ring is None, reason="the ring is not compiled here")
async def test_the_urgent_is_next_though_each_caller_has_a_channel_of_its_own(tmp_path: Path) -> None:
    """One call of each is short. They take turns all the same, and who is served is chosen among all."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    async with Kernel() as kernel:
        await kernel.load(OneDesk, name="desk", placement="process")
        desk = kernel.get(Desk, blocking=True)
        (replica,) = kernel.registry.entry("desk").replicas
        go, connected = threading.Event(), threading.Barrier(21)
        served: list[int] = []

        def call(number: int) -> int:
            desk.serve(-1)  # which connects this thread
            connected.wait()
            go.wait()
            with priority(9) if number == 20 else nullcontext():
                place = desk.serve(number)
                served.append(number)
                return place

        with ThreadPoolExecutor(22) as threads:
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(threads, call, number) for number in range(21)]
            while account_of(replica).accepted < 21:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            held = loop.run_in_executor(threads, desk.held, pipe)
            with open(await asyncio.to_thread(os.open, pipe, os.O_WRONLY), "wb"):
                go.set()
                while account_of(replica).accepted < 21 + 1 + 21:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await held
            places = await asyncio.gather(*calls)
        assert sorted(places) == list(range(1, 22))
        assert places[20] <= 3


class Hits(Interface):
    def hits(self) -> AsyncIterator[int]: ...
    async def other(self) -> None: ...


class Searching(Plugin, Hits):
    """Its items take the processor, and it waits for nothing."""

    def __init__(self) -> None:
        self.clock = Clock()

    async def hits(self) -> AsyncIterator[int]:
        for number in range(10**9):
            end = self.clock.now_ns() + 200_000
            while self.clock.now_ns() < end:
                pass
            yield number

    async def other(self) -> None:
        pass


@between_processes
async def test_streams_take_turns_with_each_other_and_with_calls(world: World, kernel: Kernel) -> None:
    """Between two replies no stream sends all that there is credit for."""
    await kernel.load(Searching, name="search", placement=world.placement)
    search = kernel.get(Hits)
    read = [0] * 16

    async def reader(number: int) -> None:
        async for _ in search.hits():
            read[number] += 1

    readers = [asyncio.ensure_future(reader(number)) for number in range(16)]
    most = 0
    while min(read) < 100:
        before = list(read)
        await search.other()
        most = max(most, *(now - then for now, then in zip(read, before, strict=True)))
        await asyncio.sleep(0)
    for each in readers:
        each.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert most < 64
    assert max(read) < 300
