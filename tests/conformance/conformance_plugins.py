"""The plug-in that the conformance suite runs everywhere: one method for each thing that a transport must carry."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import numpy

from mukernel import Buffer, Interface, Plugin, idempotent, oneway, raises
from mukernel.transports.context import current


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


@dataclass
class Point:
    x: float
    y: float
    labels: dict[str, list[int]]


class Shape(msgspec.Struct, tag=True):
    name: str
    corners: list[Point]
    colour: Colour | None = None


class Circle(msgspec.Struct, tag=True):
    radius: float


class Refused(Exception):
    """An exception that the interface declares."""


class Everything(Interface, version="1.0"):
    """What a transport must carry."""

    async def nothing(self, value: None) -> None: ...
    async def boolean(self, value: bool) -> bool: ...
    async def integer(self, value: int) -> int: ...
    async def number(self, value: float) -> float: ...
    async def text(self, value: str) -> str: ...
    async def raw(self, value: bytes) -> bytes: ...
    async def many(self, value: list[int | str | None]) -> list[int | str | None]: ...
    async def table(self, value: dict[str, dict[int, str]]) -> dict[str, dict[int, str]]: ...
    async def row(self, value: tuple[int, str, float]) -> tuple[int, str, float]: ...
    async def distinct(self, value: set[str]) -> set[str]: ...
    async def frozen(self, value: frozenset[int]) -> frozenset[int]: ...
    async def point(self, value: Point) -> Point: ...
    async def figure(self, value: Shape | Circle) -> Shape | Circle: ...
    async def colour(self, value: Colour) -> Colour: ...
    async def level(self, value: Level) -> Level: ...
    async def moment(self, value: datetime) -> datetime: ...
    async def day(self, value: date) -> date: ...
    async def clock(self, value: time) -> time: ...
    async def span(self, value: timedelta) -> timedelta: ...
    async def name(self, value: UUID) -> UUID: ...
    async def money(self, value: Decimal) -> Decimal: ...
    async def either(self, value: int | list[str] | None) -> int | list[str] | None: ...
    async def buffer(self, value: Buffer) -> Buffer: ...
    async def array(self, value: numpy.ndarray) -> numpy.ndarray: ...
    async def pair(self, first: int, /, second: int = 2, *, third: int = 3) -> tuple[int, int, int]: ...


class Behaviour(Interface, version="1.0"):
    """How a transport must behave."""

    @idempotent
    async def where(self) -> int: ...
    async def add(self, amount: int) -> int: ...
    @idempotent
    async def total(self) -> int: ...
    @oneway
    async def note(self, text: str) -> None: ...
    async def notes(self) -> list[str]: ...
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


class Mirror(Plugin, Everything):
    """Gives back what it gets."""

    async def nothing(self, value: None) -> None:
        assert value is None

    async def boolean(self, value: bool) -> bool:
        return value

    async def integer(self, value: int) -> int:
        return value

    async def number(self, value: float) -> float:
        return value

    async def text(self, value: str) -> str:
        return value

    async def raw(self, value: bytes) -> bytes:
        return value

    async def many(self, value: list[int | str | None]) -> list[int | str | None]:
        return value

    async def table(self, value: dict[str, dict[int, str]]) -> dict[str, dict[int, str]]:
        return value

    async def row(self, value: tuple[int, str, float]) -> tuple[int, str, float]:
        assert isinstance(value, tuple)
        return value

    async def distinct(self, value: set[str]) -> set[str]:
        return value

    async def frozen(self, value: frozenset[int]) -> frozenset[int]:
        return value

    async def point(self, value: Point) -> Point:
        assert isinstance(value, Point)
        return value

    async def figure(self, value: Shape | Circle) -> Shape | Circle:
        assert isinstance(value, Shape | Circle)
        return value

    async def colour(self, value: Colour) -> Colour:
        assert isinstance(value, Colour)
        return value

    async def level(self, value: Level) -> Level:
        assert isinstance(value, Level)
        return value

    async def moment(self, value: datetime) -> datetime:
        return value

    async def day(self, value: date) -> date:
        return value

    async def clock(self, value: time) -> time:
        return value

    async def span(self, value: timedelta) -> timedelta:
        return value

    async def name(self, value: UUID) -> UUID:
        return value

    async def money(self, value: Decimal) -> Decimal:
        return value

    async def either(self, value: int | list[str] | None) -> int | list[str] | None:
        return value

    async def buffer(self, value: Buffer) -> Buffer:
        return value

    async def array(self, value: numpy.ndarray) -> numpy.ndarray:
        return value

    async def pair(self, first: int, /, second: int = 2, *, third: int = 3) -> tuple[int, int, int]:
        return first, second, third


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
        self.noted.append(text)

    async def notes(self) -> list[str]:
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
