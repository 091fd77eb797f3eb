"""However a parameter is declared, and given, it arrives: of every model of interaction, and of callers who know an
older version of the interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy
import pytest
from conformance_worlds import World, everywhere, threaded

from mukernel import Buffer, Interface, Kernel, Plugin, oneway

LARGE = 100_000  # bytes: what is lent, not copied


class Shapes(Interface):
    """Each method gives back what it was given."""

    async def request(self, first: int, /, second: int = 2, *, third: int = 3) -> list[int]: ...
    def blocking(self, first: int, /, second: int = 2, *, third: int = 3) -> list[int]: ...
    @oneway
    async def note(self, first: int, *, third: int = 3) -> None: ...
    async def noted(self) -> list[int]: ...
    def stream(self, first: int, /, second: int = 2, *, third: int = 3) -> AsyncIterator[int]: ...
    def blocking_stream(self, first: int, *, third: int = 3) -> Iterator[int]: ...
    def between(self, first: int, items: AsyncIterator[int], second: int = 2) -> AsyncIterator[int]: ...
    def named(self, items: AsyncIterator[int], *, third: int = 3) -> AsyncIterator[int]: ...


class Echo(Plugin, Shapes):
    def __init__(self) -> None:
        self.last: list[int] = []
        self.came = asyncio.Event()

    async def request(self, first: int, /, second: int = 2, *, third: int = 3) -> list[int]:
        return [first, second, third]

    def blocking(self, first: int, /, second: int = 2, *, third: int = 3) -> list[int]:
        return [first, second, third]

    async def note(self, first: int, *, third: int = 3) -> None:
        self.last = [first, third]
        self.came.set()

    async def noted(self) -> list[int]:
        await self.came.wait()
        return self.last

    async def stream(self, first: int, /, second: int = 2, *, third: int = 3) -> AsyncIterator[int]:
        for each in (first, second, third):
            yield each

    def blocking_stream(self, first: int, *, third: int = 3) -> Iterator[int]:
        yield first
        yield third

    async def between(self, first: int, items: AsyncIterator[int], second: int = 2) -> AsyncIterator[int]:
        yield first
        async for each in items:
            yield each
        yield second

    async def named(self, items: AsyncIterator[int], *, third: int = 3) -> AsyncIterator[int]:
        async for each in items:
            yield each
        yield third


async def some(*numbers: int) -> AsyncIterator[int]:
    for each in numbers:
        yield each


async def collected(items: AsyncIterator[int]) -> list[int]:
    return [each async for each in items]


@everywhere
async def test_awaited(world: World, kernel: Kernel) -> None:
    await kernel.load(Echo, name="echo", placement=world.placement)
    echo = kernel.get(Shapes)
    for request in (echo.request, echo.stream):
        for call, wanted in (
            (lambda made: made(1), [1, 2, 3]),
            (lambda made: made(1, third=6), [1, 2, 6]),
            (lambda made: made(1, second=5), [1, 5, 3]),
            (lambda made: made(1, 5, third=6), [1, 5, 6]),
        ):  # type: tuple[Callable[[Any], Any], list[int]]
            result = call(request)
            assert (await collected(result) if hasattr(result, "__aiter__") else await result) == wanted
    await echo.note(1, third=6)
    assert await echo.noted() == [1, 6]
    assert await collected(echo.between(1, some(8, 9))) == [1, 8, 9, 2]
    assert await collected(echo.between(1, some(8, 9), 5)) == [1, 8, 9, 5]
    assert await collected(echo.between(1, items=some(8, 9), second=5)) == [1, 8, 9, 5]
    assert await collected(echo.between(second=5, items=some(8), first=7)) == [7, 8, 5]
    assert await collected(echo.named(items=some(8))) == [8, 3]
    assert await collected(echo.named(some(8), third=6)) == [8, 6]


@threaded
async def test_blocking(world: World, kernel: Kernel) -> None:
    await kernel.load(Echo, name="echo", placement=world.placement)
    echo: Any = kernel.get(Shapes, blocking=True)

    def call() -> None:
        for request in (echo.request, echo.blocking, echo.stream):
            assert list(request(1)) == [1, 2, 3]
            assert list(request(1, second=5, third=6)) == [1, 5, 6]
        assert list(echo.blocking_stream(1)) == [1, 3]
        assert list(echo.blocking_stream(first=1, third=6)) == [1, 6]
        assert list(echo.between(1, iter([8, 9]))) == [1, 8, 9, 2]
        assert list(echo.between(1, items=iter([8, 9]), second=5)) == [1, 8, 9, 5]
        assert list(echo.between(first=7, items=iter([8]))) == [7, 8, 2]
        assert list(echo.between(first=7, second=5, items=iter([8]))) == [7, 8, 5]
        assert list(echo.named(items=iter([8]))) == [8, 3]
        assert list(echo.named(third=6, items=iter([8]))) == [8, 6]

    await asyncio.to_thread(call)


class OldCamera(Interface, name="Camera", version="1.0"):
    async def store(self, frame: Buffer, pixels: numpy.ndarray) -> int: ...
    def parts(self, frame: Buffer) -> AsyncIterator[int]: ...
    def each(self, frame: Buffer, more: AsyncIterator[Buffer]) -> AsyncIterator[int]: ...


class Camera(Interface, version="1.1"):
    async def store(self, frame: Buffer, pixels: numpy.ndarray, scale: int = 1) -> int: ...
    def parts(self, frame: Buffer, scale: int = 1) -> AsyncIterator[int]: ...
    def each(self, frame: Buffer, more: AsyncIterator[Buffer], scale: int = 1) -> AsyncIterator[int]: ...


class Newer(Plugin, Camera):
    async def store(self, frame: Buffer, pixels: numpy.ndarray, scale: int = 1) -> int:
        return (len(frame) + int(pixels.sum())) * scale

    async def parts(self, frame: Buffer, scale: int = 1) -> AsyncIterator[int]:
        yield len(frame) * scale

    async def each(self, frame: Buffer, more: AsyncIterator[Buffer], scale: int = 1) -> AsyncIterator[int]:
        yield len(frame) * scale
        async for one in more:
            yield len(one) * scale


@everywhere
@pytest.mark.parametrize("size", [1000, LARGE])
async def test_large_values_of_a_caller_who_knows_an_older_version(world: World, kernel: Kernel, size: int) -> None:
    await kernel.load(Newer, name="camera", placement=world.placement)
    camera = kernel.get(OldCamera)
    frame, pixels = Buffer(bytes(size)), numpy.ones(size, "u1")

    async def more() -> AsyncIterator[Buffer]:
        yield frame

    assert await camera.store(frame, pixels) == 2 * size
    assert await collected(camera.parts(frame)) == [size]
    assert await collected(camera.each(frame, more())) == [size, size]
