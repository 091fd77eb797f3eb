"""Plug-ins for the tests of the test kernel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from mukernel import Interface, Plugin, idempotent


class Counter(Interface, version="1.0"):
    async def add(self, amount: int) -> int: ...
    async def slowly(self, seconds: float) -> int: ...
    @idempotent
    async def again(self, seconds: float) -> int: ...
    def count(self, upto: int) -> AsyncIterator[int]: ...
    def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]: ...


class Arithmetic(Interface, version="1.0"):
    def double(self, number: int) -> int: ...


class Tally(Plugin, Counter):
    def __init__(self) -> None:
        self.sum = 0

    async def add(self, amount: int) -> int:
        self.sum += amount
        return self.sum

    async def slowly(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return self.sum

    async def again(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return self.sum

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    def save(self) -> int:
        return self.sum

    def restore(self, total: int) -> None:
        self.sum = total


class Standing(Interface):
    async def total(self) -> int: ...


class Twofold(Tally, Standing):
    async def total(self) -> int:
        return self.sum


class Doubling(Plugin, Arithmetic):
    def double(self, number: int) -> int:
        return 2 * number


class Front(Plugin, Arithmetic):
    """Calls another plug-in, which may run elsewhere, and blocks meanwhile."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def double(self, number: int) -> int:
        return number


class Nesting(Interface):
    async def nested(self) -> int: ...
    async def plain(self) -> int: ...


class Nested(Plugin, Nesting):
    """Once it has been moved its method calls it again, by a proxy of whoever called."""

    caller: Nesting

    def __init__(self) -> None:
        self.moved = False

    def save(self) -> bool:
        return True

    def restore(self, moved: bool) -> None:
        self.moved = moved

    async def nested(self) -> int:
        await asyncio.sleep(0.01)
        return await Nested.caller.plain() if self.moved else 0

    async def plain(self) -> int:
        return 1
