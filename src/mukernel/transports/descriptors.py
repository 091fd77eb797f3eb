"""File descriptors: copies of them, all or none, and what is said where a process may open no more."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from ..contract import Overloaded

NONE_LEFT = (errno.EMFILE, errno.ENFILE)


@contextmanager
def enough_for(what: str) -> Iterator[None]:
    """Raises Overloaded, which says so, where no file is left to be opened by this process for `what`."""
    try:
        yield
    except OSError as error:
        if error.errno not in NONE_LEFT:
            raise
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise Overloaded(
            f"{error.strerror}, by process {os.getpid()}, for {what}: it may have {most:,} (ulimit -n, RLIMIT_NOFILE)"
        ) from None


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
