"""kill -9 under load: nothing hangs, what was not being run survives, nothing runs twice that must not."""

import asyncio
import contextlib
import os
import random
import signal
import tempfile

import pytest

from benchmarks.crashes import CALLERS, TIRELESS, Watch, account, kill_under_load
from benchmarks.crashes import CrashOutcome as Outcome
from benchmarks.load import Caller, InterleavedRecorder, Load, Recorder, Recording, executions
from mukernel import Kernel, PluginCrashed, SwapFailed


def check(outcome: Outcome, interrupted: int) -> None:
    """What holds after any crash. `interrupted`: how many calls may have been under way in what died."""
    assert set(outcome.idempotent) == {"reply"}
    assert set(outcome.once) <= {"reply", PluginCrashed.__name__}
    assert outcome.crashed <= interrupted
    assert (outcome.hanging, outcome.lost, outcome.twice) == (0, 0, 0)


async def test_one_call_at_a_time() -> None:
    outcome = await kill_under_load(20)
    assert len(outcome.recoveries) == 20
    check(outcome, interrupted=20)


async def test_many_calls_under_way() -> None:
    outcome = await kill_under_load(20, plugin=InterleavedRecorder)
    check(outcome, interrupted=20 * CALLERS)


@pytest.mark.parametrize("seed", range(3))
async def test_a_process_dies_while_it_is_swapped(seed: int) -> None:
    """Whenever the old process dies during its swap, one version serves in the end, each call ends."""
    chance, outcome, watch = random.Random(seed), Outcome(), Watch()
    swaps = {"done": 0, "failed": 0}
    with tempfile.TemporaryDirectory() as folder:
        config = {"journal": f"{folder}/journal"}
        async with Kernel() as kernel:
            placed = {"placement": "process", "config": config, "restart": TIRELESS}
            await kernel.load(Recorder, name="recorder", **placed)
            recording = kernel.get(Recording)
            calls = (recording.again, recording.once)
            async with Load([Caller(n, calls[n % 2], watch.replied) for n in range(CALLERS)]) as load:
                for _ in range(10):
                    await watch.more(50)
                    swap = asyncio.create_task(kernel.swap("recorder", Recorder))
                    await watch.more(chance.randint(1, 400))
                    with contextlib.suppress(ProcessLookupError):  # the swap may have been quicker
                        os.kill(watch.process, signal.SIGKILL)
                    try:
                        await swap
                        swaps["done"] += 1
                    except SwapFailed:
                        swaps["failed"] += 1
        account(outcome, load, executions(config["journal"]))
    assert sum(swaps.values()) == 10
    check(outcome, interrupted=10)
