"""What the tests share of which this process may open few files, or none."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


def open_files() -> set[int]:
    return {int(each) for each in os.listdir("/proc/self/fd")}


@contextmanager
def at_most(files: int) -> Iterator[None]:
    """Nothing is opened whose number is `files` or more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def none_left() -> Iterator[None]:
    """No file is left, as others hold all of them."""
    held: list[int] = []
    largest = max(number for number in range(4096) if os.path.lexists(f"/proc/self/fd/{number}"))
    with at_most(largest + 1):
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            yield
        finally:
            for each in held:
                os.close(each)
