"""A scale that comes to nothing has cost nobody a call; and who is scaled down counts as that at once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from core_samples import Counter, Tally
from waiting import until

from mukernel import Interface, Kernel, Plugin, SwapFailed
from mukernel.core.registry import Replica


class Desk(Interface):
    async def pid(self) -> int: ...
    async def until_open(self) -> int: ...


class TwoAtMost(Plugin, Desk):
    """The third that is started waits until FOLDER/fail is there, and fails; `until_open` waits for FOLDER/open."""

    def __init__(self, *, folder: str) -> None:
        self.folder = Path(folder)

    async def start(self) -> None:
        count = len(list(self.folder.glob("started*")))
        (self.folder / f"started{count}").touch()
        if count == 2:
            await until((self.folder / "fail").exists)
            raise RuntimeError("no licence for a third one")

    async def pid(self) -> int:
        return os.getpid()

    async def until_open(self) -> int:
        await until((self.folder / "open").exists)
        return os.getpid()


class Visits(Interface):
    async def pids(self, count: int) -> list[int]: ...
    async def until_open(self, count: int) -> list[int]: ...


class Visitor(Plugin, Visits):
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def pids(self, count: int) -> list[int]:
        return await asyncio.gather(*(self.desk.pid() for _ in range(count)))

    async def until_open(self, count: int) -> list[int]:
        return await asyncio.gather(*(self.desk.until_open() for _ in range(count)))


def pid_of(replica: Replica) -> int:
    assert replica.instance is not None
    return replica.instance.place.pid


@pytest.mark.parametrize("ending", ["fails", "cancelled"])
async def test_a_scale_that_comes_to_nothing_loses_no_call_of_who_connects_meanwhile(
    kernel: Kernel, tmp_path: Path, ending: str
) -> None:
    await kernel.load(
        TwoAtMost, name="desk", placement="process", concurrency=1, drain=0, config={"folder": str(tmp_path)}
    )  # fmt: skip
    desk: Any = kernel.get(Desk, blocking=True)
    scale = asyncio.create_task(kernel.scale("desk", 3))
    await until((tmp_path / "started2").exists)
    entry = kernel.registry.entry("desk")
    one, two, _ = entry.replicas
    assert two.instance is not None and entry.staying == [one]
    await kernel.load(Visitor, name="visitor", placement="process")
    visitor = kernel.get(Visits)
    in_threads = [await asyncio.to_thread(desk.pid) for _ in range(6)]
    assert {*in_threads, *await visitor.pids(6)} == {pid_of(one)}, "none is led to what may come to nothing"
    waiting = asyncio.create_task(visitor.until_open(6))
    in_thread = asyncio.create_task(asyncio.to_thread(desk.until_open))
    while (await kernel.ledger("desk")).waiting < 6:  # noqa: ASYNC110 - nothing tells when the count changes
        await asyncio.sleep(0)
    if ending == "fails":
        (tmp_path / "fail").touch()
        with pytest.raises(SwapFailed, match="no licence for a third one"):
            await scale
    else:
        scale.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scale
    (tmp_path / "open").touch()
    assert {*await waiting, await in_thread} == {pid_of(one)}
    assert entry.replicas == [one] and len(kernel.places) == 2
    account = await kernel.ledger("desk")
    assert (account.accepted, account.refused) == (account.replied, 0)
    assert (await kernel.scale("desk", 2)).after == "2 replicas"
    assert len(set(await visitor.pids(8))) == 2


async def test_a_plugin_that_was_scaled_to_one_moves_inline_while_the_others_still_leave(
    kernel: Kernel, whistle: Any
) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=2)
    counter, held = kernel.get(Counter), dict[int, asyncio.Task[str]]()
    for _ in range(2):  # the second goes to whom is less busy
        call = asyncio.create_task(counter.hold(whistle.path))
        held[(await whistle.heard())[0]] = call
    stays, leaves = kernel.registry.entry("counter").replicas
    held[pid_of(stays)].cancel()
    scale = asyncio.create_task(kernel.scale("counter", 1))
    await until(lambda: leaves.leaving)
    assert not (await kernel.move("counter", "inline")).rolled_back
    assert not scale.done() and await counter.where() == os.getpid()
    held[pid_of(leaves)].cancel()
    assert (await scale).ledger.lost == 0
    assert await counter.where() == os.getpid() and len(kernel.registry.entry("counter").replicas) == 1
