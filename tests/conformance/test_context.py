"""Deadlines and priorities as their caller sets them."""

from __future__ import annotations

import asyncio
import contextlib
import math
from contextvars import Context, copy_context
from typing import Any

import pytest

import mukernel
from mukernel import DeadlineExceeded, deadline, priority
from mukernel.kernel.clock import VirtualClock
from mukernel.transports.context import current


def context() -> tuple[int, int]:
    found = current.get()
    assert found is not None
    return found.deadline, found.priority


def test_of_nested_deadlines_the_earlier_holds() -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with mukernel.deadline(10):
            outer = context()[0]
            with mukernel.deadline(20):
                assert context()[0] == outer
            with mukernel.deadline(5):
                assert context()[0] < outer
            assert context()[0] == outer
        assert current.get() is None

    clock.run(main())


def test_a_deadline_cuts_off_whatever_is_awaited() -> None:
    clock = VirtualClock()

    async def main() -> None:
        began = clock.now()
        with pytest.raises(DeadlineExceeded, match="3 s"):
            async with mukernel.deadline(60), mukernel.deadline(3):
                await asyncio.sleep(30)
        assert clock.now() == pytest.approx(began + 3)
        assert current.get() is None

    clock.run(main())


def test_a_deadline_that_is_set_by_with_cuts_off_the_same() -> None:
    clock = VirtualClock()

    async def main() -> None:
        began = clock.now()
        with pytest.raises(DeadlineExceeded, match="3 s"), mukernel.deadline(60), mukernel.deadline(3):
            await asyncio.sleep(30)
        assert clock.now() == pytest.approx(began + 3)
        task = asyncio.current_task()
        assert task is not None and not task.cancelling() and current.get() is None
        with mukernel.deadline(3):
            await asyncio.sleep(1)
        await asyncio.sleep(30)  # nothing is left of it
        with pytest.raises(DeadlineExceeded), mukernel.deadline(60):
            with pytest.raises(DeadlineExceeded), mukernel.deadline(5):
                await asyncio.sleep(30)
            with mukernel.deadline(100):
                await asyncio.sleep(90)

    clock.run(main())


def test_a_body_that_ends_all_the_same_is_not_called_late() -> None:
    async def main() -> None:
        with mukernel.deadline(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
            result = "saved"
        task = asyncio.current_task()
        assert result == "saved" and task is not None and not task.cancelling()
        await asyncio.sleep(1)

    VirtualClock().run(main())


def test_an_infinite_deadline_is_none_of_its_own() -> None:
    async def main() -> None:
        async with mukernel.deadline(math.inf):
            assert context()[0] == 0
            await asyncio.sleep(1e6)
            async with mukernel.deadline(5):
                outer = context()[0]
                with mukernel.deadline(math.inf):
                    assert context()[0] == outer
        async with mukernel.deadline(1e9):
            assert 0 < context()[0] < 2**63

    VirtualClock().run(main())


@pytest.mark.parametrize("seconds", [-1, -math.inf, math.nan, 1e12, 10**400, "a", None, True])
def test_what_is_no_deadline_says_what_was_wanted(seconds: Any) -> None:
    with pytest.raises(ValueError, match=r"^seconds: got .*, wanted a number from 0 to 1,000,000,000, or math.inf"):
        mukernel.deadline(seconds)


def test_what_the_body_raises_goes_through() -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            async with mukernel.deadline(60):
                raise KeyError
        with pytest.raises(TimeoutError):
            async with mukernel.deadline(60):
                raise TimeoutError("of its own")

    VirtualClock().run(main())


def test_cancelling_is_not_mistaken_for_a_deadline() -> None:
    async def main() -> None:
        async def work(clean_up: float) -> None:
            with mukernel.deadline(60):
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(clean_up)

        for clean_up in (0, 100):  # which the deadline cuts off
            task = asyncio.ensure_future(work(clean_up))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    VirtualClock().run(main())


def test_priorities_nest_and_keep_the_deadline() -> None:
    with mukernel.deadline(60), mukernel.priority(3):
        assert context()[0] > 0 and context()[1] == 3
        with mukernel.priority(-128):
            assert context()[1] == -128
        assert context()[1] == 3
    assert current.get() is None


@pytest.mark.parametrize("level", [-129, 128, 1.5, True, "high"])
def test_a_priority_out_of_range_is_refused(level: object) -> None:
    with pytest.raises(ValueError, match="level: got"):
        mukernel.priority(level)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_deadline_in_the_past_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds: got"):
        mukernel.deadline(seconds)


def test_one_deadline_is_for_one_block() -> None:
    limit = mukernel.deadline(60)
    with limit, pytest.raises(RuntimeError, match="in use"), limit:
        pass


def test_what_outlives_an_inner_block_is_bound_by_the_outer_one() -> None:
    with deadline(3600), priority(7):
        outer = current.get()
        assert outer is not None
        with deadline(1), priority(9):
            inner = current.get()
            assert inner is not None and inner.priority == 9 and inner.deadline < outer.deadline
        assert (inner.priority, inner.deadline) == (7, outer.deadline)
    assert (inner.priority, inner.deadline, outer.deadline) == (0, 0, 0)


def test_blocks_within_what_is_over_hold_on_to_nothing() -> None:
    """As those of a task that begins the next one of its kind, for ever."""
    present = copy_context()

    def begin_next() -> Context:
        with deadline(3600), priority(1):
            return copy_context()

    for _ in range(3000):
        present = present.run(begin_next)
    last = present[current]
    assert last is not None and last.deadline == 0
    depth = 0
    while last is not None:
        last, depth = last.outer, depth + 1
    assert depth < 5
