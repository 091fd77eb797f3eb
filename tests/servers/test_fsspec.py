"""`mukernel://`: pandas, pyarrow and DuckDB read and write through it, in the kernel's process and from another one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import fsspec
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest
from files_application import running

from mukernel import KernelThread, NotFound
from mukernel.core.control_connection import ControlConnection
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files
from mukernel.servers.files.filesystem import BLOCK, WHOLE

FRAME = pandas.DataFrame({"article": ["tea", "café", "ink"], "price": [3, 5, 8]})


@pytest.fixture(params=["in the kernel's process", "in another process"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    (tmp_path / "data").mkdir()
    mounts = {"/data": str(tmp_path / "data"), "/memory": f"memory://{uuid4().hex}"}
    if request.param == "in another process":
        with running(tmp_path, mounts) as state:
            yield {"state": state}
        return
    with KernelThread() as kernel:
        kernel.load(FileServer, placement="process", config={"mounts": mounts})
        connect_files(kernel.get(Files))
        yield {}
        disconnect_files()


@pytest.fixture
def system(options: dict[str, Any]) -> Any:
    return fsspec.filesystem("mukernel", **options)


@pytest.mark.parametrize("form", ["csv", "parquet", "json", "feather"])
@pytest.mark.parametrize("mount", ["data", "memory"])
def test_pandas(options: dict[str, Any], form: str, mount: str) -> None:
    path = f"mukernel:///{mount}/prices.{form}"
    extra = {"index": False} if form == "csv" else {}
    storage = {"storage_options": options}
    if form == "feather":
        with fsspec.open(path, "wb", **options) as file:
            FRAME.to_feather(file)
        with fsspec.open(path, "rb", **options) as file:
            assert pandas.read_feather(file).equals(FRAME)
        return
    getattr(FRAME, f"to_{form}")(path, **storage, **extra)
    assert getattr(pandas, f"read_{form}")(path, **storage).equals(FRAME)


def test_pyarrow(system: Any) -> None:
    table = pyarrow.table({"number": range(300_000), "text": [str(each) for each in range(300_000)]})
    pyarrow.parquet.write_table(table, "/data/table.parquet", filesystem=system)
    assert pyarrow.parquet.read_table("/data/table.parquet", filesystem=system).equals(table)
    columns = pyarrow.parquet.read_table("/data/table.parquet", columns=["number"], filesystem=system)
    assert columns.column_names == ["number"]
    pyarrow.dataset.write_dataset(
        table.append_column("part", pyarrow.array([each % 3 for each in range(300_000)])), "/data/set",
        format="parquet", partitioning=["part"], filesystem=system,
    )  # fmt: skip
    found = pyarrow.dataset.dataset("/data/set", format="parquet", partitioning=["part"], filesystem=system)
    assert found.count_rows() == 300_000
    assert found.to_table(filter=pyarrow.dataset.field("part") == 1).num_rows == 100_000


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_duckdb(system: Any, form: str) -> None:
    with duckdb.connect() as database:
        database.register_filesystem(system)
        database.execute("create table numbers as select range as number, range % 7 as rest from range(200000)")
        database.execute(f"copy numbers to 'mukernel:///data/numbers.{form}' (format {form})")
        read = f"read_{form}"
        query = f"select count(*), sum(number) from {read}('mukernel:///data/numbers.{form}') where rest = 3"
        expected = "select count(*), sum(number) from numbers where rest = 3"
        assert database.execute(query).fetchall() == database.execute(expected).fetchall()
        many = f"select count(*) from {read}('mukernel:///data/*.{form}')"
        assert database.execute(many).fetchall() == [(200000,)]


def test_everything_else_that_fsspec_promises(system: Any) -> None:
    system.makedirs("/data/a/b")
    with pytest.raises(FileExistsError):
        system.mkdir("/data/a")
    system.pipe({"/data/a/1.txt": b"one", "mukernel://data/a/b/2.txt": b"two"})
    assert system.find("/data") == ["/data/a/1.txt", "/data/a/b/2.txt"]
    assert system.glob("/data/**/*.txt") == ["/data/a/1.txt", "/data/a/b/2.txt"]
    assert system.cat(["/data/a/1.txt", "/data/a/b/2.txt"]) == {"/data/a/1.txt": b"one", "/data/a/b/2.txt": b"two"}
    assert (system.cat_file("/data/a/1.txt", 1, -1), system.tail("/data/a/1.txt", 2)) == (b"n", b"ne")
    assert system.isdir("/data/a") and system.isfile("/data/a/1.txt") and not system.exists("/data/none")
    assert system.size("/data/a/1.txt") == 3 and system.modified("/data/a/1.txt").year > 2000
    system.cp("/data/a", "/data/copied", recursive=True)
    system.mv("/data/copied", "/memory/moved", recursive=True)  # between two mounts
    assert system.cat("/memory/moved/b/2.txt") == b"two"
    assert not system.exists("/data/copied")
    with pytest.raises(FileNotFoundError):
        system.rm("/data/none")
    with pytest.raises(OSError, match="not empty"):
        system.rmdir("/data/a")
    system.rm("/data/a", recursive=True)
    with pytest.raises(FileNotFoundError):
        system.open("/data/a/1.txt")
    with pytest.raises(ValueError, match="without"):
        system.cat("/data/../../etc/passwd")
    system.touch("/data/empty")
    assert system.cat("/data/empty") == b""
    with system.open("/data/log", "ab") as log, system.open("/data/text", "w") as text:
        log.write(b"1\n")
        text.write("Grüße\n")
    with system.open("/data/log", "ab") as log:
        log.write(b"2\n")
    assert (system.cat("/data/log"), system.open("/data/text", "r").readline()) == (b"1\n2\n", "Grüße\n")
    with pytest.raises(FileExistsError):
        system.open("/data/log", "xb")


def test_links_out_of_a_mount_are_no_end_of_a_walk(system: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / "folder").mkdir()
    (tmp_path / "data" / "folder" / "file").write_bytes(b"four")
    for name, target in (("key", "../../secret"), ("up", "../.."), ("gone", "nowhere"), ("loop", "loop")):
        os.symlink(target, tmp_path / "data" / "folder" / name)
    links = [f"/data/folder/{name}" for name in ("file", "gone", "key", "loop", "up")]
    assert system.find("/data") == links
    assert [folder for folder, _, _ in system.walk("/data")] == ["/data", "/data/folder"]
    assert system.du("/data") == system.du("/data/folder/file") == 4
    assert system.du("/data", total=False) == {each: 4 if each.endswith("file") else 0 for each in links}
    assert system.du("/data", total=False, withdirs=True, maxdepth=1) == {"/data": 0, "/data/folder": 0}


def test_large_files_go_in_parts_and_are_seen_when_they_are_closed(system: Any) -> None:
    part = os.urandom(1 << 20)
    file = system.open("/data/large", "wb")
    for _ in range(2 * BLOCK // len(part) + 1):
        file.write(part)
    assert not system.exists("/data/large")
    file.close()
    with system.open("/data/large", "rb") as read:
        assert read.seek(len(part) * 3 + 7) and read.read(100) == part[7:107]
        assert read.seek(0) == 0 and read.read() == part * (2 * BLOCK // len(part) + 1)
    with pytest.raises(RuntimeError, match="half way"), system.open("/data/large", "wb") as broken:
        broken.write(part * (2 * BLOCK // len(part) + 1))
        raise RuntimeError("half way")
    assert system.size("/data/large") == (2 * BLOCK // len(part) + 1) * len(part)
    with system.transaction, system.open("/data/later", "wb") as later:
        later.write(b"x")
        assert not system.exists("/data/later")
    assert system.cat("/data/later") == b"x"
    system.pipe_file("/data/whole", bytes(WHOLE + 5))
    assert len(system.cat_file("/data/whole")) == WHOLE + 5


def test_operations_share_their_connections(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    system.pipe("/data/file", b"one")
    made: list[Any] = []
    monkeypatch.setattr(ControlConnection, "__init__", lambda self, *_: made.append(self))
    monkeypatch.setattr("mukernel.core.control_connection.connect_blocking", lambda *_, **__: made.append("connection"))
    for _ in range(3):
        assert system.cat("/data/file") == b"one"
    assert made == []


def test_an_application_that_was_started_again_is_found_by_every_connection(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with running(tmp_path, {"/data": str(tmp_path / "data")}) as state:
        system = fsspec.filesystem("mukernel", state=state)
        system.pipe("/data/file", b"content")
        connection = system._of_application.connection
        connection.idle += [connection.connect() for _ in range(3)]
    with running(tmp_path, {"/data": str(tmp_path / "data")}) as again:
        assert again == state
        assert [system.cat("/data/file") for _ in range(5)] == [b"content"] * 5


def test_the_folder_that_a_file_is_written_to_is_made_where_that_is_asked_for(options: dict[str, Any]) -> None:
    making = fsspec.filesystem("mukernel", auto_mkdir=True, **options)
    making.pipe("/data/one/file", b"content")
    with making.open("/data/two/deep/file", "wb") as file:
        file.write(b"content")
    making.cp_file("/data/one/file", "/data/three/file")
    making.touch("/data/four/file")
    assert len(making.find("/data")) == 4


def test_no_application_is_a_clear_error(tmp_path: Path) -> None:
    system = fsspec.filesystem("mukernel", app="none-of-this-name", skip_instance_cache=True)
    with pytest.raises(NotFound, match="none-of-this-name"):
        system.ls("/")


def test_the_entry_point_needs_no_import(tmp_path: Path) -> None:
    code = "import fsspec; print(fsspec.get_filesystem_class('mukernel').__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "MukernelFileSystem\n"
