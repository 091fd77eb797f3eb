"""The test kernel: what it does is what a kernel does, in one thread, at once, and the same each time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from testing_samples import Arithmetic, Counter, Doubling, Nested, Nesting, Standing, Tally, Twofold

import mukernel
from mukernel import ContractError, DeadlineExceeded, PluginCrashed
from mukernel.kernel.clock import DeadlockError
from mukernel.testing import TestKernel, Weather

PLACEMENTS = ["inline", "process", "process:shared"]


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_hours_pass_at_once(kernel: TestKernel, placement: str) -> None:
    await kernel.load(Tally, placement=placement)
    began = kernel.clock.now()
    assert await kernel.get(Counter).slowly(10_000) == 0
    assert kernel.clock.now() == pytest.approx(began + 10_000)


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_values_pass_through_the_codec(kernel: TestKernel, placement: str) -> None:
    await kernel.load(Tally, placement=placement)
    with pytest.raises(ContractError):
        await kernel.get(Counter).add("one")  # type: ignore[arg-type]


async def test_a_swap_under_load_loses_nothing(kernel: TestKernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    calls = [asyncio.ensure_future(counter.add(1)) for _ in range(500)]
    for placement in ("process:a", "inline", "process", "inline", "process:b"):
        report = await kernel.move("counter", placement)
        assert not report.rolled_back
        calls += [asyncio.ensure_future(counter.add(1)) for _ in range(100)]
    assert sorted(await asyncio.gather(*calls)) == list(range(1, 1001))


async def test_a_gate_is_opened_though_what_is_run_waits_for_it(kernel: TestKernel) -> None:
    """The calls that a move carried over have their turn before later ones, but for one that holds them up itself."""
    await kernel.load(Nested, placement="process", concurrency=1)
    nesting = Nested.caller = kernel.get(Nesting)
    calls = [asyncio.ensure_future(nesting.nested()) for _ in range(5)]
    await kernel.clock.sleep(0.005)
    report = await kernel.move("nested", "inline")
    assert report.carried_over == 5  # four in the mailbox, and one at the gate: that which the first makes
    assert await asyncio.gather(*calls) == [0, 1, 1, 1, 1]


async def test_a_process_that_is_killed_is_started_again(kernel: TestKernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", checkpoint=5)
    counter = kernel.get(Counter)
    assert await counter.add(7) == 7
    await kernel.clock.sleep(6)  # a checkpoint has been taken
    lost, kept = asyncio.ensure_future(counter.slowly(60)), asyncio.ensure_future(counter.again(60))
    await kernel.clock.sleep(1)
    await kernel.kill("counter")
    with pytest.raises(PluginCrashed):
        await lost
    assert await kept == 7
    assert [event.what for event in kernel.events] == ["load", "crash", "restart"]
    with pytest.raises(ValueError, match="inline"):
        await kernel.move("counter", "inline")
        await kernel.kill("counter")


async def test_nobody_is_answered_by_what_was_killed(kernel: TestKernel) -> None:
    await kernel.load(Twofold, placement="process")
    assert await kernel.get(Counter).add(1) == 1
    await kernel.kill("twofold")
    assert await kernel.get(Standing).total() == 0  # by a route of its own, to its successor


async def test_what_crashes_too_often_is_given_up_after_its_back_off(kernel: TestKernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    while kernel.events[-1].what != "given up":
        await kernel.kill("counter")
        await kernel.clock.sleep(1)
    assert [event.what for event in kernel.events].count("restart") == 5


async def test_deadlines_are_of_virtual_time(kernel: TestKernel) -> None:
    await kernel.load(Tally, placement="process")
    began = kernel.clock.now()
    with pytest.raises(DeadlineExceeded):
        async with mukernel.deadline(1000):
            await kernel.get(Counter).slowly(2000)
    assert kernel.clock.now() == pytest.approx(began + 1000)


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_method_that_blocks_and_runs_at_once_can_be_called(kernel: TestKernel, placement: str) -> None:
    await kernel.load(Doubling, placement=placement)
    assert kernel.get(Arithmetic).double(21) == 42


async def test_a_blocking_call_that_nobody_could_answer_says_so(kernel: TestKernel) -> None:
    await kernel.load(Tally, placement="process")
    with pytest.raises(RuntimeError, match="blocking call"):
        kernel.get(Counter, blocking=True).slowly(1)  # type: ignore[unused-coroutine]


async def test_a_blocking_call_from_another_thread_says_what_to_do(kernel: TestKernel) -> None:
    await kernel.load(Doubling, placement="process")
    blocking = kernel.get(Arithmetic, blocking=True)
    with pytest.raises(RuntimeError, match=r"from another thread \(asyncio.to_thread, .*process_kernel"):
        await asyncio.to_thread(blocking.double, 21)
    assert blocking.double(21) == 42


def test_a_program_that_can_never_end_is_told_so() -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Tally, placement="process")
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        TestKernel().run(main)


def history(seed: int) -> list[tuple[float, str, int]]:
    """What three callers were answered, and when, in the weather of a seed."""
    seen: list[tuple[float, str, int]] = []

    async def main(kernel: TestKernel) -> None:
        await kernel.load(Tally, name="counter", placement="process")
        counter = kernel.get(Counter)

        async def caller(name: str) -> None:
            for _ in range(20):
                seen.append((kernel.clock.now(), name, await counter.add(1)))

        tasks = [asyncio.ensure_future(caller(name)) for name in "abc"]
        await kernel.clock.sleep(1)
        await kernel.move("counter", "process:elsewhere")
        await asyncio.gather(*tasks)

    TestKernel(weather=Weather(seed, delay=(0.01, 0.4))).run(main)
    return seen


def test_a_seed_decides_everything() -> None:
    assert history(1) == history(1)
    assert history(1) != history(2)
    assert sorted(total for _, _, total in history(3)) == list(range(1, 61))


@pytest.mark.parametrize("delay", [(0.0, 0.2), (0.1, 0.1)])
@pytest.mark.parametrize("seed", range(3))
def test_delayed_messages_of_one_channel_keep_their_order(seed: int, delay: tuple[float, float]) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    async def main(kernel: TestKernel) -> None:
        await kernel.load(Tally, placement="process")
        counter = kernel.get(Counter)
        assert [number async for number in counter.count(100)] == list(range(100))
        assert [number async for number in counter.echo(numbers())] == list(range(100))
        assert await asyncio.gather(*(counter.add(1) for _ in range(100))) == list(range(1, 101))

    TestKernel(weather=Weather(seed, delay)).run(main)


def test_connections_are_lost_and_made_again() -> None:
    ends: list[object] = []

    async def main(kernel: TestKernel) -> None:
        await kernel.load(Tally, placement="process")
        counter = kernel.get(Counter)
        for _ in range(300):
            try:
                ends.append(await counter.again(0))
            except mukernel.MukernelError as error:
                ends.append(error)
                await kernel.clock.sleep(0.1)

    TestKernel(weather=Weather(5, loss=0.02)).run(main)
    lost = [end for end in ends if not isinstance(end, int)]
    assert 0 < len(lost) < 100 and len(ends) == 300


@pytest.mark.parametrize(("field", "value"), [("delay", (2.0, 1.0)), ("delay", (-1.0, 1.0)), ("loss", 1.5)])
def test_weather_that_can_not_be(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field}: got"):
        Weather(**{field: value})  # type: ignore[arg-type]
