"""kill -9 of whoever holds shared memory, at any moment: none of it is left, and the rest goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from benchmarks.arrays import looked_at
from mukernel import Interface, Kernel, MukernelError, Plugin, RestartPolicy, idempotent, shared

LARGE = 1 << 20  # bytes
TIRELESS = RestartPolicy(intensity=1_000_000, period=1.0, backoff=0.0, longest_backoff=0.0)


class Holding(Interface, version="1.0"):
    @idempotent
    async def swap(self, array: numpy.ndarray) -> numpy.ndarray: ...
    async def pid(self) -> int: ...


class Last(Plugin, Holding):
    """Keeps the last few arrays that it got, and gives others."""

    def __init__(self) -> None:
        self.kept: list[numpy.ndarray] = []

    async def swap(self, array: numpy.ndarray) -> numpy.ndarray:
        assert looked_at(array) == LARGE
        self.kept = [*self.kept[-7:], array]
        return self.kept[0]

    async def pid(self) -> int:
        return os.getpid()


class Middle(Interface, version="1.0"):
    @idempotent
    async def swap(self, array: numpy.ndarray) -> numpy.ndarray: ...


class Between(Plugin, Middle):
    """Passes on what it gets, and keeps it."""

    def __init__(self, last: Holding) -> None:
        self.last = last
        self.kept: list[numpy.ndarray] = []

    async def swap(self, array: numpy.ndarray) -> numpy.ndarray:
        got = await self.last.swap(array)
        made = shared.empty(LARGE, "u1")
        self.kept = [*self.kept[-5:], array, got, made]
        return self.kept[0]


def held_by(pid: int) -> Iterator[int]:
    """The inodes of the segments that a process has open or mapped, each as often as it has it."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if "mukernel-segment" in os.readlink(link):
                    yield link.stat().st_ino
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if "mukernel-segment" in line:
                yield int(line.split()[4])


def held_here() -> int:
    return len(list(held_by(os.getpid())))


def held_anywhere() -> set[int]:
    return {inode for entry in Path("/proc").iterdir() if entry.name.isdigit() for inode in held_by(int(entry.name))}


@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_a_hundred_holders_are_killed(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    chance = random.Random(7)
    before = held_here()
    async with Kernel() as kernel:
        await kernel.load(Last, name="last", placement="process", restart=TIRELESS)
        await kernel.load(Between, name="between", placement="process", restart=TIRELESS)
        middle, answered, stop = kernel.get(Middle), 0, False

        async def load() -> None:
            nonlocal answered
            while not stop:
                with contextlib.suppress(MukernelError):  # PluginCrashed, or Unavailable: an outcome it is
                    assert looked_at(await middle.swap(numpy.full(LARGE, answered % 251, "u1"))) == LARGE
                answered += 1

        callers = [asyncio.create_task(load()) for _ in range(4)]
        for _ in range(50):
            seen = answered
            while answered < seen + chance.randint(1, 6):  # noqa: ASYNC110 - the callers count
                await asyncio.sleep(0)
            name = chance.choice(["last", "between"])
            instance = kernel.registry.entry(name).replicas[0].instance
            assert instance is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(instance.place.pid, signal.SIGKILL)
        stop = True
        await asyncio.gather(*callers)
        await middle.swap(numpy.ones(LARGE, "u1"))  # all are there, and so are their channels
        while held_here() > before:  # noqa: ASYNC110 - else this never ends
            await asyncio.sleep(0)
        for name in ("between", "last"):
            await kernel.unload(name)
    assert shared.held() == 0


APPLICATION = """
import asyncio, os, sys
sys.path[:0] = {path!r}
import numpy
from mukernel import Kernel, shared
from test_shared_memory import Between, Last, Middle, LARGE

async def main():
    async with Kernel() as kernel:
        await kernel.load(Last, name="last", placement="process")
        await kernel.load(Between, name="between", placement="process")
        middle, kept = kernel.get(Middle), []
        while True:
            made = shared.empty(LARGE, "u1")
            kept = [*kept[-5:], made, await middle.swap(made)]
            print("turn", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("turns", [1, 20])
def test_the_kernel_is_killed_and_nothing_is_left(turns: int) -> None:
    root = Path(__file__).resolve().parents[2]
    script = APPLICATION.format(path=[str(Path(__file__).parent), str(root)])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(turns):
            assert process.stdout.readline() == "turn\n"
        held = set(held_by(process.pid))
        assert held
        process.kill()
        process.stdout.read()  # to its end: nobody of them is left who could write
    while held & held_anywhere():  # else this never ends
        pass
