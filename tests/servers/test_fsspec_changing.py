"""`mukernel://`: transactions, moves, and files that are read and written at once."""

import errno
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import fsspec
import pytest

from mukernel import KernelThread
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files, edited


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "data").mkdir()
    with KernelThread() as kernel:
        mounts = {"/data": str(tmp_path / "data"), "/memory": f"memory://{uuid4().hex}"}
        kernel.load(FileServer, placement="process", config={"mounts": mounts})
        connect_files(kernel.get(Files))
        yield fsspec.filesystem("mukernel")
        disconnect_files()


@pytest.mark.parametrize("mount", ["data", "memory"])
def test_of_a_transaction_that_fails_nothing_is_seen(system: Any, mount: str) -> None:
    system.pipe(f"/{mount}/old", b"old")
    with pytest.raises(KeyError), system.transaction:
        system.pipe(f"/{mount}/piped", b"abc")
        system.pipe({f"/{mount}/old": b"new", f"/{mount}/second": b"2"})
        with system.open(f"/{mount}/old", "r+b") as file:
            file.write(b"NEW")
        raise KeyError
    assert system.find(f"/{mount}") == [f"/{mount}/old"]
    assert system.cat(f"/{mount}/old") == b"old"
    with system.transaction:
        system.pipe(f"/{mount}/piped", b"abc")
        with system.open(f"/{mount}/old", "r+b") as file, system.open(f"/{mount}/both", "w+b") as both:
            file.write(b"NEW")
            both.write(b"both")
        assert not system.exists(f"/{mount}/piped") and system.cat(f"/{mount}/old") == b"old"
    assert system.cat([f"/{mount}/{name}" for name in ("piped", "old", "both")]) == {
        f"/{mount}/piped": b"abc", f"/{mount}/old": b"NEW", f"/{mount}/both": b"both",
    }  # fmt: skip


@pytest.mark.parametrize("there", ["/data", "/memory"])
def test_what_is_moved_into_a_folder_lies_in_it(system: Any, there: str) -> None:
    system.makedirs("/data/in")
    system.pipe({"/data/1": b"1", "/data/2": b"2", "/data/in/3": b"3"})
    system.makedirs(f"{there}/folder")
    system.mv("/data/1", f"{there}/folder/")
    system.mv("/data/2", f"{there}/folder")
    system.mv("/data/in", f"{there}/new/", recursive=True)
    assert system.find(there) == [f"{there}/folder/1", f"{there}/folder/2", f"{there}/new/in/3"]
    assert system.find("/data") == (system.find(there) if there == "/data" else [])
    system.mv(f"{there}/folder/1", f"{there}/folder/2")
    system.mv(f"{there}/folder", f"{there}/folder")
    assert system.cat(f"{there}/folder/2") == b"1"


@pytest.mark.parametrize("mount", ["data", "memory"])
def test_a_file_is_read_and_written_at_once(system: Any, mount: str) -> None:
    path = f"/{mount}/file"
    with pytest.raises(FileNotFoundError):
        system.open(path, "r+b")
    with system.open(path, "w+b") as file:
        file.write(b"0123456789")
        assert (file.seek(2), file.read(3)) == (2, b"234")
    with system.open(path, "rb+") as file:
        assert file.read(2) == b"01"
        file.write(b"ab")
        file.seek(0, os.SEEK_END)
        file.writelines([b"!", b""])
        assert system.cat(path) == b"0123456789"
        file.flush()
        assert system.cat(path) == b"01ab456789!"
        file.truncate(4)
    assert system.cat(path) == b"01ab"
    with system.open(path, "r+b") as file:
        file.writelines([b"0", b"1"])
    with system.open(path, "r+b") as file, file.getbuffer() as buffer:
        buffer[2:] = b"ba"
    assert system.cat(path) == b"01ba"
    with system.open(path, "r+") as text:
        text.write("é")
    assert system.cat(path) == "éba".encode()
    with pytest.raises(RuntimeError), system.open(path, "r+b") as file:
        file.write(b"half")
        raise RuntimeError
    assert system.cat(path) == "éba".encode()
    for mode in ("r+b", "w+b"):
        with pytest.raises(IsADirectoryError):
            system.open(f"/{mount}", mode)


def test_what_somebody_else_has_changed_meanwhile_is_not_lost(system: Any) -> None:
    system.pipe("/data/file", b"one")
    file = system.open("/data/file", "r+b")
    file.write(b"mine")
    system.pipe("/data/file", b"theirs")
    with pytest.raises(OSError, match="changed since it was opened") as caught:
        file.close()
    assert (caught.value.errno, file.closed, system.cat("/data/file")) == (errno.ESTALE, True, b"theirs")


def test_what_is_too_large_to_edit_is_refused(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edited, "LARGEST", 4)
    system.pipe({"/data/small": b"1234", "/data/large": b"12345"})
    with pytest.raises(OSError, match=r"'/data/large': 5 bytes, wanted at most 4"):
        system.open("/data/large", "r+b")
    with system.open("/data/small", "r+b") as file:
        file.seek(3)
        with pytest.raises(OSError, match="at most 4"):
            file.write(b"45")
    assert system.cat("/data/small") == b"1234"


def test_an_archive_is_added_to(system: Any) -> None:
    for mode, name in (("w+b", "a"), ("r+b", "b")):
        with system.open("/data/a.zip", mode) as file, zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, name)
    with system.open("/data/a.zip", "rb") as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["a", "b"]


def test_duckdb_attaches_a_database_to_read(system: Any, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "data" / "shop.db")) as made:
        made.execute("create table prices as select range as price from range(1000)")
    before = system.cat("/data/shop.db")
    with duckdb.connect() as database:
        database.register_filesystem(system)
        database.execute("attach 'mukernel:///data/shop.db' as shop (read_only)")
        assert database.execute("select sum(price) from shop.prices").fetchall() == [(499500,)]
        database.execute("detach shop")
        database.execute("attach 'mukernel:///data/shop.db' as shop")
        with pytest.raises(duckdb.Error, match=r"shop\.db\.wal"):  # see docs/explanation/limits.md
            database.execute("insert into shop.prices values (1)")
    assert system.cat("/data/shop.db") == before
