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

import pytest

from mukernel.servers.files.local import LocalFolder


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
