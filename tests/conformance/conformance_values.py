"""A plug-in that gives back what it gets, of every supported type."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import numpy

from mukernel import Buffer, Interface, Plugin


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
