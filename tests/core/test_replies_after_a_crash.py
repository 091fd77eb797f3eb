"""What the successor of a server that died has answered waits for a caller that is busy, however much it lends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import numpy
import pytest
from killing import pid_of

from mukernel import Interface, Kernel, MukernelError, Plugin

LARGE = 100_000  # bytes, which are lent
COUNT = 20
RUNNING = 2  # calls that the death interrupts


class Giving(Interface):
    async def hang(self) -> int: ...
    async def give(self) -> numpy.ndarray: ...


class Giver(Plugin, Giving):
    """`path`: of a FIFO, which has a byte more for each call that is run."""

    def __init__(self, *, path: str) -> None:
        self.run = os.open(path, os.O_RDWR)

    async def hang(self) -> int:
        os.write(self.run, b".")
        await asyncio.Event().wait()
        return 0

    async def give(self) -> numpy.ndarray:
        os.write(self.run, b".")
        return numpy.ones(LARGE, "u1")


class Asking(Interface):
    async def ask(self, pid: int) -> dict[str, int]: ...


class Asker(Plugin, Asking):
    def __init__(self, giving: Giving, *, path: str) -> None:
        self.giving, self.run = giving, os.open(path, os.O_RDWR)

    def wait_until_run(self, calls: int) -> None:
        while calls:
            calls -= len(os.read(self.run, calls))

    async def ask(self, pid: int) -> dict[str, int]:
        interrupted = [asyncio.create_task(self.giving.hang()) for _ in range(RUNNING)]
        await asyncio.to_thread(self.wait_until_run, RUNNING)
        waiting = [asyncio.create_task(self.giving.give()) for _ in range(COUNT)]
        await asyncio.sleep(0)  # they are sent
        os.kill(pid, signal.SIGKILL)
        self.wait_until_run(COUNT)  # on the loop, which hears of nothing meanwhile
        outcomes = await asyncio.gather(*interrupted, *waiting, return_exceptions=True)
        return Counter(str(each) if isinstance(each, MukernelError) else type(each).__name__ for each in outcomes)


@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_they_are_received_as_their_messages_are(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    path = str(tmp_path / "run")
    os.mkfifo(path)
    async with Kernel() as kernel:
        config = {"path": path}
        await kernel.load(Giver, name="giver", placement="process", concurrency=RUNNING, config=config)
        # Half of it is what may be kept ahead of messages: less than what comes, which all of it has room for.
        await kernel.load(Asker, name="asker", placement="process", config=config, shared_memory=30 * LARGE)
        outcomes = await kernel.get(Asking).ask(pid_of(kernel, "giver"))
    assert outcomes.pop("ndarray") == COUNT
    assert sum(outcomes.values()) == RUNNING and all("died while it ran this call" in each for each in outcomes)
