"""The file server: what it does, and what it refuses."""

import asyncio
import errno
import os
import resource
import signal
import socket
import tarfile
import threading
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mukernel import Buffer, ContractError, Kernel, KernelThread, Overloaded
from mukernel.contract.lending import LENT_FROM
from mukernel.servers.files import FileInfo, Files, FileServer, beneath, connect_files, disconnect_files
from mukernel.servers.files.local import LocalFolder
from mukernel.transports.segment import address_of, segment_at

LONG = 60.0  # seconds, after which what never comes has not come


@pytest.fixture(params=["inline", "process"])
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def files(tmp_path: Path, placement: str) -> AsyncIterator[Files]:
    for name in ("data", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept" / "old.txt").write_text("old")
    mounts = {
        "/data": str(tmp_path / "data"),
        "/kept": {"url": str(tmp_path / "kept"), "read_only": True},
        "/memory": f"memory://{uuid4().hex}",
    }
    async with Kernel() as kernel:
        await kernel.load(FileServer, placement=placement, config={"mounts": mounts})
        yield kernel.get(Files)


@pytest.mark.parametrize("mount", ["/data", "/memory"])
async def test_files_are_written_read_listed_and_removed(files: Files, mount: str) -> None:
    info = await files.write(f"{mount}/a.txt", Buffer(b"hello"))
    assert (info.path, info.kind, info.size) == (f"{mount}/a.txt", "file", 5)
    assert bytes(await files.read(f"{mount}/a.txt")) == b"hello"
    assert bytes(await files.read(f"{mount}/a.txt", 1, 3)) == b"ell"
    assert bytes(await files.read(f"{mount}/a.txt", 99)) == b""
    assert (await files.append(f"{mount}/a.txt", Buffer(b", world"))).size == 12
    await files.mkdir(f"{mount}/in/side", parents=True)
    await files.mkdir(f"{mount}/in/side")
    await files.copy(f"{mount}/a.txt", f"{mount}/in/side/b.txt")
    await files.rename(f"{mount}/a.txt", f"{mount}/in/c.txt")
    assert [(each.path, each.kind) for each in await files.list(f"{mount}/in")] == [
        (f"{mount}/in/c.txt", "file"), (f"{mount}/in/side", "directory"),
    ]  # fmt: skip
    assert bytes(await files.read(f"{mount}/in/side/b.txt")) == b"hello, world"
    with pytest.raises(OSError, match="not empty"):
        await files.remove(f"{mount}/in")
    assert await files.remove(f"{mount}/in", recursive=True)
    assert not await files.remove(f"{mount}/in")
    assert await files.list(mount) == []


@pytest.mark.parametrize("mount", ["/data", "/memory"])
async def test_a_folder_is_moved_with_all_that_is_in_it(files: Files, mount: str) -> None:
    await files.mkdir(f"{mount}/d/empty", parents=True)
    await files.mkdir(f"{mount}/to")
    await files.mkdir(f"{mount}/full/of/it", parents=True)
    await files.write(f"{mount}/d/x", Buffer(b"1"))
    await files.write(f"{mount}/file", Buffer(b"1"))
    await files.rename(f"{mount}/d", f"{mount}/to/dd")
    assert [each.path for each in await files.list(f"{mount}/to/dd")] == [f"{mount}/to/dd/empty", f"{mount}/to/dd/x"]
    assert [each.path for each in await files.list(mount)] == [f"{mount}/{name}" for name in ("file", "full", "to")]
    refused = {
        ("none", "other"): errno.ENOENT, ("to", "to/dd/in"): errno.EINVAL, ("to", "file"): errno.ENOTDIR,
        ("to", "full"): errno.ENOTEMPTY, ("file", "to"): errno.EISDIR,
    }  # fmt: skip
    for (source, target), number in refused.items():
        with pytest.raises(OSError, match=f"'{mount}/") as caught:
            await files.rename(f"{mount}/{source}", f"{mount}/{target}")
        assert caught.value.errno == number, source
    await files.rename(f"{mount}/file", f"{mount}/file")
    assert bytes(await files.read(f"{mount}/file")) == b"1"


@pytest.mark.parametrize("placement", ["inline"], indirect=True)
async def test_a_folder_whose_move_fails_half_way_stays_where_it_was(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, copy = [], MemoryFileSystem.cp_file

    def failing(self: Any, source: str, target: str, **options: Any) -> None:
        if copied:
            raise OSError(errno.ENOSPC, "full")
        copied.append(target)
        copy(self, source, target, **options)

    await files.mkdir("/memory/d/in", parents=True)
    for name in ("a", "in/b"):
        await files.write(f"/memory/d/{name}", Buffer(b"x"))
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "cp_file", failing)
        with pytest.raises(OSError, match="full"):
            await files.rename("/memory/d", "/memory/e")
    assert len(copied) == 1
    assert [each.path for each in await files.list("/memory")] == ["/memory/d"]
    assert [each.path for each in await files.list("/memory/d")] == ["/memory/d/a", "/memory/d/in"]
    await files.rename("/memory/d", "/memory/e")
    assert bytes(await files.read("/memory/e/in/b")) == b"x"


@pytest.mark.parametrize("mount", ["/data", "/memory"])
async def test_no_name_is_a_pattern(files: Files, mount: str) -> None:
    for name in ("a", "b[1]", "b1", "dx/a", "d*/a", "d*/in/a"):
        await files.mkdir(f"{mount}/{name}".rpartition("/")[0], parents=True)
        await files.write(f"{mount}/{name}", Buffer(b"x"))
    assert not await files.remove(f"{mount}/?", recursive=True)
    await files.rename(f"{mount}/b[1]", f"{mount}/b*")
    await files.rename(f"{mount}/d*", f"{mount}/d?")
    assert [each.path.rpartition("/")[2] for each in await files.list(mount)] == ["a", "b*", "b1", "d?", "dx"]
    assert await files.remove(f"{mount}/d?", recursive=True)
    assert await files.remove(f"{mount}/b*")
    assert [each.path.rpartition("/")[2] for each in await files.list(mount)] == ["a", "b1", "dx"]


async def test_the_root_shows_the_mounts(files: Files) -> None:
    assert [each.path for each in await files.list("/")] == ["/data", "/kept", "/memory"]
    assert (await files.stat("/")).kind == "directory"


@pytest.mark.parametrize("placement", ["inline"], indirect=True)
async def test_a_slow_mount_keeps_no_other_waiting(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(LocalFolder, "stat", lambda self, path: (go_on.wait(LONG), FileInfo(path, "other"))[1])
    slow = [asyncio.create_task(files.stat("/data/a")) for _ in range(100)]
    other = asyncio.create_task(files.write("/memory/b", Buffer(b"x")))
    beside = asyncio.create_task(asyncio.to_thread(os.getpid))  # as other plug-ins of the process do
    done, _ = await asyncio.wait([*slow, other], return_when=asyncio.FIRST_COMPLETED)
    assert done == {other}
    await beside
    assert not any(each.done() for each in slow)
    go_on.set()
    assert {(await each).kind for each in slow} == {"other"}


@pytest.mark.parametrize("placement", ["inline"], indirect=True)
async def test_a_mount_is_let_go_of_when_nobody_works_on_it_any_more(
    tmp_path: Path, placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, read, ended = threading.Event(), threading.Event(), LocalFolder.read, asyncio.Queue[object]()
    loop = asyncio.get_running_loop()

    def slowly(self: LocalFolder, *given: Any) -> bytearray:
        begun.set()
        go_on.wait(LONG)
        try:
            data = read(self, *given)
        except OSError as error:
            loop.call_soon_threadsafe(ended.put_nowait, error)
            raise
        loop.call_soon_threadsafe(ended.put_nowait, bytes(data))
        return data

    monkeypatch.setattr(LocalFolder, "read", slowly)
    (tmp_path / "a").write_text("text")
    async with Kernel() as kernel:
        await kernel.load(FileServer, name="files", placement=placement, config={"mounts": {"/data": str(tmp_path)}})
        reading = asyncio.create_task(kernel.get(Files).read("/data/a"))
        await asyncio.to_thread(begun.wait, LONG)
        reading.cancel()
        unloading = asyncio.create_task(kernel.unload("files"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not unloading.done()
        go_on.set()
        await unloading
        assert await ended.get() == b"text"


@pytest.mark.parametrize("mount", ["/data", "/memory"])
async def test_errors_arrive_as_themselves_and_name_the_callers_path(files: Files, mount: str, tmp_path: Path) -> None:
    await files.write(f"{mount}/file", Buffer(b"x"))
    await files.mkdir(f"{mount}/folder")
    refused: list[tuple[type[OSError], Callable[[], object]]] = [
        (FileNotFoundError, lambda: files.read(f"{mount}/none")),
        (FileNotFoundError, lambda: files.stat(f"{mount}/none")),
        (FileNotFoundError, lambda: files.list(f"{mount}/none")),
        (IsADirectoryError, lambda: files.read(f"{mount}/folder")),
        (IsADirectoryError, lambda: files.write(f"{mount}/folder", Buffer(b""))),
        (NotADirectoryError, lambda: files.list(f"{mount}/file")),
        (FileExistsError, lambda: files.mkdir(f"{mount}/file")),
        (FileNotFoundError, lambda: files.mkdir(f"{mount}/no/parent")),
        (FileNotFoundError, lambda: files.read("/elsewhere/x")),
        (PermissionError, lambda: files.write("/kept/new", Buffer(b""))),
        (PermissionError, lambda: files.remove("/kept/old.txt")),
    ]
    for kind, call in refused:
        with pytest.raises(kind, match="'/") as caught:
            await call()  # type: ignore[misc]
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(OSError, match="in two mounts") as crossed:
        await files.rename(f"{mount}/file", "/memory/file" if mount == "/data" else "/data/file")
    assert crossed.value.errno == errno.EXDEV


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("data/x", "absolute"),
        ("", "absolute"),
        ("/data/../etc/passwd", r"without '\.\.'"),
        ("/data/x\0y", r"U\+0000"),
        ("/data/\n", r"U\+000A"),
        ("/data/\u202ecod.exe", r"U\+202E"),
    ],
)
async def test_what_is_no_path_is_refused(files: Files, path: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        await files.read(path)
    with pytest.raises(ValueError, match=problem):
        await files.write(path, Buffer(b""))


async def test_overlong_names_are_refused(files: Files) -> None:
    for path in ("/data/" + "é" * 128, "/data" + "/x" * 2500):
        with pytest.raises(OSError, match="wanted at most") as caught:
            await files.stat(path)
        assert caught.value.errno == errno.ENAMETOOLONG
    await files.write("/data/" + "é" * 127, Buffer(b"x"))
    assert await files.write("/data//./y/", Buffer(b"")) == await files.stat("/data/y")


async def test_pipes_sockets_and_what_is_not_yet_whole_are_not_read(files: Files, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data" / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "data" / "socket"))
        for name in ("pipe", "socket"):
            with pytest.raises(OSError, match=f"/data/{name}"):
                await files.read(f"/data/{name}")
    upload = uuid4().hex
    await files.write_part("/data/x", upload, 0, Buffer(b"half"))
    with pytest.raises(PermissionError, match="not yet whole"):
        await files.read(f"/data/.mukernel/{upload}")
    assert ".mukernel" not in [each.path for each in await files.list("/data")]


@pytest.mark.parametrize("mount", ["/data", "/memory"])
async def test_uploads_are_seen_when_they_are_whole(files: Files, mount: str) -> None:
    upload = uuid4().hex
    await files.write(f"{mount}/x", Buffer(b"old"))
    await files.write_part(f"{mount}/x", upload, 3, Buffer(b"def"))
    await files.write_part(f"{mount}/x", upload, 0, Buffer(b"abc"))
    with pytest.raises(OSError, match="6 bytes, wanted 7"):
        await files.commit(f"{mount}/x", upload, 7)
    assert bytes(await files.read(f"{mount}/x")) == b"old"
    for _ in range(2):  # as after a crash
        await files.commit(f"{mount}/x", upload, 6)
        assert bytes(await files.read(f"{mount}/x")) == b"abcdef"
    await files.discard(f"{mount}/x", upload)
    await files.discard(f"{mount}/x", upload)
    with pytest.raises(FileNotFoundError):
        await files.commit(f"{mount}/x", upload, 6)
    for wrong in ("../../x", "A" * 32, ""):
        with pytest.raises(ValueError, match="upload"):
            await files.write_part(f"{mount}/x", wrong, 0, Buffer(b""))


@pytest.mark.parametrize("offset", [-1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
async def test_an_offset_that_no_file_can_have_is_refused(files: Files, offset: int) -> None:
    with pytest.raises(ValueError, match=f"write_part: got offset {offset} "):
        await files.write_part("/data/x", "0" * 32, offset, Buffer(b"x"))
    await files.write("/data/x", Buffer(b"x"))
    if offset > 0:
        assert bytes(await files.read("/data/x", offset)) == b""
        assert bytes(await files.read("/data/x", 0, offset)) == b"x"
        with pytest.raises(OSError, match="the upload has 0 bytes"):
            await files.write_part("/data/x", "1" * 32, 0, Buffer(b""))
            await files.commit("/data/x", "1" * 32, offset)


async def test_a_reader_of_parts_is_told_of_another_version(files: Files) -> None:
    info = await files.write("/data/x", Buffer(b"one"))
    assert bytes(await files.read("/data/x", 0, 3, info.version)) == b"one"
    await files.write("/data/x", Buffer(b"two"))
    with pytest.raises(OSError, match="changed") as caught:
        await files.read("/data/x", 0, 3, info.version)
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("placement", ["process"], indirect=True)
async def test_a_large_file_travels_whole(files: Files) -> None:
    data = os.urandom(1 << 20) * 64
    await files.write("/data/large", Buffer(data))
    assert await files.read("/data/large") == data


async def test_a_large_part_is_read_straight_into_shared_memory(tmp_path: Path) -> None:
    """It counts against the quota once; what a copy holds is sent to nobody and does not count."""
    content = os.urandom(4 << 20)
    (tmp_path / "large").write_bytes(content)
    async with Kernel() as kernel:
        await kernel.load(
            FileServer, placement="process", config={"mounts": {"/data": str(tmp_path)}}, shared_memory=3 << 20
        )
        files = kernel.get(Files)
        assert await files.read("/data/large", 5, 2 << 20) == content[5 : 5 + (2 << 20)]
        with pytest.raises(Overloaded, match="no room for 4,194,304 bytes more of shared memory"):
            await files.read("/data/large")
        assert (await files.copy("/data/large", "/data/copy")).size == len(content)
    assert (tmp_path / "copy").read_bytes() == content
    local = LocalFolder(str(tmp_path))
    lent = local.read("large", 0, LENT_FROM, None)
    assert segment_at(address_of(lent.view), LENT_FROM) is not None
    small = local.read("large", 0, LENT_FROM - 1, None)
    assert segment_at(address_of(small.view), LENT_FROM - 1) is None and small == content[: LENT_FROM - 1]
    local.close()


def test_a_full_disk_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the system refuse what is too large, as a full disk does."""
    local, before = LocalFolder(str(tmp_path)), resource.getrlimit(resource.RLIMIT_FSIZE)
    local.write("x", memoryview(b"old"))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for attempt in (local.write, local.append):
            with pytest.raises(OSError) as caught:
                attempt("x", memoryview(bytes(2000)))
            assert caught.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert bytes(local.read("x", 0, None, None)) == b"old"
    assert os.listdir(tmp_path / ".mukernel") == []
    local.close()


async def test_a_watcher_sees_what_changes(files: Files) -> None:
    async with aclosing(files.watch("/data", recursive=True, interval=0.01)) as changes:
        assert (await anext(changes)).kind == "watching"
        await files.mkdir("/data/in")
        await files.write("/data/in/x", Buffer(b"1"))
        seen = [(each.kind, each.path) async for each in until(changes, "/data/in/x")]
        assert seen[-1] == ("created", "/data/in/x") and ("created", "/data/in") in seen
        await files.write("/data/in/x", Buffer(b"22"))
        assert [(each.kind, each.path) async for each in until(changes, "/data/in/x")] == [("changed", "/data/in/x")]
        await files.remove("/data/in/x")
        assert [(each.kind, each.path) async for each in until(changes, "/data/in/x")] == [("removed", "/data/in/x")]


async def test_a_watcher_of_all_folders_does_not_go_round_in_circles(files: Files, tmp_path: Path) -> None:
    if not beneath.has_openat2():
        pytest.skip("this system has no openat2: no link is followed")
    (tmp_path / "data" / "in").mkdir()
    for number in range(4):  # each look that followed them would be 4 ** 40 times as long
        os.symlink(".", tmp_path / "data" / "in" / f"link{number}")
    os.symlink("in", tmp_path / "data" / "way")
    async with aclosing(files.watch("/data/way", recursive=True, interval=0.01)) as changes:
        assert (await anext(changes)).kind == "watching"
        await files.write("/data/in/x", Buffer(b"1"))
        change = await anext(changes)
        assert (change.kind, change.path) == ("created", "/data/way/x")


async def until(changes: AsyncIterator, path: str) -> AsyncIterator:  # type: ignore[type-arg]
    async for each in changes:
        yield each
        if each.path == path:
            return


async def test_a_lock_is_held_as_long_as_its_stream(files: Files) -> None:
    first = files.lock("/data/x", "ada")
    held = await anext(first)
    assert [each.owner for each in await files.locks("/data")] == ["ada"]
    with pytest.raises(BlockingIOError, match="'ada'"):
        await anext(files.lock("/data/x", "bob", wait=False))
    second = files.lock("/data/x", "bob")
    waiting = asyncio.create_task(anext(second))
    assert await anext(files.lock("/data/other", "eve")) is not None
    await first.aclose()  # type: ignore[attr-defined]
    assert (await waiting).token > held.token
    await second.aclose()  # type: ignore[attr-defined]


async def test_shared_locks_are_shared(files: Files) -> None:
    readers = [files.lock("/kept/old.txt", name, shared=True) for name in "ab"]
    for each in readers:
        await anext(each)
    with pytest.raises(PermissionError):  # to lock for writing what one may not write
        await anext(files.lock("/kept/old.txt", "writer", wait=False))
    assert len(await files.locks()) == 2
    for each in readers:
        await each.aclose()  # type: ignore[attr-defined]


async def test_a_lease_runs_out(files: Files) -> None:
    stream = files.lock("/data/x", lease=0.01)
    held = await anext(stream)
    with pytest.raises(TimeoutError, match="run out"):
        await anext(stream)
    with pytest.raises(TimeoutError, match="no more"):
        await files.renew("/data/x", held.token)
    renewed = files.lock("/data/x", lease=60.0)
    await files.renew("/data/x", (await anext(renewed)).token)
    with pytest.raises(ValueError, match="lease"):
        await anext(files.lock("/data/y", lease=-1.0))
    await renewed.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mounts", "problem"),
    [
        ({}, "wanted at least one"),
        ({"data": "."}, "absolute"),
        ({"/data/": "."}, "wanted it written as '/data'"),
        ({"/data": "/there/is/no/such"}, "No such file"),
        ({"/data": ""}, "wanted a folder or a URL"),
        ({"/data": "no\0thing"}, "null (byte|character).*; wanted a folder that is there"),
        ({"/data": "unheard://x"}, "'unheard://x' can't be opened"),
        ({"/data": "dir::file:///tmp"}, "plain path"),
        ({"/data": "simplecache::simplecache::file:///tmp"}, "plain path"),
        ({"/data": "dir://x::simplecache::file:///tmp"}, "plain path"),
        ({"/data": {"url": "simplecache://", "options": {"target_protocol": "local"}}}, "plain path"),
        ({"/data": {"url": "reference://", "options": {"fo": {"a": ["file:///etc/passwd"]}}}}, "plain path"),
        ({"/data": {"url": "dir://", "options": {"path": "/tmp", "target_protocol": "generic"}}}, "wherever a path"),
        ({"/data": "mukernel://data"}, "leads back"),
        ({"/data": {"url": ".", "options": {"a": 1}}}, "takes none"),
        ({"/data": {"url": ".", "readonly": True}}, "readonly"),
    ],
)
async def test_mounts_that_can_not_be_served_are_refused(mounts: dict[str, object], problem: str) -> None:
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match=problem):
            await kernel.load(FileServer, config={"mounts": mounts})


ODD = ["../evil.txt", "/absolute.txt", "in/../../evil.txt", "in/a\nb/x.txt", "in/\u202exe.txt", "in/a::b/x.txt", ".."]


def test_names_that_nobody_can_write_are_not_listed(tmp_path: Path) -> None:
    """Of an archive, and of a folder of this machine: a walk through all of it comes to its end."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("in/side/x.txt", "y.txt", *ODD):
            archive.writestr(name, name)
    for folder in (b"in/side", b"in/a\nb", b"in/no\xff", "in/\u202e".encode()):
        (tmp_path / "folder" / os.fsdecode(folder)).mkdir(parents=True)
    for name in ("in/side/x.txt", "y.txt"):
        (tmp_path / "folder" / name).write_text(name)
    (tmp_path / "folder" / "in" / "a\nb" / "x.txt").write_text("odd")
    with KernelThread() as kernel:
        mounts = {"/zip": f"zip://::{tmp_path}/a.zip", "/folder": str(tmp_path / "folder")}
        kernel.load(FileServer, config={"mounts": mounts})
        files = kernel.get(Files)
        connect_files(files, "odd")
        system = fsspec.filesystem("mukernel", app="odd")
        try:
            for mount in mounts:
                assert system.find(mount) == [f"{mount}/in/side/x.txt", f"{mount}/y.txt"]
                assert [each.path for each in files.list(mount)] == [f"{mount}/in", f"{mount}/y.txt"]
                assert next(iter(files.watch(mount, recursive=True))).kind == "watching"
                assert bytes(files.read(f"{mount}/in/side/x.txt")) == b"in/side/x.txt"
        finally:
            disconnect_files("odd")


@pytest.mark.parametrize("before", ["", "simplecache::"])
async def test_an_archive_of_a_whole_folder_is_a_mount(tmp_path: Path, before: str) -> None:
    """All names in it begin with "./"."""
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "in" / "x.txt").write_text("here")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "folder", arcname=".")
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/tar": f"{before}tar://::{tmp_path}/a.tar"}})
        files = kernel.get(Files)
        assert [each.path for each in await files.list("/tar")] == ["/tar/in"]
        assert [each.path for each in await files.list("/tar/in")] == ["/tar/in/x.txt"]
        assert bytes(await files.read("/tar/in/x.txt", 1, 2)) == b"er"
        assert (await files.stat("/tar/in")).kind == "directory"


async def test_an_archive_is_a_mount(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/x.txt", "zipped")
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/zip": f"zip://::{tmp_path}/a.zip"}})
        files = kernel.get(Files)
        assert [each.path for each in await files.list("/zip/in")] == ["/zip/in/x.txt"]
        assert bytes(await files.read("/zip/in/x.txt", 3)) == b"ped"
        with pytest.raises(OSError, match="/zip/new"):
            await files.write("/zip/new", Buffer(b"x"))
        with pytest.raises(OSError, match="/zip/folder"):
            await files.mkdir("/zip/folder")
        with pytest.raises(FileNotFoundError):
            await files.stat("/zip/folder")
