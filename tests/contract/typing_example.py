# mypy: disable-error-code="empty-body"
"""An application as its author types it. test_typing.py runs strict type checkers over this file; nothing
runs it.

mypy alone wants a body for every method that is not abstract, hence the first line; pyright knows `...` as
a stub.
"""

from collections.abc import AsyncIterator
from typing import assert_type

from mukernel import Blocking, Interface, Kernel, Plugin, idempotent, oneway, raises


class NoSuchName(Exception):
    pass


class Greeter(Interface, version="1.0"):
    """Greets people."""

    @idempotent
    @raises(NoSuchName)
    async def greet(self, name: str, *, loud: bool = False) -> str: ...

    @oneway
    async def note(self, text: str) -> None: ...

    def count(self, upto: int) -> AsyncIterator[int]: ...

    def echo(self, words: AsyncIterator[str]) -> AsyncIterator[str]: ...


class Door(Interface):
    def open(self, wide: bool) -> int: ...


class English(Plugin, Greeter):
    def __init__(self, door: Blocking[Door], other: Greeter, *, polite: bool = False) -> None:
        self.door = door
        self.other = other
        self.polite = polite

    async def start(self) -> None:
        assert_type(self.door, Door)
        assert_type(self.door.open(True), int)

    def save(self) -> dict[str, bool]:
        return {"polite": self.polite}

    def restore(self, state: dict[str, bool]) -> None:
        self.polite = state["polite"]

    async def greet(self, name: str, *, loud: bool = False) -> str:
        return await self.other.greet(name, loud=loud)

    async def note(self, text: str) -> None:
        return

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    async def echo(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word


async def words() -> AsyncIterator[str]:
    yield "one"


async def application() -> None:
    async with Kernel() as kernel:
        await kernel.load(English, name="greeter", placement="process", config={"polite": True})
        greeter = kernel.get(Greeter)
        assert_type(greeter, Greeter)
        assert_type(await greeter.greet("Ada"), str)
        await greeter.note("hello")
        async for number in greeter.count(3):
            assert_type(number, int)
        async for word in greeter.echo(words()):
            assert_type(word, str)
        door = kernel.get(Door, blocking=True)
        assert_type(door, Door)
        assert_type(door.open(wide=True), int)
