"""The plug-in whose behaviour the conformance suite watches."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from mukernel import Interface, Plugin, idempotent, oneway, raises
from mukernel.transports.context import current


class Refused(Exception):
    """An exception that the interface declares."""


class Behaviour(Interface, version="1.0"):
    """How a transport must behave."""

    @idempotent
    async def where(self) -> int: ...
    async def add(self, amount: int) -> int: ...
    @idempotent
    async def total(self) -> int: ...
    @oneway
    async def note(self, text: str) -> None: ...
    async def notes(self, at_least: int = 0) -> list[str]: ...
    def count(self, upto: int) -> AsyncIterator[int]: ...
    async def counted(self) -> int: ...
    async def counted_to(self, number: int) -> None: ...
    def upper(self, words: AsyncIterator[str]) -> AsyncIterator[str]: ...
    def sum_first(self, howmany: int, numbers: AsyncIterator[int]) -> AsyncIterator[int]: ...
    def hold(self) -> AsyncIterator[int]: ...
    async def hold_call(self, mark: str) -> None: ...
    @idempotent
    async def hold_once(self, mark: str) -> str: ...
    async def held(self, mark: str) -> None: ...
    async def cancelled(self, mark: str) -> None: ...
    async def circumstances(self) -> tuple[bool, int]: ...
    async def fail(self, text: str) -> None: ...
    @raises(Refused)
    async def refuse(self, text: str) -> None: ...
    def fail_after(self, items: int) -> AsyncIterator[int]: ...
    async def wrong_result(self) -> int: ...


class Actor(Plugin, Behaviour):
    """Behaves, and remembers what was done to it."""

    def __init__(self) -> None:
        self.sum = self.produced = 0
        self.noted: list[str] = []
        self.marks: dict[str, asyncio.Event] = {}
        self.more = asyncio.Condition()

    def mark(self, name: str) -> asyncio.Event:
        return self.marks.setdefault(name, asyncio.Event())

    async def where(self) -> int:
        return os.getpid()

    async def add(self, amount: int) -> int:
        self.sum += amount
        return self.sum

    async def total(self) -> int:
        return self.sum

    async def note(self, text: str) -> None:
        async with self.more:
            self.noted.append(text)
            self.more.notify_all()

    async def notes(self, at_least: int = 0) -> list[str]:
        async with self.more:
            await self.more.wait_for(lambda: len(self.noted) >= at_least)
        return self.noted

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            async with self.more:
                self.produced += 1
                self.more.notify_all()
            yield number

    async def counted(self) -> int:
        return self.produced

    async def counted_to(self, number: int) -> None:
        async with self.more:
            await self.more.wait_for(lambda: self.produced >= number)

    async def upper(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word.upper()

    async def sum_first(self, howmany: int, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        total = 0
        while howmany:
            total, howmany = total + await anext(numbers), howmany - 1
        yield total

    async def hold(self) -> AsyncIterator[int]:
        try:
            yield os.getpid()
            await asyncio.Event().wait()
        finally:
            self.mark("hold").set()

    async def hold_call(self, mark: str) -> None:
        self.mark(f"{mark} began").set()
        try:
            await asyncio.Event().wait()
        finally:
            self.mark(f"{mark} cancelled").set()

    async def hold_once(self, mark: str) -> str:
        """The first run, which leaves the file `mark`, is held for ever; the next returns."""
        if os.path.exists(mark):
            return "run again"
        open(mark, "x").close()
        await self.hold_call("once")
        return "never"

    async def held(self, mark: str) -> None:
        await self.mark(f"{mark} began").wait()

    async def cancelled(self, mark: str) -> None:
        await self.mark(mark).wait()

    async def circumstances(self) -> tuple[bool, int]:
        context = current.get()
        return (False, 0) if context is None else (context.deadline > 0, context.priority)

    async def fail(self, text: str) -> None:
        raise LookupError(text)

    async def refuse(self, text: str) -> None:
        raise Refused(text)

    async def fail_after(self, items: int) -> AsyncIterator[int]:
        for number in range(items):
            yield number
        raise LookupError("no more")

    async def wrong_result(self) -> int:
        return "a string"  # type: ignore[return-value]


class Relay(Interface, version="1.0"):
    """Calls another plug-in from a process of its own."""

    def hold(self) -> AsyncIterator[int]: ...


class Relaying(Plugin, Relay):
    def __init__(self, actor: Behaviour) -> None:
        self.actor = actor

    async def hold(self) -> AsyncIterator[int]:
        async for pid in self.actor.hold():
            yield pid
