"""The pytest plug-in: the fixtures `kernel` and `process_kernel`.

An `async def` test that asks for one of them runs on that kernel's event loop, with the kernel up; it needs no
plug-in for asyncio, and one that is installed leaves it alone.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import pytest

from ..core.kernel import Kernel
from .kernel import TestKernel

FIXTURES = ("kernel", "process_kernel")


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
    return made


def is_ours(item: pytest.Function, name: str) -> bool:
    """Does the test use the fixture `name`, and is that the one of this module, not another of that name?"""
    definitions = item._fixtureinfo.name2fixturedefs.get(name)
    return definitions is not None and definitions[-1].func.__module__ == __name__


def synchronous(item: pytest.Function, test: Callable[..., Any], name: str) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        kernel = cast(Kernel, item.funcargs[name])

        async def whole(_: Kernel) -> None:
            await test(**arguments)

        if isinstance(kernel, TestKernel):
            kernel.run(whole)
        else:
            asyncio.run(with_kernel(kernel, whole))

    return run


async def with_kernel(kernel: Kernel, main: Callable[[Kernel], Any]) -> None:
    async with kernel:
        await main(kernel)
