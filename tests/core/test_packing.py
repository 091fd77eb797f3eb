"""Packing and the rehearsal: what a fork server does before it forks."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from mukernel.core import packing

PAGE = 4096
REHEARSED = """
import os, sys
import mukernel.core.host
def opened():
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(100) if os.path.exists(f"/proc/self/fd/{fd}")}
open_before = opened()
import mukernel.core.warm as warm
left = [path for fd, path in opened().items() if open_before.get(fd) != path]
assert left == ["/dev/null"], f"the rehearsal left descriptors open: {left}"  # that one takes stacks, until a pipe does
assert warm.MODULE not in sys.modules
import enum
class Colour(enum.Flag):
    RED, BLUE = enum.auto(), enum.auto()
assert (Colour.RED | Colour.BLUE).value == 3
print("called", *sorted(code.co_qualname for code in warm.packing.originals if code.co_qualname.startswith("Server.")))
"""


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    yield
    packing.filling.clear()
    packing.originals.clear()
    packing.moved.clear()


FILLED = """
import sys
from mukernel.core import packing
size = int(sys.argv[1])
crowd = [bytes(size) for _ in range(4000)]
kept = crowd[::40]  # one here and there: the others leave holes
del crowd
packing.fill_holes()
made = [bytes(size) for _ in range(50)]
print(len({id(each) // 4096 for each in made}))
"""


@pytest.mark.parametrize("size", [100, 200, 400, 700, 2000])
def test_what_is_allocated_after_the_holes_are_filled_lies_side_by_side(size: int) -> None:
    """In a process of its own: the memory of this one is as earlier tests have left it."""
    done = subprocess.run([sys.executable, "-c", FILLED, str(size)], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 50 * (size + 64) // PAGE + 2


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


class Holder:
    """One of ours, as far as its name tells."""

    __module__ = "mukernel.core.packed_by_a_test"

    def run(self, number: int, *, times: int = 2) -> int:
        "Says what it does."
        return number * times

    def idle(self) -> None:
        raise AssertionError


def test_our_functions_that_run_are_copied_and_mean_the_same(
    nothing_kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType(Holder.__module__)
    vars(module).update(Holder=Holder, run=Holder.run, outer=outer)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before, idle = Holder.run, Holder.idle
    monkeypatch.setattr(before, "mark", 7, raising=False)
    packing.gather(packing.code_run_by(lambda: Holder().run(3)))
    after = Holder.run
    assert after is not before and vars(module)["run"] is after
    assert Holder.idle is idle and vars(module)["outer"] is outer
    assert Holder().run(3) == 6 and Holder().run(3, times=5) == 15
    assert inspect.signature(after) == inspect.signature(before)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__dict__"):
        assert getattr(after, name) == getattr(before, name)


def test_the_profile_ends_with_what_it_profiles() -> None:
    def fails() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        packing.code_run_by(fails)
    assert sys.getprofile() is None


@pytest.mark.parametrize("transport", ["", "socket"])
def test_a_rehearsal_calls_and_leaves_nothing_open(transport: str) -> None:
    environment = {**os.environ, "MUKERNEL_TRANSPORT": transport, "MUKERNEL_PACKING": ""}
    done = subprocess.run(
        [sys.executable, "-c", REHEARSED], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"Server.attach", "Server.pump"} <= {*done.stdout.split()}
