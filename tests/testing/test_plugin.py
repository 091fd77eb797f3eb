"""The pytest plug-in, in test suites of its own: with other plug-ins for asyncio, and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import asyncio
import pytest
from mukernel import Interface, Kernel, Plugin
from mukernel.testing import TestKernel

class Greeter(Interface, version="1.0"):
    async def greet(self, name: str) -> str: ...

class English(Plugin, Greeter):
    async def greet(self, name: str) -> str:
        await asyncio.sleep(3600)
        return f"Hello {name}"

class Quick(Plugin, Greeter):
    async def greet(self, name: str) -> str:
        return f"Hello {name}"

@pytest.fixture
def name():
    return "Ada"

@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_with_virtual_time(kernel, name, placement):
    await kernel.load(English, placement=placement)
    before = kernel.clock.now()
    assert await kernel.get(Greeter).greet(name) == "Hello Ada"
    assert kernel.clock.now() - before == 3600

async def test_with_processes(process_kernel, name):
    await process_kernel.load(Quick, placement="process")
    assert await process_kernel.get(Greeter).greet(name) == "Hello Ada"
    assert type(process_kernel) is Kernel

def test_without_async(kernel: TestKernel):
    async def main(kernel):
        await kernel.load(English)
        return await kernel.get(Greeter).greet("Bob")
    assert kernel.run(main) == "Hello Bob"

class TestInAClass:
    async def test_method(self, kernel):
        await kernel.load(English)
        assert await kernel.get(Greeter).greet("Eve") == "Hello Eve"

@pytest.mark.xfail(strict=True, raises=AssertionError)
async def test_that_fails(kernel):
    assert False
"""
FIXTURES = (
    SUITE.partition("@pytest.fixture")[0]
    + """
ends = []

@pytest.fixture
async def greeter(kernel):
    await kernel.load(English, name="greeter")
    return kernel.get(Greeter)

@pytest.fixture
async def slept(greeter, request):
    greeting = await greeter.greet(request.node.name)
    yield greeting
    ends.append(await greeter.greet("end"))

@pytest.fixture
async def last(slept):
    yield slept
    assert ends == []
    ends.append("last")

@pytest.fixture
async def processes(process_kernel):
    await process_kernel.load(Quick, placement="process")
    yield process_kernel.get(Greeter)

async def test_one(greeter, slept, last, kernel):
    assert (slept, last) == ("Hello test_one", slept)
    assert kernel.get(Greeter, plugin="greeter") is not None
    assert await greeter.greet("Ada") == "Hello Ada"
    assert kernel.clock.now() >= 7200

def test_its_end():
    assert ends == ["last", "Hello end"]
    ends.clear()

@pytest.mark.usefixtures("slept")
async def test_not_named(kernel):
    assert ends == []
    assert kernel.clock.now() >= 3600

def test_end_of_what_is_not_named():
    assert ends == ["Hello end"]

async def test_processes(processes):
    assert await processes.greet("Ada") == "Hello Ada"

class TestInAClass:
    word = None

    @pytest.fixture
    async def loaded(self, kernel):
        self.word = "set"
        await kernel.load(Quick)

    async def test_method(self, kernel, loaded):
        assert self.word == "set"
        assert await kernel.get(Greeter).greet("Eve") == "Hello Eve"

@pytest.fixture
async def failing(kernel):
    raise LookupError("no")

@pytest.mark.xfail(strict=True, raises=LookupError)
async def test_that_fails(failing):
    pass
"""
)
BLOCKED = (
    FIXTURES
    + """
@pytest.fixture
def blocked(slept):
    return slept

async def test_blocked(blocked, kernel):
    pass
"""
)
ASYNCIO = """
import asyncio
import pytest
import pytest_asyncio

@pytest_asyncio.fixture
async def loop_of_others():
    yield asyncio.get_running_loop()

@pytest_asyncio.fixture
async def both(kernel, loop_of_others):
    return asyncio.get_running_loop(), loop_of_others

@pytest.mark.asyncio
async def test_without_a_kernel(loop_of_others):
    assert asyncio.get_running_loop() is loop_of_others

async def test_with_a_kernel(both, kernel):
    assert both[0] is asyncio.get_running_loop()
    assert both[1] is not both[0]  # one that uses no kernel is theirs
"""
OWN = """
import pytest

@pytest.fixture
def kernel():
    return "a kernel of my own"

def test_own(kernel):
    assert kernel == "a kernel of my own"
"""


def run(folder: Path, suite: str, *options: str) -> str:
    (folder / "test_suite.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_suite.py"]
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    "options", [("-p", "no:asyncio"), ("-o", "asyncio_mode=auto"), ("-o", "asyncio_mode=strict")], ids=" ".join
)
def test_async_tests_need_nothing_else_and_are_left_alone(tmp_path: Path, options: tuple[str, ...]) -> None:
    output = run(tmp_path, SUITE, *options)
    assert "5 passed, 1 xfailed" in output, output


def test_a_fixture_of_the_same_name_goes_before(tmp_path: Path) -> None:
    output = run(tmp_path, OWN)
    assert "1 passed" in output, output


@pytest.mark.parametrize(
    "options", [("-p", "no:asyncio"), ("-o", "asyncio_mode=auto"), ("-o", "asyncio_mode=strict")], ids=" ".join
)
def test_async_fixtures_that_use_a_kernel_run_on_its_loop(tmp_path: Path, options: tuple[str, ...]) -> None:
    output = run(tmp_path, FIXTURES, *options)
    assert "6 passed, 1 xfailed in" in output, output  # and no warning


def test_a_fixture_that_can_not_wait_for_one_on_the_loop_is_told(tmp_path: Path) -> None:
    output = run(tmp_path, BLOCKED, "-k", "blocked")
    assert (
        "fixture 'blocked' is a 'def' and uses 'slept', which runs on the kernel's loop: wanted 'async def'" in output
    )


@pytest.mark.parametrize("asks", ["kernel, process_kernel", "process_kernel, prepared"])
def test_two_kernels_for_one_test_are_refused(tmp_path: Path, asks: str) -> None:
    suite = (
        "import pytest\n@pytest.fixture\nasync def prepared(kernel):\n    return kernel\n"
        f"async def test_both({asks}):\n    pass\n"
    )
    output = run(tmp_path, suite)
    assert "'process_kernel': each runs on an event loop" in output and "1 failed" in output, output


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_async_fixtures_of_others_stay_theirs(tmp_path: Path, mode: str) -> None:
    output = run(tmp_path, ASYNCIO, "-o", f"asyncio_mode={mode}")
    assert "2 passed" in output, output


OVERRIDING = (
    FIXTURES
    + """
class TestNearer:
    @pytest.fixture
    async def greeter(self, greeter, kernel):
        await greeter.greet("before")
        return greeter

    async def test_overridden(self, greeter):
        assert await greeter.greet("Eve") == "Hello Eve"

async def test_asked_for(request, kernel):
    with pytest.raises(AttributeError, match="'greeter' runs on the kernel's loop.*wanted it as a parameter"):
        request.getfixturevalue("greeter").greet

@pytest.fixture
async def never(kernel):
    if kernel is None:
        yield

@pytest.mark.xfail(strict=True, raises=RuntimeError)
async def test_never(never):
    pass
"""
)


@pytest.mark.parametrize("options", [("-p", "no:asyncio"), ("-o", "asyncio_mode=auto")], ids=" ".join)
def test_an_async_fixture_may_extend_one_of_its_name(tmp_path: Path, options: tuple[str, ...]) -> None:
    output = run(tmp_path, OVERRIDING, *options, "-k", "overridden or asked_for or never")
    assert "2 passed" in output and "1 xfailed" in output, output
