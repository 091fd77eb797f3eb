"""Every value of every supported type arrives as it was sent, wherever the plug-in runs."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy
import pytest
from conformance_values import Circle, Colour, Everything, Level, Mirror, Point, Shape
from conformance_worlds import World, everywhere

from mukernel import Buffer, ContractError, Kernel

POINT = Point(1.5, -2.0, {"a": [1, 2], "": []})
VALUES: list[tuple[str, list[Any]]] = [
    ("nothing", [None]),
    ("boolean", [True, False]),
    ("integer", [0, 1, -1, 127, 128, -128, -129, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**64 - 1]),
    ("number", [0.0, -0.0, 1e308, 5e-324, math.inf, -math.inf, math.pi]),
    ("text", ["", "a", "é", "µ-kernel 🐍", "\x00\x1f", "x" * 100_000]),
    ("raw", [b"", b"\x00", bytes(range(256)), b"\xff" * 100_000]),
    ("many", [[], [1, "a", None], list(range(10_000))]),
    ("table", [{}, {"a": {1: "x", -5: ""}, "b": {}}]),
    ("row", [(1, "a", 2.5)]),
    ("distinct", [set(), {"a", "b"}]),
    ("frozen", [frozenset(), frozenset({1, 2, 3})]),
    ("point", [POINT]),
    ("figure", [Shape("triangle", [POINT] * 3, Colour.RED), Shape("", []), Circle(1.0)]),
    ("colour", list(Colour)),
    ("level", list(Level)),
    ("moment", [
        datetime(2024, 2, 29, 23, 59, 59, 999999, UTC), datetime(1, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, 12),
        datetime(2020, 6, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    ]),
    ("day", [date(2024, 2, 29), date(1, 1, 1), date(9999, 12, 31)]),
    ("clock", [time(0, 0), time(23, 59, 59, 999999), time(1, 2, tzinfo=UTC)]),
    ("span", [timedelta(), timedelta(days=-1, microseconds=1), timedelta(days=10_000)]),
    ("name", [UUID(int=0), UUID("12345678-1234-5678-1234-567812345678")]),
    ("money", [Decimal("0"), Decimal("-12345678901234567890.000000000123"), Decimal("1E+100")]),
    ("either", [None, 5, ["a"], []]),
    ("buffer", [Buffer(b""), Buffer(b"abc"), Buffer(bytearray(1 << 20))]),
]  # fmt: skip
ARRAYS = [
    numpy.zeros(0), numpy.array(5), numpy.arange(24, dtype="int16").reshape(2, 3, 4), numpy.eye(3, order="F"),
    numpy.array([True, False]), numpy.array([1 + 2j], dtype="complex64"), numpy.arange(10)[::2],
    numpy.arange(1 << 17, dtype="float64"), numpy.array(["2020-01-01"], dtype="datetime64[D]"),
    numpy.arange(4, dtype=">i4"),
]  # fmt: skip
SIZES = [
    0, 1, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 16_383, 16_384, 16_385, 32_766, 32_767, 32_768, 32_769, 65_536,
    (1 << 17) - 64, 1 << 17, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1 << 20, 64 << 20,
]  # fmt: skip


@everywhere
async def test_every_value_comes_back_as_it_went(world: World, kernel: Kernel) -> None:
    await kernel.load(Mirror, placement=world.placement)
    mirror = kernel.get(Everything)
    for method, values in VALUES:
        for value in values:
            back = await getattr(mirror, method)(value)
            assert back == value and type(back) is type(value), f"{method}({value!r:.80}) came back as {back!r:.80}"
    assert math.isnan(await mirror.number(math.nan))


@everywhere
async def test_arrays_keep_their_type_shape_and_order(world: World, kernel: Kernel) -> None:
    await kernel.load(Mirror, placement=world.placement)
    mirror = kernel.get(Everything)
    for array in ARRAYS:
        back = await mirror.array(array)
        assert back.dtype == array.dtype and back.shape == array.shape
        assert numpy.array_equal(back, array)


@everywhere
async def test_bodies_of_every_size(world: World, kernel: Kernel) -> None:
    await kernel.load(Mirror, placement=world.placement)
    mirror = kernel.get(Everything)
    pattern = bytes(range(251)) * ((64 << 20) // 251 + 1)
    for size in SIZES:
        body = pattern[:size]
        assert await mirror.raw(body) == body, f"a body of {size} bytes was changed"


@everywhere
async def test_parameters_bind_as_python_binds_them(world: World, kernel: Kernel) -> None:
    await kernel.load(Mirror, placement=world.placement)
    mirror = kernel.get(Everything)
    assert await mirror.pair(1) == (1, 2, 3)
    assert await mirror.pair(1, 5) == (1, 5, 3)
    assert await mirror.pair(1, second=5, third=6) == (1, 5, 6)
    with pytest.raises(ContractError if world.codec else TypeError, match=r"third|positional|pair"):
        await mirror.pair(1, 2, 3)  # type: ignore[misc]


@everywhere
async def test_a_value_of_the_wrong_type_is_refused_where_values_travel(world: World, kernel: Kernel) -> None:
    await kernel.load(Mirror, placement=world.placement)
    mirror = kernel.get(Everything)
    if not world.codec:
        return  # inline, values are handed over as they are, as in any Python call
    with pytest.raises(ContractError, match="value"):
        await mirror.integer("five")  # type: ignore[arg-type]
    with pytest.raises(ContractError):
        await mirror.text(object())  # type: ignore[arg-type]
    assert await mirror.integer(5) == 5
