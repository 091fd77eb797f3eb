"""The files that `mukernel new` writes. In each, @NAME@ is the application's name and @PACKAGE@ that of its
package."""

from __future__ import annotations

INTERFACE = '''\
# mypy: disable-error-code="empty-body"
"""The interface: all that callers of this plug-in know of it."""

from collections.abc import AsyncIterator

from mukernel import Interface, idempotent


class Greeter(Interface, version="1.0"):
    """Greets people."""

    @idempotent
    async def greet(self, name: str) -> str:
        """A greeting for `name`."""
        ...

    async def greeted(self) -> int:
        """How many people were greeted."""
        ...

    def count(self, upto: int) -> AsyncIterator[int]:
        """The numbers from 1 to `upto`."""
        ...
'''

PLUGIN = '''\
"""The plug-in: one implementation of the interface."""

from collections.abc import AsyncIterator

from mukernel import Plugin

from .interface import Greeter


class English(Plugin, Greeter):
    """Greets in English. `polite`: as one would a stranger."""

    def __init__(self, *, polite: bool = False) -> None:
        self.word = "Good day" if polite else "Hello"
        self.number = 0

    def save(self) -> int:
        """What a successor goes on with, when this plug-in is swapped, moved or restarted."""
        return self.number

    def restore(self, number: int) -> None:
        self.number = number

    async def greet(self, name: str) -> str:
        self.number += 1
        return f"{self.word}, {name}!"

    async def greeted(self) -> int:
        return self.number

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(1, upto + 1):
            yield number
'''

TEST = '''\
"""The plug-in, called as its users call it. `kernel` is a fixture that mukernel gives to pytest."""

from @PACKAGE@.interface import Greeter
from @PACKAGE@.plugin import English

from mukernel import Kernel


async def test_it_greets(kernel: Kernel) -> None:
    await kernel.load(English, name="greeter")
    assert await kernel.get(Greeter).greet("Ada") == "Hello, Ada!"


async def test_its_state_survives_a_swap(kernel: Kernel) -> None:
    await kernel.load(English, name="greeter")
    greeter = kernel.get(Greeter)
    await greeter.greet("Ada")
    await kernel.swap("greeter", English, config={"polite": True})
    assert await greeter.greet("Bob") == "Good day, Bob!"
    assert await greeter.greeted() == 2


async def test_it_counts(kernel: Kernel) -> None:
    await kernel.load(English, name="greeter")
    assert [number async for number in kernel.get(Greeter).count(3)] == [1, 2, 3]
'''

APPLICATION = """\
[app]
name = "@NAME@"

[plugins.greeter]
use = "@PACKAGE@.plugin:English"
placement = "inline"            # or "process", "process:NAME", "sandbox"; `mukernel move greeter process` while it runs
# memory = "256M"               # of its process
# checkpoint = "5s"             # between two saves of its state, for restarts

[plugins.greeter.config]
polite = false
"""

PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "@NAME@"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["mukernel"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."mukernel.plugins"]
@NAME@ = "@PACKAGE@.plugin:English"

[tool.setuptools]
packages = ["@PACKAGE@"]

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
# pytest-asyncio, where it is installed, asks for a setting that these tests do not need.
filterwarnings = ["ignore:.*asyncio_default_fixture_loop_scope:DeprecationWarning"]
"""

README = """\
# @NAME@

An application of one plug-in, for mukernel.

    mukernel run app.toml                    # here
    mukernel call Greeter.greet name=Ada     # in another terminal
    mukernel move greeter process            # its own process from now on; callers do not notice
    mukernel swap greeter --config polite=true
    pip install pytest                       # once, where mukernel is; it does not bring it
    pytest

- `@PACKAGE@/interface.py`: the interface, all that callers know.
- `@PACKAGE@/plugin.py`: the plug-in that implements it.
- `app.toml`: which plug-ins run, where, and with what configuration.
"""

FILES = {
    "pyproject.toml": PROJECT,
    "README.md": README,
    "app.toml": APPLICATION,
    "@PACKAGE@/__init__.py": '"""@NAME@: an application of mukernel."""\n',
    "@PACKAGE@/interface.py": INTERFACE,
    "@PACKAGE@/plugin.py": PLUGIN,
    "tests/test_@PACKAGE@.py": TEST,
}
