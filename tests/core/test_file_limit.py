"""The kernel's process may open as many files as it is allowed, and says so where those are not enough."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from core_samples import Counter, Tally
from waiting import until

from mukernel import Kernel, Overloaded
from mukernel.core.file_limit import raise_file_limit
from mukernel.kernel.process import ProcessError


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


def test_raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with at_most(min(soft, 256)):
        assert raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_a_process_that_there_are_too_few_files_for(kernel: Kernel, placement: str) -> None:
    """However few there are, nothing is left open of what was begun."""
    await kernel.load(Tally, name="first", placement=placement)  # and with it the fork server
    before = open_files()
    free, room = [number for number in range(9999) if number not in before], 0
    while True:
        with at_most(free[room]):
            try:
                await kernel.load(Tally, name="second", placement=placement)
                break
            except (Overloaded, ProcessError) as error:
                assert "Too many open files" in str(error) or "no file descriptor left" in str(error)
        await until(lambda: open_files() <= before)  # a process that had begun is ended
        room += 1
    assert room > 2
    assert await kernel.get(Counter, plugin="second").add(1) == 1
