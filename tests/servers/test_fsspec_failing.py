"""`mukernel://` where something fails: a file is never lost for it, and the error is the one that there was."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pandas
import pyarrow.dataset
import pytest

from mukernel import Blocking, DeadlineExceeded, Interface, KernelThread, Plugin, Unavailable, deadline
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files, filesystem


class Work(Interface):
    def run(self, what: str) -> str: ...


class Library(Plugin, Work):
    """Does what `run` names, with the rights of a plug-in."""

    def __init__(self, files: Blocking[Files]) -> None:
        connect_files(files)

    def run(self, what: str) -> str:
        system = fsspec.filesystem("mukernel")
        try:
            return str(globals()[what](system))
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def overwrite(system: Any) -> None:
    with system.open("/data/in/kept", "wb") as file:
        file.write(b"new")
    with system.open("/data/in/kept", "ab") as file:
        file.write(b"er")


def look(system: Any) -> Any:
    return system.exists("/data/in/kept")


def create(system: Any) -> None:
    system.pipe_file("/data/in/kept", b"mine", mode="create")


def move(system: Any) -> None:
    system.mkdir("/data/in/made")
    system.mv("/data/in/kept", "/data/in/moved")


def dataset(system: Any) -> Any:
    table = pyarrow.table({"part": [1, 2, 1], "number": [1, 2, 3]})
    pyarrow.dataset.write_dataset(
        table, "/data/in/set", format="parquet", partitioning=["part"], filesystem=system
    )  # fmt: skip
    return pyarrow.dataset.dataset("/data/in/set", filesystem=system).count_rows()


@contextmanager
def serving(folder: Path, placement: str, **options: Any) -> Iterator[KernelThread]:
    (folder / "in").mkdir()
    (folder / "in" / "kept").write_bytes(b"old")
    with KernelThread() as kernel:
        mounts = {"/data": str(folder), "/memory": f"memory://{uuid4().hex}"}
        kernel.load(FileServer, name="files", placement=placement, config={"mounts": mounts}, **options)
        connect_files(kernel.get(Files))
        yield kernel
        disconnect_files()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[KernelThread]:
    with serving(tmp_path, "inline") as kernel:
        yield kernel


@pytest.fixture
def system(kernel: KernelThread) -> Any:
    return fsspec.filesystem("mukernel")


def test_a_file_that_could_not_be_opened_is_left_alone(system: Any, tmp_path: Path) -> None:
    for mode in ("wb", "xb", "ab", "w+b"):
        with pytest.raises(DeadlineExceeded), deadline(1e-9):
            system.open("/data/in/kept", mode)
    assert (tmp_path / "in" / "kept").read_bytes() == b"old"


def test_who_may_write_and_not_read_writes(kernel: KernelThread, tmp_path: Path) -> None:
    kernel.load(Library, placement="process", grants=["Files:write:/data/in"])
    library = kernel.get(Work)
    assert library.run("overwrite") == "None"
    assert (tmp_path / "in" / "kept").read_bytes() == b"newer"
    assert library.run("look").startswith("PermissionDenied")
    assert library.run("create").startswith("FileExistsError")
    assert library.run("move") == "None"
    assert (tmp_path / "in" / "moved").read_bytes() == b"newer"


def test_libraries_look_at_nothing_that_they_need_no_right_for(kernel: KernelThread) -> None:
    kernel.load(Library, placement="process", grants=["Files:read:/data/in", "Files:write:/data/in"])
    assert kernel.get(Work).run("dataset") == "3"


def test_what_can_not_be_known_is_no_no(kernel: KernelThread, system: Any) -> None:
    assert (system.exists("/data/none"), system.isfile("/data/in"), system.isdir("/data/in/kept/in")) == (False,) * 3
    assert system.isfile("/data/in/kept") and system.isdir("/data/in") and system.exists("/data/in/kept")
    kernel.unload("files")
    for asked in (system.exists, system.isfile, system.isdir, system.lexists):
        with pytest.raises(Unavailable):
            asked("/data/in/kept")


def test_a_transaction_keeps_the_old_file_where_a_library_closes_half_of_the_new_one(
    system: Any, tmp_path: Path
) -> None:
    letters = pandas.DataFrame({"letter": ["x"] * 10_000 + ["é"]})
    with pytest.raises(UnicodeEncodeError), system.transaction:
        letters.to_csv("mukernel:///data/in/kept", encoding="ascii")
    with pytest.raises(KeyError), system.transaction, fsspec.open("mukernel:///data/in/kept", "w") as file:
        file.write("half")
        raise KeyError
    assert (tmp_path / "in" / "kept").read_bytes() == b"old"


@pytest.mark.parametrize("mount", ["data", "memory"])
def test_of_those_who_create_a_file_one_succeeds(system: Any, mount: str) -> None:
    won: list[int] = []
    lost: list[BaseException] = []
    opened = threading.Barrier(8)

    def write(number: int) -> None:
        try:
            with system.open(f"/{mount}/new", "xb") as file:
                file.write(b"%d" % number)
                opened.wait()
            won.append(number)
        except BaseException as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert system.cat(f"/{mount}/new") == b"%d" % won[0]
    assert (len(won), {type(error) for error in lost}) == (1, {FileExistsError})
    with pytest.raises(FileExistsError):
        system.pipe_file(f"/{mount}/new", b"other", mode="create")


def test_to_create_a_file_may_be_run_again_and_follows_no_link(kernel: KernelThread, tmp_path: Path) -> None:
    files, upload = kernel.get(Files), uuid4().hex
    (tmp_path / "link").symlink_to("behind")
    files.write_part("/data/new", upload, 0, filesystem.Buffer(b"content"))
    for _ in range(2):
        assert files.commit("/data/new", upload, 7, create=True).size == 7
    with pytest.raises(FileExistsError, match="there is a file"):
        files.commit("/data/link", upload, 7, create=True)
    files.discard("/data/new", upload)
    assert (tmp_path / "new").read_bytes() == b"content" and not (tmp_path / "behind").exists()


def test_what_has_no_room_in_shared_memory_goes_in_parts(tmp_path: Path) -> None:
    content = bytes(range(256)) * (3 << 12)
    with serving(tmp_path, "process", shared_memory=1 << 20):
        system = fsspec.filesystem("mukernel")
        system.pipe("/data/large", content)
        assert system.cat("/data/large") == content
        with system.open("/data/other", "wb") as file:
            file.write(content)
        with system.open("/data/other", "rb") as file:
            assert file.read() == content


def test_what_a_compressor_writes_on_hides_no_error(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(files, name)

        def write(self, path: str, *data: Any) -> None:
            raise OSError(errno.ENOSPC, f"{path!r}: No space left on device")

        write_part = write

    files = system.files
    monkeypatch.setattr(filesystem, "BLOCK", 1 << 12)
    monkeypatch.setattr(filesystem.MukernelFileSystem, "files", Full())
    for compression in (None, "gzip", "bz2", "xz"):
        with (
            pytest.raises(OSError, match="No space left") as caught,
            fsspec.open("mukernel:///data/in/kept", "wb", compression=compression) as file,
        ):
            file.write(os.urandom(1 << 20))
        assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "in" / "kept").read_bytes() == b"old"
