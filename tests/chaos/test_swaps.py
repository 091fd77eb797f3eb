"""Replacement under load: every call is executed once and answered once, whatever is swapped or moved."""

import asyncio
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from itertools import cycle, islice
from pathlib import Path

import pytest

from benchmarks.load import (
    Book,
    Caller,
    Counting,
    InterleavedRecorder,
    Load,
    NextTally,
    Recorder,
    Recording,
    Replies,
    Tally,
    executions,
)
from benchmarks.swaps import swap_under_load
from mukernel import Kernel

sys.path.insert(0, str(Path(__file__).parent))
from chaos_plugins import Relay, Relaying

PLACES = ("process", "inline", "process:shared")


def check(book: Book, issued: dict[int, int]) -> None:
    """The account that the plug-in kept agrees with what its callers did."""
    assert book.last == issued
    assert book.executed == sum(issued.values())
    assert (book.twice, book.skipped) == (0, 0)


@pytest.mark.parametrize("placement", PLACES)
async def test_swaps_in_a_row(placement: str) -> None:
    outcome = await swap_under_load(50, placement=placement)
    assert outcome.outcomes == {"reply": outcome.issued}
    assert outcome.executed == outcome.issued
    assert (outcome.lost, outcome.twice, outcome.hanging, outcome.unbooked) == (0, 0, 0, 0)


async def test_moves_between_all_placements() -> None:
    async with Kernel() as kernel:
        await kernel.load(Tally, name="tally")
        counting = kernel.get(Counting)
        calls = (counting.count, counting.count_slowly)
        replies = Replies()
        callers = [Caller(number, calls[number % 2], replies.replied) for number in range(16)]
        async with Load(callers) as load:
            for placement in islice(cycle(PLACES), 30):
                await replies.more(16)
                await kernel.move("tally", placement)
        assert load.outcomes() == {"reply": sum(caller.issued for caller in load)}
        check(await counting.book(), {caller.number: caller.issued for caller in load})


@pytest.mark.parametrize("plugin", [Recorder, InterleavedRecorder])
async def test_scaling_up_and_down(plugin: type[Recorder]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = {"journal": f"{folder}/journal"}
        async with Kernel() as kernel:
            await kernel.load(plugin, name="recorder", placement="process", config=config)
            recording = kernel.get(Recording)
            replies = Replies()
            callers = [Caller(number, recording.once, replies.replied) for number in range(16)]
            async with Load(callers) as load:
                for replicas in islice(cycle((2, 4, 1, 3)), 20):
                    await replies.more(16)
                    await kernel.scale("recorder", replicas)
        assert load.outcomes() == {"reply": sum(caller.issued for caller in load)}
        executed = executions(config["journal"])
    assert set(executed.values()) == {1}
    assert len(executed) == sum(caller.issued for caller in load)


async def test_swaps_under_calls_from_another_process() -> None:
    """The data does not pass through the kernel, so its loop is free while the swap goes on."""
    async with Kernel() as kernel:
        await kernel.load(Tally, name="tally", placement="process")
        await kernel.load(Relay, name="relay", placement="process")
        relaying = kernel.get(Relaying)
        await relaying.begin(100, 8)
        for version in islice(cycle((NextTally, Tally)), 20):
            await kernel.swap("tally", version)
        issued = await relaying.end()
        check(await kernel.get(Counting).book(), issued)


async def swap_often(kernel: Kernel) -> None:
    for version in islice(cycle((NextTally, Tally)), 20):
        await kernel.swap("tally", version)


async def move_often(kernel: Kernel) -> None:
    for placement in islice(cycle(("inline", "process:shared", "process")), 12):
        await kernel.move("tally", placement)


@pytest.mark.parametrize("replace_often", [swap_often, move_often])
async def test_replacements_under_blocking_calls_from_threads(
    replace_often: Callable[[Kernel], Awaitable[None]],
) -> None:
    async with Kernel() as kernel:
        await kernel.load(Tally, name="tally", placement="process")
        counting = kernel.get(Counting, blocking=True)
        stop = threading.Event()

        def call(caller: int) -> int:
            number = 0
            while not stop.is_set():
                number += 1
                counting.count(caller, number)
            return number

        threads = [asyncio.create_task(asyncio.to_thread(call, caller)) for caller in range(4)]
        try:
            await replace_often(kernel)
        finally:
            stop.set()
        issued = dict(enumerate(await asyncio.gather(*threads)))
        check(await kernel.get(Counting).book(), issued)
