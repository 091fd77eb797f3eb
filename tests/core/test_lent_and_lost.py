"""What a call lends is let go of, though the call is refused, cancelled, or its server dies half-way."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
from core_samples import Diary, Scribe, blow
from waiting import until

from mukernel import (
    DeadlineExceeded,
    Interface,
    Kernel,
    Overloaded,
    Plugin,
    PluginCrashed,
    RemoteError,
    RestartPolicy,
    deadline,
    oneway,
    shared,
)
from mukernel.transports import lane, replies
from mukernel.transports.segment import account

LARGE = 100_000  # bytes, which are lent
COUNT = 20


class Lending(Interface):
    async def take(self, array: numpy.ndarray) -> int: ...
    async def give(self, die: bool) -> numpy.ndarray: ...
    def first(self, arrays: AsyncIterator[numpy.ndarray], ends: str) -> AsyncIterator[int]: ...
    async def late(self, path: str, computes: bool) -> numpy.ndarray: ...
    async def on_its_way(self) -> int: ...
    async def held_now(self) -> int: ...
    async def held(self) -> tuple[int, int]: ...
    @oneway
    async def note(self) -> None: ...


class Lender(Scribe, Lending):
    async def take(self, array: numpy.ndarray) -> int:
        return array.nbytes

    async def give(self, die: bool) -> numpy.ndarray:
        if die:
            replies.loaded = self.dies_between  # type: ignore[assignment]
        return shared.empty(LARGE, "u1")

    def dies_between(self, to: Any, body: Any) -> bytes:
        """Its array is on its way, and no message says so."""
        lane.loaded(to, body)
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    async def first(self, arrays: AsyncIterator[numpy.ndarray], ends: str) -> AsyncIterator[int]:
        gc.disable()
        async for array in arrays:
            await until(lambda: shared.held() >= 5 * LARGE)  # more have come
            yield array.nbytes
            if ends == "by an error":
                raise LookupError("no such array")
            if ends == "by its caller":
                await asyncio.Event().wait()
            return

    async def late(self, path: str, computes: bool) -> numpy.ndarray:
        """Return when the call was cut off, and the caller was told."""
        with open(path, "rb", buffering=0) as told, suppress(asyncio.CancelledError):
            if not computes:
                await asyncio.Event().wait()
            told.read(1)  # on the loop
        return shared.empty(LARGE, "u1")

    async def on_its_way(self) -> int:
        return account.in_flight()

    async def held_now(self) -> int:
        return shared.held()

    async def held(self) -> tuple[int, int]:
        return held()

    async def note(self) -> None:
        pass


def held() -> tuple[int, int]:
    """Bytes that this process has, and segments that no message has told of."""
    gc.collect()
    return shared.held(), sum(len(each.unclaimed) for each in lane._lanes.values())


@pytest.fixture(params=["ring", "socket"])
async def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", request.param)
    async with Kernel() as kernel:
        often = RestartPolicy(intensity=100, backoff=0.0)
        await kernel.load(Lender, name="lender", placement="process", concurrency=1, restart=often)
        yield kernel


@pytest.mark.parametrize("blocking", [False, True], ids=["asyncio", "blocking"])
async def test_what_a_full_mailbox_refuses(kernel: Kernel, whistle: Any, blocking: bool) -> None:
    os.mkfifo(whistle.path + ".open")
    gate = asyncio.create_task(kernel.get(Diary).gate(whistle.path))
    await whistle.heard()  # the one place there is, is taken
    lending, large = kernel.get(Lending), numpy.ones(LARGE, "u1")

    def refused_in_a_thread() -> int:
        there, refused = kernel.get(Lending, blocking=True), 0
        with pytest.raises(Overloaded):
            while True:
                there.note()
        for _ in range(COUNT):
            with pytest.raises(Overloaded):
                there.take(large)
            refused += 1
        return refused

    if blocking:
        assert await asyncio.to_thread(refused_in_a_thread) == COUNT
        small = []
    else:
        small = [asyncio.create_task(lending.take(numpy.ones(1, "u1"))) for _ in range(1024)]
        await asyncio.sleep(0)
        outcomes = await asyncio.gather(*(lending.take(large) for _ in range(COUNT)), return_exceptions=True)
        assert all(isinstance(each, Overloaded) for each in outcomes)
    blow(whistle.path + ".open")
    await gate
    await asyncio.gather(*small, return_exceptions=True)
    assert await lending.take(large) == LARGE
    assert await lending.held() == (0, 0)


async def test_what_is_cancelled_while_it_waits(kernel: Kernel, whistle: Any) -> None:
    os.mkfifo(whistle.path + ".open")
    gate = asyncio.create_task(kernel.get(Diary).gate(whistle.path))
    await whistle.heard()
    lending, large = kernel.get(Lending), numpy.ones(LARGE, "u1")
    calls = [asyncio.create_task(lending.take(large)) for _ in range(COUNT)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    blow(whistle.path + ".open")
    await gate
    assert await lending.take(large) == LARGE
    assert await lending.held() == (0, 0)


class Refusing(Interface):
    async def refuse(self, array: numpy.ndarray) -> None: ...
    async def held_now(self) -> int: ...


class Refuser(Plugin, Refusing):
    def __init__(self) -> None:
        gc.disable()

    def refuse(self, array: numpy.ndarray) -> None:
        raise ValueError(f"{array.nbytes} bytes")

    async def held_now(self) -> int:
        return shared.held()


async def test_what_a_thread_had_in_hand_when_it_raised() -> None:
    """As above."""
    async with Kernel() as kernel:
        await kernel.load(Refuser, name="refuser", placement="process", threads=1)
        for _ in range(5):
            with pytest.raises(RemoteError, match=f"{LARGE} bytes"):
                await kernel.get(Refusing).refuse(numpy.ones(LARGE, "u1"))
        for _ in range(1000):  # the thread lets go of the last one by and by
            if not await kernel.get(Refusing).held_now():
                break
        assert await kernel.get(Refusing).held_now() == 0


@pytest.mark.parametrize("ends", ["by itself", "by an error", "by its caller"])
async def test_what_a_method_has_not_read(kernel: Kernel, ends: str) -> None:
    """Python's cyclic collector has no part in that: a plug-in that allocates little never runs it."""

    async def arrays() -> AsyncIterator[numpy.ndarray]:
        for _ in range(COUNT):
            yield shared.empty(LARGE, "u1")

    lending = kernel.get(Lending)
    async with aclosing(lending.first(arrays(), ends)) as read:
        assert await anext(read) == LARGE
        with suppress(StopAsyncIteration, RemoteError, TimeoutError):
            async with asyncio.timeout(0 if ends == "by its caller" else None):
                await anext(read)
    for _ in range(1000):  # it is told of a cancellation a little later
        if not await lending.held_now():
            break
    assert await lending.held_now() == 0


async def test_what_its_server_could_not_tell_of_before_it_died(kernel: Kernel) -> None:
    lending, there = kernel.get(Lending), kernel.get(Lending, blocking=True)

    def given(die: bool) -> int:
        return int(there.give(die).nbytes)  # type: ignore[attr-defined]

    before, _ = held()
    for _ in range(2):
        with pytest.raises(PluginCrashed):
            await lending.give(True)
        with pytest.raises(PluginCrashed):
            await asyncio.to_thread(given, True)
        await until(lambda: held() == (before, 0))
    assert (await lending.give(False)).nbytes == await asyncio.to_thread(given, False) == LARGE
    await until(lambda: held() == (before, 0))


@pytest.mark.parametrize("computes", [True, False], ids=["computes", "catches its cancellation"])
async def test_what_a_method_returns_after_the_deadline_of_a_thread(
    kernel: Kernel, tmp_path: Path, computes: bool
) -> None:
    """The thread that made the call is there, and reads nothing more."""
    path = str(tmp_path / "told")
    os.mkfifo(path)
    told, there = os.open(path, os.O_RDWR), kernel.get(Lending, blocking=True)

    def cut_off() -> None:
        with pytest.raises(DeadlineExceeded), deadline(0.1):
            there.late(path, computes)  # type: ignore[attr-defined]
        os.write(told, b".")

    with ThreadPoolExecutor(1) as thread:
        await asyncio.get_running_loop().run_in_executor(thread, cut_off)
        assert await kernel.get(Lending).on_its_way() == 0  # it has one place, so the other has ended
    os.close(told)
