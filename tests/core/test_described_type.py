"""What is decoded by a description is what was sent; what does not fit it is refused."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pytest

from mukernel.contract.schema import TypeTable
from mukernel.core.described_type import DescribedTypes


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(msgspec.Struct, tag="cat"):
    name: str
    lives: int = 9


class Dog(msgspec.Struct, tag="dog", forbid_unknown_fields=True):
    name: str
    friend: Cat | None = None


class Point(msgspec.Struct, array_like=True):
    x: int
    y: int = 0


class Sparse(msgspec.Struct, omit_defaults=True, rename="camel"):
    first_name: str
    last_name: str = ""


class Pair(NamedTuple):
    left: int
    right: str = ""


class Entry(TypedDict):
    title: str
    year: NotRequired[int]


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


@dataclass
class Person:
    name: str
    age: int | None = None


RIGHT: list[tuple[Any, Any]] = [
    (None, None), (bool, True), (int, 3), (float, 2), (str, "a"), (bytes, b"a"), (bytearray, bytearray(b"a")),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC)), (datetime, datetime(2026, 1, 2)), (date, date(2026, 1, 2)),
    (time, time(3, 4)), (timedelta, timedelta(seconds=90)), (UUID, UUID(int=7)), (Decimal, Decimal("1.50")),
    (list[int], [1, 2]), (list, [1, "a"]), (set[str], {"a"}), (frozenset[int], frozenset({1})),
    (dict[str, int], {"a": 1}), (dict[int, list[str]], {1: ["a"]}), (tuple[int, str], (1, "a")), (tuple[()], ()),
    (tuple[int, ...], (1, 2, 3)), (int | None, None), (int | str, "a"), (Colour, Colour.RED), (Literal["a", 1], 1),
    (Annotated[int, msgspec.Meta(ge=0, lt=10)], 9), (Annotated[str, msgspec.Meta(pattern="^a", max_length=2)], "ab"),
    (Cat | Dog, Dog("Rex", Cat("Tom"))), (list[Cat], [Cat("Tom", 1)]), (Point, Point(1, 2)), (Pair, Pair(1, "b")),
    (Sparse, Sparse("Ada")), (Sparse | None, Sparse("Ada", "L")), (Entry, {"title": "Emma"}),
    (Entry, {"title": "Emma", "year": 1815}), (Person, Person("Ada")), (Tree, Tree(1, [Tree(2)])), (Any, {"a": [1]}),
]  # fmt: skip
WRONG: list[tuple[Any, Any]] = [
    (None, 1), (bool, 1), (int, "1"), (float, "x"), (str, 1), (bytes, 1), (datetime, "soon"), (UUID, "x"),
    (list[int], [1, "b"]), (set[str], [1]), (dict[str, int], {"a": "b"}), (tuple[int, str], [1]), (int | None, "x"),
    (tuple[int, ...], ["a"]), (Colour, "green"), (Literal["a", 1], "b"), (Annotated[int, msgspec.Meta(ge=0)], -1),
    (Annotated[str, msgspec.Meta(max_length=2)], "abc"), (Cat | Dog, {"type": "cow", "name": "Berta"}),
    (Dog, {"type": "dog", "name": "Rex", "age": 3}), (Point, [1, "y"]), (Point, {"x": 1}), (Pair, [1, 2]),
    (Sparse, {"first_name": "Ada"}), (Entry, {"year": 1815}), (Person, {"name": "Ada", "age": "old"}),
    (Tree, {"value": "x"}),
]  # fmt: skip


def decodable(annotation: Any) -> Any:
    table = TypeTable()
    described = table.describe(annotation, "test")
    return DescribedTypes(table.objects).decodable(described)


@pytest.mark.parametrize(("annotation", "value"), RIGHT, ids=lambda each: str(each)[:40])
def test_what_is_sent_is_what_is_passed_on(annotation: Any, value: Any) -> None:
    kind = decodable(annotation)
    assert (kind is Any) is (annotation is Any)
    sent = msgspec.msgpack.encode(value)
    decoded = msgspec.msgpack.decode(sent, type=kind)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decoded)) == msgspec.msgpack.decode(sent)


@pytest.mark.parametrize(("annotation", "value"), WRONG, ids=lambda each: str(each)[:40])
def test_what_does_not_fit_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=decodable(annotation))


def test_a_description_that_can_not_be_read_stands_for_anything() -> None:
    described = msgspec.structs.replace(TypeTable().describe(Colour, "test"), detail="<of a later version>")
    assert DescribedTypes({}).decodable(described) is Any
