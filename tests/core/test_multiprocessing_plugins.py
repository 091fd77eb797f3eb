"""What a plug-in in a process has made by `multiprocessing` is unlinked, however that process ends: by Python's
resource tracker, which ends by itself once everything else is gone."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import select
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

import msgspec
import pytest
from killing import kill

from mukernel import Interface, Kernel, Plugin

SCRIPT = """
    import signal
    from multiprocessing import resource_tracker, shared_memory
    memory = shared_memory.SharedMemory(create=True, size=4096)
    print(memory.name, resource_tracker._resource_tracker._pid, flush=True)
    signal.pause()
"""


@dataclass
class Made:
    files: list[str]
    trackers: list[int]


class Making(Interface):
    async def make(self) -> Made: ...


class Makes(Plugin, Making):
    """Makes shared memory, a lock, a pool, and starts a program that makes shared memory, too; and closes none."""

    async def make(self) -> Made:
        spawning = multiprocessing.get_context("spawn")
        self.memory = shared_memory.SharedMemory(create=True, size=4096)
        self.lock, self.pool = spawning.Lock(), ProcessPoolExecutor(1, mp_context=spawning)
        assert await asyncio.get_running_loop().run_in_executor(self.pool, abs, -2) == 2
        self.program = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT)], stdout=subprocess.PIPE, text=True
        )
        assert self.program.stdout is not None
        name, tracker = self.program.stdout.readline().split()
        locks: list[Any] = [self.lock, self.pool._call_queue._rlock]  # type: ignore[attr-defined]
        names = [self.memory.name, name, *("sem." + each._semlock.name.removeprefix("/") for each in locks)]
        ours = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
        return Made([f"/dev/shm/{each}" for each in names], [ours, int(tracker)])


class Trackers:
    """Waits until the resource trackers have ended, and looks whether they were done."""

    def __init__(self, made: Made) -> None:
        self.made, self.pidfds = made, [os.pidfd_open(each) for each in made.trackers]
        assert all(map(os.path.exists, made.files))

    def wait(self) -> None:
        for pidfd in self.pidfds:
            select.select([pidfd], [], [])
            os.close(pidfd)
        left = [each for each in self.made.files if os.path.exists(each)]
        for each in left:
            os.unlink(each)
        assert left == []


@pytest.mark.parametrize("end", ["unload", "swap", "kill", "close"])
def test_what_is_made_is_unlinked_when_the_process_ends(end: str) -> None:
    async def main() -> None:
        async with Kernel() as kernel:
            await kernel.load(Makes, name="makes", placement="process")
            all_trackers = [Trackers(await kernel.get(Making).make())]
            if end in ("swap", "kill"):
                if end == "swap":
                    await kernel.swap("makes", Makes)
                else:
                    await kill(kernel, "makes")
                all_trackers.append(Trackers(await kernel.get(Making).make()))
            if end == "unload":
                await kernel.unload("makes")
            if end != "close":
                await asyncio.to_thread(all_trackers.pop(0).wait)
            for trackers in all_trackers:  # the successor keeps its own
                assert all(map(os.path.exists, trackers.made.files))
        for trackers in all_trackers:
            trackers.wait()

    asyncio.run(main())


APP = """
    import asyncio, sys
    sys.path.insert(0, {folder!r})
    import msgspec
    from mukernel import Kernel
    from test_multiprocessing_plugins import Makes, Making
    async def main():
        async with Kernel() as kernel:
            await kernel.load(Makes, name="makes", placement="process")
            made = await kernel.get(Making).make()
            print(msgspec.json.encode(made).decode(), flush=True)
            await asyncio.get_running_loop().create_future()
    if __name__ == "__main__":
        asyncio.run(main())
"""


def test_what_is_made_is_unlinked_when_the_kernel_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(textwrap.dedent(APP.format(folder=os.path.dirname(__file__))))
    kernel = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    trackers = Trackers(msgspec.json.decode(kernel.stdout.readline(), type=Made))
    kernel.kill()
    kernel.wait()
    kernel.stdout.close()
    trackers.wait()
