"""File descriptors: copies of them, all or none, and what is said where a process may open no more."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from ..contract import Overloaded

NONE_LEFT = (errno.EMFILE, errno.ENFILE)


def kept_of(files: int) -> int:
    """How many descriptors a process that may open so many files keeps for what it has to do itself, such as start
    another."""
    return min(64, files // 16)


def none_left(error: OSError, what: str) -> Exception:
    """What to raise where no file could be opened for `what`: Overloaded, which says so, if there is none left to this
    process, and `error` itself if that says something else."""
    if error.errno not in NONE_LEFT:
        return error
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Overloaded(
        f"{error.strerror}, by process {os.getpid()}, for {what}: it may have {most:,} (ulimit -n, RLIMIT_NOFILE)"
    )


@contextmanager
def enough_for(what: str) -> Iterator[None]:
    """Raises `none_left`."""
    try:
        yield
    except OSError as error:
        raise none_left(error, what) from None


def duplicated(descriptors: Iterable[int]) -> list[int]:
    """Copies of all of them. Raises OSError, and leaves none, where there is no room for all."""
    copies: list[int] = []
    try:
        copies.extend(map(os.dup, descriptors))
    except OSError:
        close_all(copies)
        raise
    return copies


def close_all(descriptors: Iterable[int]) -> None:
    """Give up rights that nobody asked for, or that have been handed on."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
