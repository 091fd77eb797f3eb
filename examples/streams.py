"""Streams: items flow on credit, so a slow reader is never flooded; a channel flows both ways at once."""

# mypy: disable-error-code="empty-body"
import asyncio
from collections.abc import AsyncIterator

from mukernel import Interface, Kernel, Plugin


class Series(Interface):
    """Numbers, one after the other."""

    def squares(self, upto: int) -> AsyncIterator[int]: ...
    def averages(self, numbers: AsyncIterator[float]) -> AsyncIterator[float]: ...
    async def produced(self) -> int: ...


class Mathematics(Plugin, Series):
    def __init__(self) -> None:
        self.count = 0

    async def squares(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            self.count += 1
            yield number * number

    async def averages(self, numbers: AsyncIterator[float]) -> AsyncIterator[float]:
        total, count = 0.0, 0
        async for number in numbers:
            total, count = total + number, count + 1
            yield total / count

    async def produced(self) -> int:
        return self.count


async def measurements() -> AsyncIterator[float]:
    for number in (2.0, 4.0, 9.0):
        yield number


async def main() -> None:
    async with Kernel() as kernel:
        await kernel.load(Mathematics, name="series", placement="process")
        series = kernel.get(Series)

        print("a whole stream:", sum([square async for square in series.squares(1000)]))

        first = []
        async for square in series.squares(1_000_000):
            first.append(square)
            if len(first) == 3:
                ahead = await series.produced() - 1000 - len(first)
                break
        print(f"read {first}; the other side was no more than its credit ahead: {ahead <= 64}")

        print("a channel:", [average async for average in series.averages(measurements())])


if __name__ == "__main__":
    asyncio.run(main())
