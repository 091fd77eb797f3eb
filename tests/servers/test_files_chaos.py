"""kill -9 of the file server in the middle of a load: its callers see a pause, and no file is half a file."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest
from killing import pid_of
from waiting import until_event

from mukernel import Buffer, Kernel, KernelThread, PluginCrashed, RestartPolicy
from mukernel.kernel.clock import Clock
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files
from mukernel.servers.files.local import STALE, LocalFolder

TIRELESS = RestartPolicy(intensity=1000, period=1.0, backoff=0.001, longest_backoff=0.01)
KILLS = 10


async def test_callers_see_a_pause_and_no_more(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        config = {"mounts": {"/data": str(tmp_path)}}
        await kernel.load(FileServer, name="files", placement="process", config=config, restart=TIRELESS)
        files, done, rounds = kernel.get(Files), asyncio.Event(), [0] * 6

        async def whole(number: int) -> None:
            path = f"/data/whole-{number}"
            while not done.is_set():
                content = os.urandom(1) * 100_000
                await files.write(path, Buffer(content))
                assert await files.read(path) == content
                rounds[number] += 1

        async def parts(number: int) -> None:
            path = f"/data/parts-{number}"
            await files.write(path, Buffer(b""))
            while not done.is_set():
                content, upload = os.urandom(4) * 50_000, uuid4().hex
                for offset in range(0, len(content), 50_000):
                    await files.write_part(path, upload, offset, Buffer(content[offset : offset + 50_000]))
                await files.commit(path, upload, len(content))
                await files.discard(path, upload)
                assert await files.read(path) == content
                rounds[number] += 1

        load = [asyncio.create_task((whole if number % 2 else parts)(number)) for number in range(6)]
        for kill in range(KILLS):
            reached = [each + 2 for each in rounds]
            while not all(each >= want for each, want in zip(rounds, reached, strict=True)):
                await asyncio.sleep(0)
                assert not [task for task in load if task.done()], [task.exception() for task in load if task.done()]
            os.kill(pid_of(kernel, "files"), signal.SIGKILL)
            await until_event(kernel, "files", "restart", kill + 1)
        done.set()
        await asyncio.gather(*load)
        assert sorted(os.listdir(tmp_path))[1:] == sorted(each.path[6:] for each in await files.list("/data"))


async def test_a_lock_ends_with_its_server_and_its_holder_knows(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        config = {"mounts": {"/data": str(tmp_path)}}
        await kernel.load(FileServer, name="files", placement="process", config=config, restart=TIRELESS)
        files = kernel.get(Files)
        async with aclosing(files.lock("/data/x")) as stream:  # type: ignore[type-var]
            before = await anext(stream)
            os.kill(pid_of(kernel, "files"), signal.SIGKILL)
            with pytest.raises(PluginCrashed):
                await anext(stream)
        async with aclosing(files.lock("/data/x", wait=False)) as stream:  # type: ignore[type-var]
            assert (await anext(stream)).token > before.token


HOLDER = """
import asyncio, sys
from mukernel.servers.files import connect_files
from mukernel.cli.client import connected
import argparse
async def main():
    async with connected(argparse.Namespace(app=None, state=sys.argv[1], timeout=None)) as control:
        async for lock in control.stream("Files", "lock", {"path": "/data/x", "owner": "holder"}):
            print("held", flush=True)
asyncio.run(main())
"""


def test_a_lock_is_freed_when_its_holder_is_killed(tmp_path: Path) -> None:
    from files_application import running

    from mukernel.core.control_connection import ControlConnection

    (tmp_path / "data").mkdir()
    with running(tmp_path, {"/data": str(tmp_path / "data")}) as state:
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, state], stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        connection = ControlConnection(state=state)
        assert [each["owner"] for each in connection.call("Files", "locks", {})] == ["holder"]
        holder.kill()
        holder.wait()
        holder.stdout.close()
        while connection.call("Files", "locks", {}):
            pass


def test_pandas_does_not_notice(tmp_path: Path) -> None:
    import pandas

    with KernelThread() as kernel:
        config = {"mounts": {"/data": str(tmp_path)}}
        kernel.load(FileServer, name="files", placement="process", config=config, restart=TIRELESS)
        connect_files(kernel.get(Files))
        try:
            for number in range(KILLS):
                frame = pandas.DataFrame({"number": range(number, number + 20_000)})
                os.kill(pid_of(kernel.kernel, "files"), signal.SIGKILL)
                frame.to_parquet("mukernel:///data/frame.parquet")
                assert pandas.read_parquet("mukernel:///data/frame.parquet").equals(frame)
        finally:
            disconnect_files()


def test_what_dead_uploaders_left_is_swept(tmp_path: Path) -> None:
    local, now = LocalFolder(str(tmp_path)), Clock().wall().timestamp()
    old, new = uuid4().hex, uuid4().hex
    for upload in (old, new):
        local.write_part(upload, 0, memoryview(b"x"))
    os.utime(tmp_path / ".mukernel" / old, (0, now - STALE - 10))
    local.sweep(now)
    assert os.listdir(tmp_path / ".mukernel") == [new]
    local.close()
