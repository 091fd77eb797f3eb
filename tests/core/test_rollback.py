"""A swap that fails, at each of its steps: the old version serves on, its state whole, no call lost."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import core_faulty as faulty
import pytest
from core_samples import Counter, Sum, Summing, Tally, Tally2
from waiting import until_state

from mukernel import ContractError, Kernel, MukernelError, NotFound, SwapFailed, Unavailable
from mukernel.core.lifecycle import State

PLACEMENTS = ("inline", "process")

STEPS: list[tuple[type | str, str]] = [
    ("core_faulty:Missing", "wanted a class"),
    ("no_such_module:Thing", "no module 'no_such_module'"),
    (faulty.RaisesInConstructor, "no such disk"),
    (faulty.RaisesInStart, "the database does not answer"),
    (faulty.RaisesInHealth, "the index is empty"),
    (faulty.RaisesInRestore, "total"),
    (faulty.OtherState, "restore can't read the state"),
    (faulty.HalfCounter, "does not implement Counter"),
    (faulty.NoCounter, "implements no interface"),
    (faulty.NarrowTally, "the major version was 1.0, is 2.0"),
]
DEATHS: list[type] = [faulty.DiesInConstructor, faulty.DiesInStart, faulty.DiesInRestore]


async def under_load(counter: Counter, work: Callable[[], Awaitable[Any]]) -> int:
    """Run `work` while eight callers add 1; how many calls they made. A call that fails fails the test."""
    made, stop = 0, False

    async def caller() -> None:
        nonlocal made
        while not stop:
            await counter.add(1)
            made += 1
            await asyncio.sleep(0)

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    try:
        await work()
    finally:
        stop = True
        await asyncio.gather(*callers)
    return made


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("successor", "reason"), STEPS, ids=[str(getattr(s, "__name__", s)) for s, _ in STEPS])
async def test_a_failing_step_rolls_back(kernel: Kernel, placement: str, successor: type | str, reason: str) -> None:
    await kernel.load(Tally, name="counter", placement=placement, config={"start_at": 100})
    counter = kernel.get(Counter)
    before = await counter.where()

    async def swap() -> None:
        with pytest.raises(SwapFailed) as caught:
            await kernel.swap("counter", successor, config={})
        report = caught.value.report  # type: ignore[attr-defined]
        assert report.rolled_back
        assert reason in str(report.reason)
        assert reason in str(caught.value)

    made = await under_load(counter, swap)
    assert await counter.value() == 100 + made
    assert (await counter.version(), await counter.where()) == ("one", before)
    assert (await kernel.swap("counter", Tally2, config={})).rolled_back is False
    assert (await counter.version(), await counter.value()) == ("two", 100 + made)


@pytest.mark.parametrize("successor", DEATHS, ids=[each.__name__ for each in DEATHS])
async def test_a_successor_that_dies_is_rolled_back(kernel: Kernel, successor: type) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)

    async def swap() -> None:
        with pytest.raises(SwapFailed, match=r"gone|died|signal 9"):
            await kernel.swap("counter", successor, config={})

    made = await under_load(counter, swap)
    assert await counter.value() == made
    assert await counter.version() == "one"
    assert len(kernel.places) == 1, "the dead successor's process is still listed"


async def test_a_successor_that_is_killed_while_it_starts(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    swap = asyncio.create_task(kernel.swap("counter", faulty.WaitsInStart, config={"whistle": whistle.path}))
    pid, _ = await whistle.heard()
    assert await counter.add(1) == 1, "the old version serves while the new one warms"
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SwapFailed):
        await swap
    assert await counter.add(1) == 2


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_swap_that_is_cancelled_is_rolled_back(kernel: Kernel, whistle: Any, placement: str) -> None:
    await kernel.load(Tally, name="counter", placement=placement)
    counter = kernel.get(Counter)
    places = len(kernel.places)
    listening = asyncio.create_task(whistle.heard())
    swap = asyncio.create_task(kernel.swap("counter", faulty.WaitsInStart, config={"whistle": whistle.path}))
    await listening
    swap.cancel()
    with pytest.raises(asyncio.CancelledError):
        await swap
    event = kernel.events[-1]
    assert (event.what, event.plugin) == ("rolled back", "counter")
    assert event.detail.startswith("the swap was cancelled: who asked for it has gone")
    assert await counter.add(1) == 1
    assert len(kernel.places) == places
    await kernel.swap("counter", Tally2)
    assert await counter.version() == "two"


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_what_is_never_done_ends_the_drain_and_the_old_one_goes_on(
    kernel: Kernel, whistle: Any, placement: str
) -> None:
    await kernel.load(Tally, name="counter", placement=placement)
    counter = kernel.get(Counter)
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    with pytest.raises(SwapFailed, match=r"after 0.05 s 1 calls? w\w+ still running"):
        await kernel.swap("counter", Tally2, drain=0.05)
    assert not held.done(), "nothing may be cut off"
    assert await counter.add(1) == 1
    await counter.release()
    assert await held == "one"
    assert not (await kernel.swap("counter", Tally2)).rolled_back


@pytest.mark.parametrize("old", [faulty.RaisesInSave, faulty.SavesWhatCannotTravel])
@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_an_old_version_that_cannot_save_serves_on(kernel: Kernel, placement: str, old: type) -> None:
    await kernel.load(old, name="counter", placement=placement)
    counter = kernel.get(Counter)

    async def swap() -> None:
        with pytest.raises(SwapFailed, match=r"state is torn|can't be handed over"):
            await kernel.swap("counter", Tally2)

    made = await under_load(counter, swap)
    assert await counter.value() == made


async def test_an_old_process_that_dies_while_it_drains_is_restarted(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    held = asyncio.create_task(counter.hold_again(whistle.path))
    pid, _ = await whistle.heard()
    swap = asyncio.create_task(kernel.swap("counter", Tally2))
    await until_state(kernel, "counter", State.QUIESCING)
    await next(iter(kernel.places.values())).ping()  # the old process has heard that it is to quiesce
    waiting = [asyncio.create_task(counter.add(1)) for _ in range(10)]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SwapFailed):
        await swap
    assert await whistle.heard(), "the idempotent call is run again by the restarted one"
    assert sorted(await asyncio.gather(*waiting)) == list(range(1, 11))
    await counter.release()
    assert await held == "one"


async def test_an_old_process_that_dies_in_save_is_restarted(kernel: Kernel) -> None:
    await kernel.load(faulty.DiesInSave, name="counter", placement="process")
    counter = kernel.get(Counter)
    with pytest.raises(SwapFailed):
        await kernel.swap("counter", Tally2)
    assert await counter.add(1) == 1
    assert await counter.version() == "one"


async def test_an_old_process_that_dies_during_a_move_leaves_no_caller_behind_a_gate(kernel: Kernel) -> None:
    """Its neighbour in the same process and the kernel's own callers are both gated while it moves."""
    await kernel.load(faulty.DiesInSave, name="counter", placement="process:shared")
    await kernel.load(Sum, name="sum", placement="process:shared")
    counter, summing = kernel.get(Counter), kernel.get(Summing)
    assert await summing.add_twice(1) == 2
    with pytest.raises(SwapFailed):
        await kernel.move("counter", "inline")
    assert await counter.add(1) == 1
    assert await summing.add_twice(1) == 3


async def test_two_who_take_back_at_once_take_back_one_swap(kernel: Kernel) -> None:
    for extra in range(12):
        if extra:
            await kernel.swap("counter", Tally, config={"start_at": extra})
        else:
            await kernel.load(Tally, name="counter", config={"start_at": extra})
    first, second = asyncio.create_task(kernel.rollback("counter")), asyncio.create_task(kernel.rollback("counter"))
    await asyncio.wait((first, second))
    assert first.exception() is None
    assert isinstance(second.exception(), Unavailable)
    for _ in range(9):  # ten are kept, and one was taken back
        await kernel.rollback("counter")
    with pytest.raises(ContractError, match="there is no version to go back to"):
        await kernel.rollback("counter")
    assert kernel.registry.entry("counter").options.config == {"start_at": 1}


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_rollback_does_not_jump_over_a_version_that_was_loaded_again(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    def write(name: str, version: str) -> None:
        text = "from core_samples import Tally\nclass Mine(Tally):\n    async def version(self) -> str: return "
        (tmp_path / f"{name}.py").write_text(f"{text}{version!r}\n")

    async def swap(use: str) -> str:
        await kernel.swap("counter", use, folder=str(tmp_path))
        return await kernel.get(Counter).version()

    gone = "the last swap of plug-in 'counter' loaded Mine again, .* is gone: put that back and load it again"
    write("first", "one")
    write("second", "two")
    await kernel.load("first.py:Mine", name="counter", placement=placement, folder=str(tmp_path))
    write("first", "one, edited")
    assert await swap("first.py:Mine") == "one, edited"
    with pytest.raises(ContractError, match=gone):
        await kernel.rollback("counter")
    assert await swap("second.py:Mine") == "two"
    for number in range(12):  # more than there are places for
        write("second", f"two, edited {number} times")
        await swap("second.py:Mine")
    with pytest.raises(ContractError, match=gone):
        await kernel.rollback("counter")
    assert await swap("first.py:Mine") == "one, edited"
    await kernel.rollback("counter")
    assert await kernel.get(Counter).version() == "two, edited 11 times"
    with pytest.raises(ContractError, match=gone):
        await kernel.rollback("counter")
    write("second", "two")
    assert await swap("second.py:Mine") == "two"  # as it says


async def test_an_unknown_plugin_and_a_malformed_use(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter")
    with pytest.raises(NotFound, match="no plug-in is named 'conter'; there are: counter"):
        await kernel.swap("conter", Tally2)
    for use in ("nothing-installed", ":Tally", "nofile.py:Tally"):
        with pytest.raises(SwapFailed, match=r"wanted|there is no file") as caught:
            await kernel.swap("counter", use)
        assert isinstance(caught.value.__cause__, MukernelError)
    with pytest.raises(ContractError, match="placement: got 'proces', wanted 'inline', 'process'"):
        await kernel.move("counter", "proces")
    assert await kernel.get(Counter).version() == "one"
