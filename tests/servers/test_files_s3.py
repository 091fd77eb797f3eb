"""S3 as a mount, by a real server: files, and folders, of which an object store knows none."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import fsspec
import pandas
import pytest
from s3_server import bucket, mounted, put, s3_server

from mukernel import Buffer, Kernel, KernelThread
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def folder(server: str) -> str:
    """Of a bucket of the test's own; nothing is in it."""
    name = f"bucket-{uuid4().hex}"
    bucket(server, name)
    return f"{name}/folder"


@pytest.fixture
async def files(server: str, folder: str) -> AsyncIterator[Files]:
    mounts = {"/s3": mounted(server, folder), "/kept": mounted(server, folder, read_only=True)}
    async with Kernel() as kernel:
        await kernel.load(FileServer, placement="process", config={"mounts": mounts})
        yield kernel.get(Files)


async def names(files: Files, path: str) -> list[tuple[str, str]]:
    return [(each.path.removeprefix(f"{path}/"), each.kind) for each in await files.list(path)]


async def test_files_are_written_read_listed_and_removed(files: Files) -> None:
    assert (await files.write("/s3/a.txt", Buffer(b"hello"))).size == 5
    assert bytes(await files.read("/s3/a.txt", 1, 3)) == b"ell"
    assert (await files.append("/s3/a.txt", Buffer(b", world"))).size == 12
    await files.write("/s3/empty", Buffer(b""))
    assert bytes(await files.read("/s3/empty")) == b""
    await files.append("/s3/empty", Buffer(b"no more"))
    await files.rename("/s3/a.txt", "/s3/b.txt")
    await files.copy("/s3/b.txt", "/s3/c.txt")
    assert await names(files, "/s3") == [("b.txt", "file"), ("c.txt", "file"), ("empty", "file")]
    assert bytes(await files.read("/s3/c.txt")) == b"hello, world"
    assert await files.remove("/s3/c.txt") and not await files.remove("/s3/c.txt")
    for missing in (files.read("/s3/a.txt"), files.stat("/s3/c.txt"), files.list("/s3/none")):
        with pytest.raises(FileNotFoundError, match="'/s3/"):
            await missing
    with pytest.raises(PermissionError, match="read-only"):
        await files.remove("/kept/b.txt")


async def test_all_that_is_appended_at_once_is_there(files: Files) -> None:
    """Though the store knows no append: the file is read and replaced."""

    async def append(number: int) -> None:
        for turn in range(5):
            await files.append("/s3/log", Buffer(f"{number} {turn}\n".encode()))

    await asyncio.gather(*(append(number) for number in range(4)))
    lines = bytes(await files.read("/s3/log")).decode().splitlines()
    assert sorted(lines) == [f"{number} {turn}" for number in range(4) for turn in range(5)]


async def test_large_files_go_in_parts(files: Files) -> None:
    data, upload = os.urandom(6 << 20), uuid4().hex
    for offset in (3 << 20, 0):
        await files.write_part("/s3/large", upload, offset, Buffer(data[offset : offset + (3 << 20)]))
    assert (await files.commit("/s3/large", upload, len(data))).size == len(data)
    await files.discard("/s3/large", upload)
    assert await files.read("/s3/large", 2 << 20, 2 << 20) == data[2 << 20 : 4 << 20]


async def test_a_new_mount_is_an_empty_folder(files: Files) -> None:
    assert (await files.stat("/s3")).kind == "directory"
    assert await files.list("/s3") == []


async def test_a_folder_that_was_made_is_there_until_it_is_removed(files: Files) -> None:
    await files.mkdir("/s3/a")
    await files.mkdir("/s3/in/side", parents=True)
    assert (await files.stat("/s3/a")).kind == (await files.stat("/s3/in")).kind == "directory"
    assert await files.list("/s3/a") == []
    with pytest.raises(FileNotFoundError, match="is missing"):
        await files.mkdir("/s3/no/parent")
    await files.write("/s3/a/x", Buffer(b"x"))
    with pytest.raises(FileExistsError):
        await files.mkdir("/s3/a/x")
    with pytest.raises(OSError, match="not empty"):
        await files.remove("/s3/a")
    await files.remove("/s3/a/x")
    await files.remove("/s3/in/side")
    assert await names(files, "/s3") == [("a", "directory"), ("in", "directory")]
    assert await files.remove("/s3/a") and not await files.remove("/s3/a")
    assert await files.remove("/s3/in", recursive=True)
    assert await files.list("/s3") == []
    for hidden in (files.read("/s3/a/.mukernel"), files.write("/s3/.mukernel", Buffer(b""))):
        with pytest.raises(PermissionError, match="what the server keeps"):
            await hidden


async def test_a_folder_of_which_only_files_speak_is_there_as_long_as_they_are(files: Files) -> None:
    await files.write("/s3/deep/er/x", Buffer(b"x"))
    assert await names(files, "/s3/deep") == [("er", "directory")]
    await files.remove("/s3/deep/er/x")
    with pytest.raises(FileNotFoundError):
        await files.stat("/s3/deep")


async def test_a_folder_is_moved_with_all_that_is_in_it(files: Files, server: str, folder: str) -> None:
    await files.mkdir("/s3/d/empty", parents=True)
    await files.write("/s3/d/x/y.txt", Buffer(b"1"))
    put(server, f"{folder}/d/marked/", b"")  # as the consoles of object stores make folders
    assert await names(files, "/s3/d/marked") == []
    await files.rename("/s3/d", "/s3/to/dd")
    with pytest.raises(FileNotFoundError):
        await files.stat("/s3/d")
    assert await names(files, "/s3/to/dd") == [("empty", "directory"), ("marked", "directory"), ("x", "directory")]
    assert bytes(await files.read("/s3/to/dd/x/y.txt")) == b"1"
    assert await files.list("/s3/to/dd/empty") == []
    await files.write("/s3/file", Buffer(b"1"))
    refused = {
        ("/s3/none", "/s3/other"): errno.ENOENT, ("/s3/to", "/s3/to/dd/in"): errno.EINVAL,
        ("/s3/to", "/s3/file"): errno.ENOTDIR, ("/s3/to/dd/x", "/s3/to/dd/empty"): errno.ENOTEMPTY,
        ("/s3/file", "/s3/to"): errno.EISDIR, ("/s3", "/s3/in"): errno.EPERM,
    }  # fmt: skip
    for (source, target), number in refused.items():
        with pytest.raises(OSError) as caught:
            await files.rename(source, target)
        assert caught.value.errno == number, source
    await files.rename("/s3/file", "/s3/file")
    assert bytes(await files.read("/s3/file")) == b"1"


async def test_no_name_is_a_pattern(files: Files) -> None:
    for name in ("b[1]", "b1", "dx/a", "d*/a", "d*/in/a"):
        await files.write(f"/s3/{name}", Buffer(b"x"))
    await files.mkdir("/s3/d*/empty")
    assert not await files.remove("/s3/?", recursive=True)
    await files.rename("/s3/b[1]", "/s3/b*")
    await files.rename("/s3/d*", "/s3/d?")
    assert [name for name, _ in await names(files, "/s3")] == ["b*", "b1", "d?", "dx"]
    assert await files.remove("/s3/d?", recursive=True)
    assert await files.remove("/s3/b*")
    assert [name for name, _ in await names(files, "/s3")] == ["b1", "dx"]


async def test_a_watcher_sees_what_changes(files: Files) -> None:
    async with aclosing(files.watch("/s3", recursive=True, interval=0.01)) as changes:
        assert (await anext(changes)).kind == "watching"
        await files.write("/s3/in/x", Buffer(b"1"))
        assert [(each.kind, each.path) for each in (await anext(changes), await anext(changes))] == [
            ("created", "/s3/in"), ("created", "/s3/in/x"),
        ]  # fmt: skip


async def test_a_bucket_that_is_not_there_is_an_error(server: str) -> None:
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/s3": mounted(server, "no-such-bucket/x")}})
        with pytest.raises(FileNotFoundError, match="'/s3/a'"):
            await kernel.get(Files).write("/s3/a", Buffer(b""))


def test_pandas_reads_and_writes_it(server: str, folder: str, tmp_path: Path) -> None:
    frame = pandas.DataFrame({"article": ["tea", "café"], "price": [3, 5]})
    with KernelThread() as kernel:
        kernel.load(FileServer, placement="process", config={"mounts": {"/s3": mounted(server, folder)}})
        connect_files(kernel.get(Files))
        try:
            frame.to_parquet("mukernel:///s3/prices.parquet")
            assert pandas.read_parquet("mukernel:///s3/prices.parquet").equals(frame)
            system = fsspec.filesystem("mukernel")
            system.makedirs("/s3/a/b")
            system.mv("/s3/prices.parquet", "/s3/a/b/")
            assert system.find("/s3") == ["/s3/a/b/prices.parquet"]
        finally:
            disconnect_files()
