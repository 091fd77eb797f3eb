"""The pytest plug-in: the fixtures `kernel` and `process_kernel`.

An `async def` test that asks for one of them runs on that kernel's event loop, with the kernel up; it needs no
plug-in for asyncio, and one that is installed leaves it alone. So do `async def` fixtures of such a test that use the
kernel.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import pytest

from ..core.kernel import Kernel
from .async_fixtures import AsyncFixtures, Pending, bound, is_async, uses
from .kernel import TestKernel

FIXTURES = ("kernel", "process_kernel")
OURS = pytest.StashKey[bool]()  # of a test that runs on a kernel's loop


@pytest.fixture
def kernel() -> Iterator[TestKernel]:
    """A kernel with virtual time and simulated processes. A test that is no `async def` uses `kernel.run(main)`."""
    yield TestKernel()


@pytest.fixture
def process_kernel() -> Iterator[Kernel]:
    """A kernel with real time and real processes, which end with the test."""
    yield Kernel("test")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Let async tests that use our fixtures be ordinary ones, before others decide how async tests are run."""
    made = yield
    for item in made if isinstance(made, list) else [made]:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            name = next((name for name in FIXTURES if is_ours(item, name)), None)
            if name is not None:
                item.obj = synchronous(item, item.obj, name)
                item.stash[OURS] = True
    return made


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Put off an async fixture that uses our kernel until the test's loop runs, before others run it on one of
    theirs."""
    item = request.node
    if fixturedef.scope != "function" or not isinstance(item, pytest.Function) or OURS not in item.stash:
        return (yield)
    known = item._fixtureinfo.name2fixturedefs
    definition: Any = fixturedef  # whose function is final to type checkers only
    if is_async(fixturedef.func) and uses(fixturedef, is_kernel, known):
        function, whole = fixturedef.func, bound(fixturedef, request)
        definition.func = lambda **arguments: Pending(whole, arguments)
        try:
            return (yield)
        finally:
            definition.func = function
    pending = [name for name in fixturedef.argnames if isinstance(request.getfixturevalue(name), Pending)]
    if pending:
        pytest.fail(
            f"fixture {fixturedef.argname!r} is a 'def' and uses {pending[0]!r}, which runs on the kernel's loop: "
            "wanted 'async def'",
            pytrace=False,
        )
    return (yield)


def is_ours(item: pytest.Function, name: str) -> bool:
    """Does the test use the fixture `name`, and is that the one of this module, not another of that name?"""
    definitions = item._fixtureinfo.name2fixturedefs.get(name)
    return definitions is not None and is_kernel(name, definitions[-1])


def is_kernel(name: str, definition: pytest.FixtureDef[Any]) -> bool:
    return name in FIXTURES and definition.func.__module__ == __name__


def synchronous(item: pytest.Function, test: Callable[..., Any], name: str) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        if all(is_ours(item, each) for each in FIXTURES):
            pytest.fail(
                "an 'async def' test, or its fixtures, ask for 'kernel' and for 'process_kernel': each runs on an "
                "event loop of its own, one in virtual time and one in real time; wanted one of the two",
                pytrace=False,
            )
        kernel = cast(Kernel, item.funcargs[name])

        async def whole(_: Kernel) -> None:
            async with AsyncFixtures() as fixtures:
                await fixtures.values_of(item.funcargs)  # those that the test does not name, too
                await test(**await fixtures.values_of(arguments))

        if isinstance(kernel, TestKernel):
            kernel.run(whole)
        else:
            asyncio.run(with_kernel(kernel, whole))

    return run


async def with_kernel(kernel: Kernel, main: Callable[[Kernel], Any]) -> None:
    async with kernel:
        await main(kernel)
