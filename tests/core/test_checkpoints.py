"""A checkpoint is the state of who serves, not of a version that waits for its turn, or was rolled back."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from core_checkpoints import Alone, Counted, Eager, First, Rash, Second, Stateless, Strict, Third, Till
from killing import pid_of
from waiting import until

from mukernel import Kernel, RestartPolicy, SwapFailed
from mukernel.core.registry import Replica
from mukernel.testing import TestKernel

PLACEMENTS = ("process", "process:shared")


def replica_of(kernel: Kernel) -> Replica:
    return kernel.registry.entry("till").replicas[0]


async def crash(kernel: Kernel, times: int = 1) -> None:
    """Kill it, and return when it serves again."""
    os.kill(pid_of(kernel, "till"), signal.SIGKILL)
    entry = kernel.registry.entry("till")
    await until(lambda: entry.restarts == times or entry.failure is not None)
    assert entry.failure is None


async def swap_while_it_waits(kernel: Kernel, whistle: Any, tmp_path: Path, drain: float) -> asyncio.Task[Any]:
    """A swap that waits for a running call, whose successor has just taken a checkpoint."""
    held = asyncio.create_task(kernel.get(Till).hold(whistle.path, str(tmp_path / "end")))
    assert (await whistle.heard())[1] == "holding"
    swap = asyncio.create_task(kernel.swap("till", Eager, config={"folder": str(tmp_path)}, drain=drain))
    await until(lambda: replica_of(kernel).successor is not None)
    (tmp_path / "now").touch()
    assert (await whistle.heard())[1] == "saved"
    held.add_done_callback(lambda ended: ended.exception())
    return swap


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_what_can_not_serve_the_state_leaves_no_checkpoint_of_it(kernel: Kernel, placement: str) -> None:
    await kernel.load(Strict, name="till", placement=placement)
    assert await kernel.get(Till).book(10) == 10
    with pytest.raises(SwapFailed, match="do not balance"):
        await kernel.swap("till", Rash)
    await crash(kernel)
    assert await kernel.get(Till).total() == 10


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_version_that_waited_and_was_rolled_back_leaves_no_checkpoint(
    kernel: Kernel, whistle: Any, tmp_path: Path, placement: str
) -> None:
    await kernel.load(Strict, name="till", placement=placement)
    assert await kernel.get(Till).book(10) == 10
    swap = await swap_while_it_waits(kernel, whistle, tmp_path, drain=0.2)
    with pytest.raises(SwapFailed, match="still running"):
        await swap
    await crash(kernel)
    assert await kernel.get(Till).total() == 10


async def test_what_crashes_while_a_version_waits_begins_with_its_own_checkpoint(
    kernel: Kernel, whistle: Any, tmp_path: Path
) -> None:
    await kernel.load(Strict, name="till", placement="process")
    assert await kernel.get(Till).book(10) == 10
    swap = await swap_while_it_waits(kernel, whistle, tmp_path, drain=30.0)
    await crash(kernel)
    with pytest.raises(SwapFailed):
        await swap
    assert await kernel.get(Till).total() == 10


async def test_a_version_that_waited_begins_with_what_is_handed_over_after_a_crash(
    kernel: Kernel, whistle: Any, tmp_path: Path
) -> None:
    await kernel.load(First, name="till", placement="process")
    till = kernel.get(Till)
    assert (await till.book(10), await till.put(5)) == (10, 15)
    swap = await swap_while_it_waits(kernel, whistle, tmp_path, drain=30.0)
    (tmp_path / "end").touch()
    await swap
    await crash(kernel)
    assert await till.total() == 15


async def test_a_checkpoint_is_of_a_version_that_the_present_one_can_read(kernel: Kernel) -> None:
    """Though only the first of three has ever taken one."""
    await kernel.load(First, name="till", placement="process")
    till = kernel.get(Till)
    assert (await till.book(10), await till.put(5)) == (10, 15)
    await kernel.swap("till", Second)
    assert await till.put(5) == 20
    await kernel.swap("till", Third)
    await crash(kernel)
    assert await till.total() == 20
    assert await till.book(1) == 21
    await crash(kernel, 2)
    assert await till.total() == 21


async def test_what_takes_no_checkpoints_begins_anew_after_a_swap_as_before(kernel: Kernel) -> None:
    await kernel.load(First, name="till", placement="process")
    assert await kernel.get(Till).put(5) == 5
    await kernel.swap("till", Second)
    await crash(kernel)
    assert await kernel.get(Till).total() == 0


async def test_what_is_taken_back_begins_with_what_it_was_given_back(kernel: Kernel, tmp_path: Path) -> None:
    await kernel.load(First, name="till", placement="process", replicas=2)
    till = kernel.get(Till)
    for _ in range(2):
        await till.book(10)
    with pytest.raises(SwapFailed, match="FileExistsError"):
        await kernel.swap("till", Alone, config={"folder": str(tmp_path)})
    (tmp_path / "taken").unlink()  # it was there: the first had taken over
    first, second = kernel.registry.entry("till").replicas
    assert (first.checkpoint, second.checkpoint) == ((b"\x0a", 2), (b"\x0a", 1))
    await crash(kernel)
    assert [await till.total() for _ in range(2)] == [10, 10]


async def test_what_is_given_up_again_is_revived_with_its_own_checkpoint(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_once = RestartPolicy(intensity=0)
    await kernel.load(Strict, name="till", placement="process:shared", replicas=2, restart=at_once)
    till = kernel.get(Till)
    for _ in range(2):
        await till.book(10)
    os.kill(pid_of(kernel, "till"), signal.SIGKILL)
    await until(lambda: kernel.registry.entry("till").failure is not None)
    with pytest.raises(SwapFailed, match=r"given up as before: .*FileExistsError"):
        await kernel.swap("till", Alone, config={"folder": str(tmp_path)})
    (tmp_path / "taken").unlink()
    await kernel.restart("till")
    assert [await till.total() for _ in range(2)] == [10, 10]


async def test_a_version_without_a_state_leaves_no_older_one_behind(kernel: Kernel) -> None:
    await kernel.load(First, name="till", placement="process")
    till = kernel.get(Till)
    assert await till.book(10) == 10
    await kernel.swap("till", Stateless)
    await kernel.swap("till", First)
    assert await till.total() == 0
    await crash(kernel)
    assert await till.total() == 0


def test_what_is_taken_back_takes_no_more_checkpoints_than_before(tmp_path: Path) -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Counted, name="till", placement="process", replicas=2, checkpoint=1.0)
        with pytest.raises(SwapFailed, match="FileExistsError"):
            await kernel.swap("till", Alone, config={"folder": str(tmp_path)})
        Counted.saves = 0
        await kernel.clock.sleep(10.5)
        assert Counted.saves == 2 * 10

    TestKernel().run(main)
