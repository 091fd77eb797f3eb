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
