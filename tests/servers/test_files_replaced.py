"""A file server is replaced and moved while somebody watches and locks: they are told, and come again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mukernel import Buffer, Kernel, SwapFailed, Unavailable
from mukernel.servers.files import Files, FileServer


class Unsaved(FileServer):
    """Its swap fails when its streams have ended."""

    async def save(self) -> int:
        raise ValueError("no state")


@pytest.fixture(params=["inline", "process"])
async def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kernel]:
    async with Kernel() as kernel:
        config = {"mounts": {"/data": str(tmp_path)}}
        await kernel.load(FileServer, name="files", placement=request.param, config=config)
        yield kernel


async def begun(stream: Any) -> tuple[Any, asyncio.Task[Any]]:
    """The first item of a stream, and one who waits for the second."""
    first = await anext(stream)
    return first, asyncio.create_task(anext(stream))


async def replaced(kernel: Kernel, move: bool) -> None:
    report = await (kernel.move("files", "process") if move else kernel.restart("files"))
    assert not report.rolled_back


@pytest.mark.parametrize("move", [False, True])
async def test_watchers_are_told_and_watch_again(kernel: Kernel, move: bool) -> None:
    files = kernel.get(Files)
    stream = files.watch("/data", interval=60)
    _, change = await begun(stream)
    await replaced(kernel, move)
    with pytest.raises(Unavailable, match=r"replaced, moved or stopped: '/data' is watched no more; watch it again"):
        await change
    async with aclosing(files.watch("/data", interval=0.01)) as again:  # type: ignore[type-var]
        assert (await anext(again)).kind == "watching"
        await files.write("/data/x", Buffer(b"1"))
        assert (await anext(again)).path == "/data/x"


async def test_a_watcher_who_reads_nothing_holds_nothing_up(tmp_path: Path) -> None:
    """He is told when he reads on, and what he had not read by then is still read."""
    async with Kernel() as kernel:
        config = {"mounts": {"/data": str(tmp_path)}}
        await kernel.load(FileServer, name="files", placement="process", config=config, drain=20.0)
        files = kernel.get(Files)
        async with (
            aclosing(files.watch("/data", interval=0.01)) as slow,  # type: ignore[type-var]
            aclosing(files.watch("/data", interval=0.01)) as other,  # type: ignore[type-var]
        ):
            assert (await anext(slow)).kind == (await anext(other)).kind == "watching"
            for number in range(200):
                (tmp_path / f"{number:03}").touch()
            while (await anext(other)).path != "/data/199":  # and the slow one's server has gone as far, or soon will
                pass
            await replaced(kernel, move=False)
            seen = 0
            with pytest.raises(Unavailable, match="'/data' is watched no more; watch it again"):
                while await anext(slow):
                    seen += 1
            assert seen > 20
        await files.write("/data/x", Buffer(b"1"))


@pytest.mark.parametrize("lease", [None, 60.0])
async def test_who_holds_or_waits_for_a_lock_is_told_and_asks_again(kernel: Kernel, lease: float | None) -> None:
    files = kernel.get(Files)
    held, end = await begun(files.lock("/data/x", "ada", lease=lease))
    waiting = asyncio.create_task(anext(files.lock("/data/x", "bob")))  # type: ignore[arg-type]
    for _ in range(2):  # at the first his is sent, and begun before the second, which is behind it
        await files.locks()
    await replaced(kernel, move=False)
    with pytest.raises(Unavailable, match=rf"lock {held.token} on '/data/x' is held no more; ask for it again"):
        await end
    with pytest.raises(Unavailable, match="'/data/x' is not locked yet; ask for the lock again"):
        await waiting
    async with aclosing(files.lock("/data/x", "bob", wait=False)) as stream:  # type: ignore[type-var]
        assert (await anext(stream)).token > held.token


async def test_after_a_swap_that_failed_streams_begin_as_before(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        config = {"mounts": {"/data": str(tmp_path)}}
        await kernel.load(Unsaved, name="files", placement="process", config=config)
        files = kernel.get(Files)
        _, change = await begun(files.watch("/data", interval=60))
        with pytest.raises(SwapFailed, match="no state"):
            await kernel.restart("files")
        with pytest.raises(Unavailable):
            await change
        async with aclosing(files.watch("/data", interval=0.01)) as again:  # type: ignore[type-var]
            assert (await anext(again)).kind == "watching"
            await files.write("/data/x", Buffer(b"1"))
            assert (await anext(again)).path == "/data/x"
