"""Threads that a library has begun call by a blocking proxy, while who called the library holds up the event loop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from mukernel import Blocking, Interface, Kernel, Plugin, oneway

THREADS = 4
CALLS = 20


class Counter(Interface):
    async def add(self, number: int) -> int: ...
    @oneway
    async def note(self, number: int) -> None: ...
    async def noted(self) -> int: ...


class CounterPlugin(Plugin, Counter):
    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def add(self, number: int) -> int:
        return number + 1

    async def note(self, number: int) -> None:
        self.numbers.append(number)

    async def noted(self) -> int:
        return len(self.numbers)


class Summing(Interface):
    async def total(self) -> int: ...


def total_by_threads(counter: Counter) -> int:
    """What a library does: it waits for threads of its own, which call."""
    begun = Barrier(THREADS)

    def work(number: int) -> int:
        begun.wait()
        for _ in range(CALLS):
            counter.note(number)  # type: ignore[unused-coroutine]
        return sum(counter.add(number) for _ in range(CALLS))  # type: ignore[misc]

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(work, range(THREADS)))


class Library(Plugin, Summing):
    def __init__(self, counter: Blocking[Counter]) -> None:
        self.counter = counter

    def total(self) -> int:  # type: ignore[override]
        return total_by_threads(self.counter)


TOTAL = CALLS * sum(number + 1 for number in range(THREADS))


async def all_noted(kernel: Kernel) -> None:
    """Nobody waits for one-way calls."""
    while await kernel.get(Counter).noted() < THREADS * CALLS:
        pass


@pytest.mark.parametrize("placement", ["process", "inline"])
async def test_a_method_waits_for_threads_that_call(process_kernel: Kernel, placement: str) -> None:
    await process_kernel.load(CounterPlugin, name="counter", placement="process")
    await process_kernel.load(Library, placement=placement)
    summing = process_kernel.get(Summing)
    assert await summing.total() == TOTAL
    await process_kernel.swap("counter", CounterPlugin)
    assert await summing.total() == TOTAL
    await all_noted(process_kernel)


async def test_a_program_that_holds_up_its_loop_waits_for_threads_that_call(process_kernel: Kernel) -> None:
    await process_kernel.load(CounterPlugin, name="counter", placement="process")
    counter = process_kernel.get(Counter, blocking=True)
    assert total_by_threads(counter) == TOTAL
    await process_kernel.swap("counter", CounterPlugin)
    assert total_by_threads(counter) == TOTAL
    await all_noted(process_kernel)
