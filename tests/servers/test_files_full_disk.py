"""A disk that is full: nobody loses what was acknowledged, and nothing is left behind that keeps it full."""

import errno
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mukernel import KernelThread
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files, filesystem
from mukernel.servers.files.local import LocalFolder

BLOCK = 1 << 16  # bytes


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses what is larger, in bytes, as a full disk does: after as much of it as there is room for."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalFolder]:
    folder = LocalFolder(str(tmp_path))
    yield folder
    folder.close()


def test_an_append_that_fails_takes_nothing_of_other_programs_with_it(
    local: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, write = tmp_path / "log", os.write

    def full(file: int, data: Any) -> int:
        if len(data) == 4:  # a part has room
            return write(file, data[:2])
        with log.open("ab") as other:
            other.write(b"theirs")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log.write_bytes(b"old ")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        local.append("log", memoryview(b"mine"))
    assert log.read_bytes() == b"old mitheirs"


def test_of_appends_at_once_those_that_fail_leave_nothing_and_no_other_is_lost(
    local: LocalFolder, tmp_path: Path
) -> None:
    room, rounds, acknowledged = 1 << 20, 50, []

    def too_large() -> None:
        for _ in range(rounds):
            with pytest.raises(OSError, match="large"):
                local.append("log", memoryview(b"X" * 2 * room))

    def small(writer: int) -> None:
        for number in range(rounds):
            line = b"%d %d\n" % (writer, number)
            local.append("log", memoryview(line))
            acknowledged.append(line)

    def checked(work: Any, *given: Any) -> None:
        try:
            work(*given)
        except BaseException as error:
            failed.append(error)

    failed: list[BaseException] = []
    threads = [threading.Thread(target=checked, args=(too_large,))]
    threads += [threading.Thread(target=checked, args=(small, writer)) for writer in range(3)]
    with largest_file(room):
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert not failed
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    assert sorted(lines) == sorted(acknowledged)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Any]:
    with KernelThread() as kernel:
        kernel.load(FileServer, config={"mounts": {"/data": str(tmp_path)}})  # in this process, which has the limit
        connect_files(kernel.get(Files))
        yield fsspec.filesystem("mukernel")
        disconnect_files()


def in_blocks(system: Any) -> None:
    file = system.open("/data/old", "wb", block_size=BLOCK)
    try:
        for _ in range(10):
            file.write(bytes(BLOCK))
    finally:
        file.close()


def within_a_block(system: Any) -> None:
    with system.open("/data/old", "wb", block_size=BLOCK) as file:
        for _ in range(10):
            file.write(bytes(BLOCK))


def at_once(system: Any) -> None:
    with system.open("/data/old", "wb", block_size=BLOCK) as file:
        file.write(bytes(10 * BLOCK))


def at_its_end(system: Any) -> None:
    with system.open("/data/old", "wb") as file:
        file.write(bytes(10 * BLOCK))


def in_a_transaction(system: Any) -> None:
    with system.transaction:
        system.pipe("/data/new", bytes(BLOCK))
        system.pipe("/data/old", bytes(10 * BLOCK))


def then_raising(system: Any) -> None:
    with system.open("/data/old", "wb") as file:
        file.write(b"little")
        raise OSError("It is large enough")


@pytest.mark.parametrize("write", [in_blocks, within_a_block, at_once, at_its_end, in_a_transaction])
def test_what_could_not_be_written_does_not_keep_the_disk_full(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    monkeypatch.setattr(filesystem, "WHOLE", BLOCK)  # what is larger travels in parts
    system.pipe("/data/old", b"old")
    with largest_file(3 * BLOCK), pytest.raises(OSError, match="large"):
        write(system)
    assert os.listdir(tmp_path / ".mukernel") == []
    assert system.find("/data") == ["/data/old"] and system.cat("/data/old") == b"old"


@pytest.mark.parametrize("write", [at_once, then_raising])
def test_the_end_of_a_transaction_puts_nothing_in_place_that_was_given_up(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    monkeypatch.setattr(filesystem, "WHOLE", BLOCK)
    system.pipe("/data/old", b"old")
    with largest_file(3 * BLOCK), system.transaction:
        system.pipe("/data/new", b"new")
        with pytest.raises(OSError, match="large"):
            write(system)
    assert os.listdir(tmp_path / ".mukernel") == []
    assert system.cat("/data/old") == b"old" and system.cat("/data/new") == b"new"


def test_what_could_not_be_put_in_place_is_forgotten(system: Any, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), system.open("/data/new", "wb", block_size=BLOCK) as file:
        file.write(bytes(2 * BLOCK))
        (tmp_path / "new").mkdir()
    assert os.listdir(tmp_path / ".mukernel") == []
