"""A plug-in in a process forks: the child may do what it likes, but not come back as if it were its parent."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from waiting import is_running, until

from mukernel import Interface, Kernel, Plugin


class Forking(Interface):
    """Each returns the process of the child."""

    async def at_once(self) -> int: ...
    async def and_wait(self) -> int: ...
    async def after_waiting(self) -> int: ...
    def by_itself(self) -> int: ...
    async def in_thread(self) -> int: ...
    def as_stream(self) -> AsyncIterator[int]: ...
    async def and_fail(self) -> int: ...
    async def echo(self, number: int) -> int: ...
    async def at_start(self) -> int: ...
    async def squared(self, number: int) -> int: ...


class Forks(Plugin, Forking):
    def __init__(self, *, at_start: bool = False) -> None:
        self.forks_at_start, self.child = at_start, 0

    async def start(self) -> None:
        if self.forks_at_start:
            self.child = os.fork()

    async def at_once(self) -> int:
        return os.fork()

    async def and_wait(self) -> int:
        child = os.fork()
        await asyncio.sleep(0)
        return child

    async def after_waiting(self) -> int:
        await asyncio.sleep(0)
        return os.fork()

    def by_itself(self) -> int:
        return os.fork()

    def in_thread(self) -> int:  # type: ignore[override]
        return os.fork()

    async def as_stream(self) -> AsyncIterator[int]:
        yield os.fork()

    async def and_fail(self) -> int:
        child = os.fork()
        if child == 0:
            raise SystemExit
        return child

    async def echo(self, number: int) -> int:
        return number

    async def at_start(self) -> int:
        return self.child

    async def squared(self, number: int) -> int:
        """By a child as there should be."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=square, args=(theirs, number))
        child.start()
        found: int = await asyncio.to_thread(ours.recv)
        child.join()
        assert child.exitcode == 0
        return found


def square(pipe: object, number: int) -> None:
    async def found() -> int:
        return number**2

    pipe.send(asyncio.run(found()))  # type: ignore[attr-defined]


@pytest.fixture(params=["ring", "socket"])
async def kernel(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Kernel]:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", request.param)
    async with Kernel(log_folder=str(tmp_path)) as running:
        yield running


@pytest.mark.parametrize(
    "method", ["at_once", "and_wait", "after_waiting", "by_itself", "in_thread", "as_stream", "and_fail", "at_start"]
)
async def test_a_child_that_comes_back_is_ended_and_its_parent_goes_on(
    kernel: Kernel, tmp_path: Path, method: str
) -> None:
    threads = 1 if method == "in_thread" else 0
    config = {"at_start": method == "at_start"}
    await kernel.load(Forks, placement="process", threads=threads, config=config)
    forking = kernel.get(Forking)
    async with asyncio.timeout(30):  # else what a child has spoilt would keep this waiting
        others = [asyncio.create_task(forking.echo(number)) for number in range(50)]
        if method == "as_stream":
            [child] = [each async for each in forking.as_stream()]
        elif method == "by_itself":
            child = await asyncio.to_thread(kernel.get(Forking, blocking=True).by_itself)
        else:
            child = await getattr(forking, method)()
        assert child > 0, "it was the child that answered"
        await until(lambda: not is_running(child))
        assert await asyncio.gather(*others) == list(range(50))
        assert await asyncio.gather(*(forking.echo(number) for number in range(50))) == list(range(50))
    said = (tmp_path / "forks.log").read_text()
    assert f"process {child}, which a plug-in forked, came back from the plug-in's code" in said
    assert "Traceback" not in said
    ledger = await kernel.ledger("forks")
    assert (ledger.lost, ledger.refused, ledger.replied) == (0, 0, ledger.accepted)
    assert [each.what for each in kernel.events] == ["load"]


async def test_a_child_that_ends_in_the_plugins_code_is_its_own_business(kernel: Kernel, tmp_path: Path) -> None:
    await kernel.load(Forks, placement="process")
    forking = kernel.get(Forking)
    assert await asyncio.gather(*(forking.squared(number) for number in range(4))) == [0, 1, 4, 9]
    assert (tmp_path / "forks.log").read_text() == ""
    assert (await kernel.ledger("forks")).lost == 0
