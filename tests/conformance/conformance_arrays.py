"""A plug-in that takes arrays and Buffers, makes them, keeps them and passes them on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy

from mukernel import Buffer, Interface, Plugin, idempotent, oneway, shared


class Arrays(Interface, version="1.0"):
    async def echo(self, array: numpy.ndarray) -> numpy.ndarray: ...
    async def part(self, array: numpy.ndarray, start: int, stop: int) -> numpy.ndarray: ...
    async def made(self, size: int) -> numpy.ndarray: ...
    async def buffer(self, content: Buffer) -> Buffer: ...
    async def many(self, arrays: list[numpy.ndarray]) -> dict[str, numpy.ndarray]: ...
    async def anything(self, value: Any) -> Any: ...
    def total(self, array: numpy.ndarray) -> float: ...
    def items(self, count: int, size: int) -> AsyncIterator[numpy.ndarray]: ...
    def each(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[numpy.ndarray]: ...
    def lasts(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[int]: ...
    def refused(self, array: numpy.ndarray) -> AsyncIterator[int]: ...
    @oneway
    async def keep(self, array: numpy.ndarray) -> None: ...
    @idempotent
    async def kept(self) -> float: ...
    async def held(self) -> int: ...


class Holder(Plugin, Arrays):
    def __init__(self) -> None:
        self.array: Any = None

    async def echo(self, array: numpy.ndarray) -> numpy.ndarray:
        return array

    async def part(self, array: numpy.ndarray, start: int, stop: int) -> numpy.ndarray:
        return array[start:stop]

    async def made(self, size: int) -> numpy.ndarray:
        array = shared.empty(size, "u1")
        array[:] = 7
        return array

    async def buffer(self, content: Buffer) -> Buffer:
        return content

    async def many(self, arrays: list[numpy.ndarray]) -> dict[str, numpy.ndarray]:
        return {str(number): array for number, array in enumerate(arrays)}

    async def anything(self, value: Any) -> Any:
        return value

    def total(self, array: numpy.ndarray) -> float:
        return float(array.sum())

    async def items(self, count: int, size: int) -> AsyncIterator[numpy.ndarray]:
        for number in range(count):
            yield numpy.full(size, number, "u1")

    async def each(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[numpy.ndarray]:
        async for array in arrays:
            yield array

    async def lasts(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[int]:
        async for array in arrays:
            sum(range(50_000))  # what keeps the loop keeps the items on their way
            yield int(array[-1])

    async def refused(self, array: numpy.ndarray) -> AsyncIterator[int]:
        for _ in ():
            yield 0
        raise ValueError("refused")

    async def keep(self, array: numpy.ndarray) -> None:
        self.array = array

    async def kept(self) -> float:
        return -1.0 if self.array is None else float(self.array.sum())

    async def held(self) -> int:
        return shared.held()


class Relay(Interface, version="1.0"):
    async def on(self, array: numpy.ndarray) -> numpy.ndarray: ...


class First(Plugin, Relay):
    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    async def on(self, array: numpy.ndarray) -> numpy.ndarray:
        return await self.arrays.echo(array)


class Once(Interface, version="1.0"):
    @idempotent
    async def sum_once_killed(self, array: numpy.ndarray) -> int: ...


class Waiting(Plugin, Once):
    """Has its first call wait for ever, having told the holder of it."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    async def sum_once_killed(self, array: numpy.ndarray) -> int:
        if await self.arrays.kept() < 0:
            await self.arrays.keep(array)
            await asyncio.Event().wait()
        return int(array.sum())


def frames(count: int, size: int) -> Iterator[numpy.ndarray]:
    for number in range(count):
        yield numpy.full(size, number, "u1")
