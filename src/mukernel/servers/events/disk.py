"""Writing to the disk in an order that a crash at any instruction leaves whole."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

BEING_MADE = ".new"  # how the name of a file ends until it is whole


def is_full(error: BaseException) -> bool:
    """Was there no room on the disk? The next try may find some."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def open_file(path: str | Path, flags: int) -> int:
    """A descriptor of a file. Raises OSError, also for what is none: who opens a FIFO would wait for ever."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a regular file was wanted; move away what is there", str(path))
    return descriptor


def read_file(path: Path) -> bytes:
    """All of a file. Raises OSError."""
    with open(path, "rb", opener=open_file) as file:
        return file.read()


def write_all(descriptor: int, data: bytes, position: int) -> None:
    """Write every byte at a position. Raises OSError; then some of it may be there."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """A folder, and its name on the disk."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Put a whole file in the place of another: after a crash there is the one or the other, never a part. Raises
    OSError."""
    os.close(put_file(path, data))


def put_file(path: Path, data: bytes) -> int:
    """As `replace_file`; returns the file's descriptor, to read and to write on."""
    beside = path.with_name(f"{path.name}{BEING_MADE}")
    descriptor = open_file(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(descriptor, data, 0)
        os.fsync(descriptor)
        os.rename(beside, path)
        sync_folder(path.parent)
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            beside.unlink()  # where the disk is full its room is wanted
        raise
    return descriptor
