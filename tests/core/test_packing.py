"""Packing and the rehearsal: what a fork server does before it forks."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from mukernel.core import packing

PAGE = 4096
REHEARSED = """
import os, sys
import mukernel.core.host
open_before = sorted(os.listdir("/proc/self/fd"))
import mukernel.core.warm as warm
assert sorted(os.listdir("/proc/self/fd")) == open_before, "the rehearsal left descriptors open"
assert warm.MODULE not in sys.modules
print("called", *sorted(code.co_qualname for code in warm.packing.originals if code.co_qualname.startswith("Server.")))
"""


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    yield
    packing.filling.clear()
    packing.originals.clear()


def pages(things: list[bytes]) -> int:
    return len({id(thing) // PAGE for thing in things})


@pytest.mark.parametrize("size", [100, 200, 400, 700, 2000])
def test_what_is_allocated_after_the_holes_are_filled_lies_side_by_side(size: int, nothing_kept: None) -> None:
    crowd = [bytes(size) for _ in range(4000)]
    kept = crowd[::40]  # one here and there: the others leave holes
    del crowd
    packing.fill_holes()
    made = [bytes(size) for _ in range(50)]
    assert pages(made) <= 50 * (size + 64) // PAGE + 2
    del kept


def outer(times: int) -> Callable[[int], int]:
    """A function with functions in it."""

    def inner(number: int) -> int:
        return sum(each * times for each in range(number))

    return inner


def never_run() -> None:
    raise AssertionError


def test_code_that_runs_is_copied_and_means_the_same(nothing_kept: None) -> None:
    before, other = outer.__code__, never_run.__code__
    closure = outer(3)
    used = packing.code_run_by(lambda: closure(4) + outer(2)(4))
    assert before in used and closure.__code__ in used and other not in used
    packing.gather(used)
    assert outer.__code__ is not before and outer.__code__ == before
    assert never_run.__code__ is other
    assert outer(2)(4) == 12 and closure(4) == 18
    assert outer(2).__code__ is closure.__code__, "one code object became two"


def test_the_profile_ends_with_what_it_profiles() -> None:
    def fails() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        packing.code_run_by(fails)
    assert sys.getprofile() is None


@pytest.mark.parametrize("transport", ["", "socket"])
def test_a_rehearsal_calls_and_leaves_nothing_open(transport: str) -> None:
    environment = {**os.environ, "MUKERNEL_TRANSPORT": transport}
    done = subprocess.run(
        [sys.executable, "-c", REHEARSED], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"Server.attach", "Server.pump"} <= {*done.stdout.split()}
