"""The file server where folders and files are not what they seem: mounts beneath them, /proc, and changes half way."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import fsspec
import pytest

from mukernel import Buffer, Kernel, KernelThread
from mukernel.servers.files import FileInfo, Files, FileServer, connect_files, disconnect_files
from mukernel.servers.files.local import LocalFolder


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    for name in ("data", "deep"):
        (tmp_path / name).mkdir()
    mounts = {
        "/data": str(tmp_path / "data"), "/data/sub/deep": str(tmp_path / "deep"), "/proc": "/proc",
        "/memory": "memory://odd",
    }  # fmt: skip
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": mounts})
        yield kernel.get(Files)


@pytest.mark.parametrize("there", [False, True])
async def test_what_has_mounts_beneath_it_stays_a_folder(files: Files, tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "data" / "sub").mkdir()
    await files.write("/data/file", Buffer(b"precious"))
    await files.mkdir("/data/folder")
    upload = "0" * 32
    await files.write_part("/data/sub", upload, 0, Buffer(b"x"))
    refused: list[tuple[type[OSError], Callable[[], Awaitable[object]]]] = [
        (IsADirectoryError, lambda: files.write("/data/sub", Buffer(b"x"))),
        (IsADirectoryError, lambda: files.append("/data/sub", Buffer(b"x"))),
        (IsADirectoryError, lambda: files.commit("/data/sub", upload, 1)),
        (IsADirectoryError, lambda: files.copy("/data/file", "/data/sub")),
        (PermissionError, lambda: files.rename("/data/file", "/data/sub")),
        (PermissionError, lambda: files.rename("/data/folder", "/data/sub")),
        (PermissionError, lambda: files.rename("/data/sub", "/data/other")),
        (PermissionError, lambda: files.remove("/data/sub", recursive=True)),
    ]
    for kind, call in refused:
        with pytest.raises(kind, match=r"'/data/sub': .*mounts beneath it"):
            await call()
    assert [each.path for each in await files.list("/data")] == ["/data/file", "/data/folder", "/data/sub"]
    assert bytes(await files.read("/data/file")) == b"precious"
    assert (tmp_path / "data" / "sub").exists() is there


async def test_a_file_whose_size_is_not_told_is_refused_and_not_empty(files: Files, tmp_path: Path) -> None:
    for call in (
        files.read("/proc/version"),
        files.read("/proc/version", 5, 0),
        files.copy("/proc/version", "/data/x"),
    ):
        with pytest.raises(OSError, match="'/proc/version': the system tells no size of it"):
            await call
    (tmp_path / "data" / "empty").touch()
    assert bytes(await files.read("/data/empty")) == b""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    with KernelThread() as kernel:
        kernel.load(FileServer, config={"mounts": {"/data": str(tmp_path), "/proc": "/proc"}})
        connect_files(kernel.get(Files))
        yield fsspec.filesystem("mukernel")
        disconnect_files()


def test_nor_is_it_by_mukernel_urls(system: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for attempt in (system.cat, system.open, system.head):
        with pytest.raises(OSError, match="'/proc/version': the system tells no size of it"):
            attempt("/proc/version")
    (tmp_path / "empty").touch()
    with system.open("/data/empty") as file:
        assert file.read() == b"" == system.cat("/data/empty")


async def test_a_mount_that_can_not_hold_what_is_not_yet_whole_says_so(files: Files) -> None:
    with pytest.raises(OSError, match=r"'/proc/x': \.mukernel, where files lie until they are whole, can't be made"):
        await files.write("/proc/x", Buffer(b"x"))


@pytest.mark.parametrize("mount", ["/data", "/memory"])
async def test_what_is_to_lie_below_a_file_is_told_that_it_is_no_folder(files: Files, mount: str) -> None:
    await files.write(f"{mount}/file", Buffer(b"x"))
    await files.write_part(f"{mount}/file/in", "2" * 32, 0, Buffer(b"x"))
    for work in (
        files.write(f"{mount}/file/in", Buffer(b"y")), files.append(f"{mount}/file/in/deep", Buffer(b"y")),
        files.commit(f"{mount}/file/in", "2" * 32, 1), files.mkdir(f"{mount}/file/in", parents=True),
    ):  # fmt: skip
        with pytest.raises(NotADirectoryError, match=f"'{mount}/file/in"):
            await work
    assert await files.read(f"{mount}/file") == Buffer(b"x")
    await files.discard(f"{mount}/file/in", "2" * 32)
    await files.remove(f"{mount}/file")


@pytest.mark.parametrize("path", ["/data/x", "/memory/x"])
async def test_a_commit_of_no_upload_says_that_it_is_the_upload_that_is_missing(files: Files, path: str) -> None:
    gone, there = "0" * 32, "1" * 32
    missing = f"'{path}': the upload {gone} is not there .*begin it anew"
    with pytest.raises(FileNotFoundError, match=missing):
        await files.commit(path, gone, 1)
    await files.write_part(path, there, 0, Buffer(b"x"))  # nor is it where uploads of the mount lie already
    with pytest.raises(FileNotFoundError, match=missing):
        await files.commit(path, gone, 1)
    await files.discard(path, there)


async def test_a_folder_that_becomes_a_file_while_it_is_looked_at_ends_no_watch(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listed, left = tmp_path / "data" / "in", LocalFolder.list, []

    def exchanged(self: LocalFolder, path: str) -> Iterator[FileInfo]:
        if path == "in" and left:
            left.pop()
            shutil.rmtree(folder)
            folder.write_bytes(b"a file")
        return listed(self, path)

    folder.mkdir()
    (folder / "x").touch()
    monkeypatch.setattr(LocalFolder, "list", exchanged)
    async with aclosing(files.watch("/data", recursive=True, interval=0.01)) as changes:  # type: ignore[type-var]
        assert (await anext(changes)).kind == "watching"
        left.append("once")
        seen = [await anext(changes) for _ in range(2)]
        assert [(each.kind, each.path) for each in seen] == [("removed", "/data/in/x"), ("changed", "/data/in")]
