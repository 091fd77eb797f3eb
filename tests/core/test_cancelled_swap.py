"""Who waits for a swap may be cancelled; the swap is done to its end, and the plug-in serves."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from core_samples import Counter, Tally

from mukernel import Kernel


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_swap_that_is_cancelled_at_any_moment_leaves_one_that_serves(kernel: Kernel, placement: str) -> None:
    await kernel.load(Tally, name="counter", placement=placement)
    counter = kernel.get(Counter)
    cancelled = 0
    for turns in range(0, 60, 3):
        swap = asyncio.create_task(kernel.swap("counter", Tally))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled += swap.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await swap
        assert await counter.add(1) > 0
    assert cancelled, "most swaps had ended before they could be cancelled"
    report = await kernel.swap("counter", Tally)
    assert not report.rolled_back
    assert (await kernel.ledger("counter")).lost == 0
