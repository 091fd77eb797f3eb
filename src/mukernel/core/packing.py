"""Packing: before the fork server forks, what every child will write to is moved onto as few pages as possible.

A child copies each page that it writes to, and it writes to all that it uses: to run a function writes to its reference
count, and to that and the inline caches of its code, and what it allocates goes first into the holes that the server's
imports have left. All lie scattered, one to a page. Nothing here changes what a program does.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any

POOL = 16 * 1024  # bytes: what CPython's allocator takes at once for the small objects of one size
SMALL = range(48, 513, 16)  # bytes: the sizes it has pools for; larger objects are the C library's
LARGE = (96 * 1024, 48 * 1024, 24 * 1024, 12 * 1024, 6 * 1024, 3 * 1024, 2048, 1536, *range(1040, 512, -16))
MOST = 1 << 20  # bytes of one size to fill holes with, should they never end
MOVED = (  # modules, by what their names begin with; not enum, which asks whether a `__new__` is its own
    "mukernel.", "msgspec.", "asyncio.", "_weakrefset", "collections", "contextlib", "functools", "inspect",
    "os", "posixpath", "selectors", "socket", "typing", "weakref",
)  # fmt: skip
HEADER = sys.getsizeof(b"")

filling: deque[bytes] = deque()  # held for ever; by the server alone, since no child touches it
originals: list[CodeType] = []  # held for ever, as are `moved`: what was freed would be a hole again
moved: list[FunctionType] = []


def code_run_by(rehearse: Callable[[], object]) -> list[CodeType]:
    """The code of every Python function that `rehearse()` runs in this thread. Raises what it raises."""
    found: dict[int, CodeType] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        found.setdefault(id(frame.f_code), frame.f_code)

    sys.setprofile(note)
    try:
        rehearse()
    finally:
        sys.setprofile(None)
    return list(found.values())


def gather(used: list[CodeType]) -> None:
    """Give each function that runs one of `used` a copy of its code; the copies lie side by side."""
    used = sorted(used, key=lambda code: (depth(code), -sys.getsizeof(code)))
    for code in used:
        code.co_code  # noqa: B018  # made at the first look, and kept: not between the copies
    fill_holes()
    copies: dict[int, CodeType] = {}
    for code in used:  # what is inside is there before what it is inside of, and what is smaller comes after
        inner = tuple(copies.get(id(each), each) for each in code.co_consts)
        copies[id(code)] = code.replace(co_consts=inner)
    originals.extend(used)
    for function in gc.get_objects():
        if type(function) is FunctionType and id(function.__code__) in copies:
            function.__code__ = copies[id(function.__code__)]
    move_functions({id(code) for code in copies.values()})


def depth(code: CodeType) -> int:
    return max((1 + depth(each) for each in code.co_consts if isinstance(each, CodeType)), default=0)


def move_functions(wanted: set[int]) -> None:
    """Put copies, side by side, in the place of the functions that run code of these identities, in the modules and
    classes of MOVED: what every process runs most. Nobody compares these; whoever else holds one goes on with the
    original."""
    copies: dict[int, FunctionType] = {}
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(MOVED)]
    found = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    classes = [each for each in dict.fromkeys(found) if str(each.__module__).startswith(MOVED)]
    for holder in (*modules, *classes):
        for name, function in list(vars(holder).items()):
            if type(function) is FunctionType and id(function.__code__) in wanted:
                if id(function) not in copies:
                    moved.append(function)
                    copies[id(function)] = copied(function)
                setattr(holder, name, copies[id(function)])


def copied(function: FunctionType) -> FunctionType:
    made = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    for name in ("__qualname__", "__doc__", "__kwdefaults__", "__annotations__"):
        setattr(made, name, getattr(function, name))
    if function.__dict__:
        made.__dict__.update(function.__dict__)
    return made


def fill_holes() -> None:
    """Take all free memory between objects, so that what is allocated from now on lies side by side."""
    gc.collect()
    for size in SMALL:
        fill_pools(size)
    highest = end_of_heap()  # from there is taken what no hole has room for
    for size in LARGE:
        for _ in range(MOST // size):
            filling.append(filler(size))
            if id(filling[-1]) > highest:
                highest = id(filling[-1])
                break


def filler(size: int) -> bytes:
    """Not `bytes(size)`: that asks the C library for memory that is zero, which it never takes from the holes that it
    keeps at hand (calloc does not look into what glibc's malloc caches for its thread)."""
    return b"." * (size - HEADER)


def end_of_heap() -> int:
    """The address; 0 where the system tells of no heap."""
    with open("/proc/self/maps") as mappings:
        return next((int(line[line.index("-") + 1 :].split()[0], 16) for line in mappings if "[heap]" in line), 0)


def fill_pools(size: int) -> None:
    """Fill the pools of one size: until a whole one was empty, since those are taken last."""
    neighbours = before = 0
    for _ in range(MOST // size):
        filling.append(filler(size))
        neighbours = neighbours + 1 if id(filling[-1]) == before + size else 0
        before = id(filling[-1])
        if neighbours >= POOL // size - 2:
            return
