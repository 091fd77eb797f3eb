"""What the tests of the core share: a kernel of real processes, and a whistle by which plug-ins tell where they are."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # the plug-ins' own modules, which other processes import by name

from waiting import is_running

from mukernel import Kernel


class Whistle:
    """A named pipe that a plug-in blows, in whatever process it runs. `path` goes to the plug-in."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(self.path)
        self.pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self.lines: list[str] = []
        self.rest = b""

    async def heard(self) -> tuple[int, str]:
        """The next blow: the process it came from and its text."""
        loop = asyncio.get_running_loop()
        while not self.lines:
            arrived = loop.create_future()
            loop.add_reader(self.pipe, lambda arrived=arrived: arrived.done() or arrived.set_result(None))
            try:
                await arrived
            finally:
                loop.remove_reader(self.pipe)
            *lines, self.rest = (self.rest + os.read(self.pipe, 65536)).split(b"\n")
            self.lines += [line.decode() for line in lines]
        pid, _, text = self.lines.pop(0).partition(" ")
        return int(pid), text

    def close(self) -> None:
        os.close(self.pipe)


@pytest.fixture
def whistle(tmp_path: Path) -> Iterator[Whistle]:
    made = Whistle(tmp_path / "whistle")
    yield made
    made.close()


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """A kernel; after the test no process of it may be left."""
    async with Kernel() as running:
        yield running
        processes = [place.pid for place in running.places.values()]
    left = [pid for pid in processes if is_running(pid)]
    assert not left, f"processes outlived their kernel: {left}"
