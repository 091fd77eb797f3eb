"""Files of `mukernel://` that nobody closed, with a server in the very process that finds that out."""

import gc
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any
from uuid import uuid4

import duckdb
import fsspec
import pytest
from files_application import running

from mukernel import KernelThread, deadline
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files
from mukernel.servers.files.left_open import left_open


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[KernelThread]:
    with KernelThread() as kernel:
        mounts = {"/data": str(tmp_path), "/memory": f"memory://{uuid4().hex}"}
        kernel.load(FileServer, name="files", config={"mounts": mounts})
        connect_files(kernel.get(Files))
        yield kernel
        disconnect_files()


@pytest.fixture
def system(kernel: KernelThread) -> Any:
    return fsspec.filesystem("mukernel")


def leave_open(system: Any, path: str) -> None:
    """In a cycle, so that the collector finds it, in whatever thread it runs."""
    file = system.open(path, "wb")
    file.write(b"left open")
    file.itself = file


async def collected() -> None:
    gc.collect()


def test_one_that_is_collected_in_the_loops_thread_is_written(kernel: KernelThread, system: Any) -> None:
    leave_open(system, "/data/file")
    kernel.run(collected())
    assert system.cat("/data/file") == b"left open"


def test_one_that_is_collected_in_the_only_thread_of_a_mount_is_written(kernel: KernelThread, system: Any) -> None:
    leave_open(system, "/memory/file")
    (instance,) = kernel.kernel.space.instances.values()
    instance.plugin.mounts.find("/memory").threads.submit(gc.collect).result()
    assert system.cat("/memory/file") == b"left open"


def test_what_could_not_be_written_is_logged(kernel: KernelThread, system: Any, caplog: Any) -> None:
    leave_open(system, "/data/file")
    kernel.unload("files")
    gc.collect()
    with pytest.raises(Exception, match="unloaded"):
        system.cat("/data/file")  # waits for it
    assert "'/data/file' was not closed, and could not be written" in caplog.text


def test_duckdb_exports_a_database(system: Any) -> None:
    with duckdb.connect() as database:
        database.register_filesystem(system)
        database.execute("create table numbers as select range as number from range(10)")
        database.execute("export database 'mukernel:///data/exported' (format parquet)")
        found = system.ls("/data/exported", detail=False)
    assert found == [f"/data/exported/{name}" for name in ("load.sql", "numbers.parquet", "schema.sql")]


def leave_in_child(state: str, number: int) -> None:
    fsspec.filesystem("mukernel", state=state).open(f"/data/{number}", "wb").write(b"left open")


@pytest.mark.parametrize("how", ["fork", "forkserver"])
def test_children_of_multiprocessing_write_what_they_leave(tmp_path: Path, how: str) -> None:
    """They end without what `atexit` was told."""
    (tmp_path / "data").mkdir()
    with running(tmp_path, {"/data": str(tmp_path / "data")}) as state:
        context: Any = multiprocessing.get_context(how)
        children = [context.Process(target=leave_in_child, args=(state, number)) for number in range(3)]
        for each in children:
            each.start()
        for each in children:
            each.join()
    assert [each.read_bytes() for each in (tmp_path / "data").iterdir() if each.is_file()] == [b"left open"] * 3


class Stalled:
    """A file whose store answers when it is told to."""

    path = "/elsewhere/file"

    def __init__(self) -> None:
        self.answer: SimpleQueue[None] = SimpleQueue()

    def close(self) -> None:
        self.answer.get()


def test_one_whose_store_stalls_keeps_others_waiting_once(
    kernel: KernelThread, system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.pipe("/data/file", b"content")
    left_open.begin()
    stalled = Stalled()
    left_open.close(stalled)
    try:
        with deadline(0.01):  # which says nothing of the store
            left_open.settle(None)
        assert left_open.stalled is None
        monkeypatch.setattr("mukernel.servers.files.left_open.LOOKING", 0.05)
        left_open.settle(None)
        assert left_open.stalled is stalled
        found: list[bytes] = []
        looking = Thread(target=lambda: found.append(system.cat("/data/file")))
        looking.start()
        looking.join()
        assert found == [b"content"]
    finally:
        stalled.answer.put(None)
    leave_open(system, "/data/other")
    gc.collect()
    while left_open.left:
        left_open.wait(1.0)
    assert system.cat("/data/other") == b"left open"
