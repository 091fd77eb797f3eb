"""Files of `mukernel://` that nobody closed, with a server in the very process that finds that out."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import fsspec
import pytest

from mukernel import KernelThread
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files


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
