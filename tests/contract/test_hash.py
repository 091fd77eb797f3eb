"""The contract hash: what changes it, and what does not."""

import dataclasses
import enum
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from mukernel.contract import Contract, ContractError, Description, Interface, idempotent, oneway, raises


def contract(version: str = "1.0", **functions: Callable[..., Any]) -> Contract:
    made = type("Shop", (Interface,), functions, version=version)
    return made.__contract__


def taking(annotation: Any) -> str:
    def put(self: object, value: Any) -> None: ...

    put.__annotations__["value"] = annotation
    return contract(put=put).hash


def test_it_is_32_hexadecimal_digits_and_the_same_each_time() -> None:
    assert len(taking(int)) == 32
    assert int(taking(int), 16)
    assert taking(int) == taking(int)
    # Pinned: peers of different releases compare hashes, so a change of the algorithm must be deliberate.
    assert taking(int) == "11d70f15e8bb67906f987a44a7159235"


async def buy(self: object, name: str, count: int = 1) -> int: ...
async def sell(self: object, name: str) -> None: ...


def test_what_changes_it() -> None:
    async def documented(self: object, name: str, count: int = 1) -> int:
        """Buys."""
        return 1

    def blocking(self: object, name: str, count: int = 1) -> int: ...

    same = {contract(buy=buy).hash, contract("1.7", buy=buy).hash}
    for function in (documented, blocking):
        function.__name__ = "buy"
        same.add(contract(buy=function).hash)
    assert len(same) == 1

    async def no_default(self: object, name: str, count: int) -> int: ...
    async def other_default(self: object, name: str, count: int = 2) -> int: ...
    async def other_name(self: object, title: str, count: int = 1) -> int: ...
    async def other_order(self: object, count: int, name: str) -> int: ...
    async def other_type(self: object, name: bytes, count: int = 1) -> int: ...
    async def other_result(self: object, name: str, count: int = 1) -> float: ...
    async def keyword(self: object, name: str, *, count: int = 1) -> int: ...
    def stream(self: object, name: str, count: int = 1) -> AsyncIterator[int]: ...
    async def nothing(self: object, name: str, count: int = 1) -> None: ...

    variants: list[Any] = [
        no_default,
        other_default,
        other_name,
        other_order,
        other_type,
        other_result,
        keyword,
    ]
    variants += [stream, nothing, oneway(nothing), idempotent(documented), raises(KeyError)(blocking)]
    hashes = []
    for function in variants:
        function.__name__ = "buy"
        hashes.append(contract(buy=function).hash)
    hashes += [
        contract("2.0", buy=buy).hash,
        contract(buy=buy, sell=sell).hash,
        contract(sell=sell, buy=buy).hash,
    ]
    hashes.append(type("Other", (Interface,), {"buy": buy}).__contract__.hash)
    # `nothing` occurs twice in the list, as one object marked @oneway.
    assert len(set(hashes)) == len(hashes) - 1
    assert not same & set(hashes)


def kinds_of_object(fields: list[tuple[str, Any]], name: str) -> list[type]:
    return [
        msgspec.defstruct(name, fields),
        dataclasses.make_dataclass(name, fields),
        TypedDict(name, dict(fields)),
    ]


def test_objects_count_by_their_fields_and_not_by_their_name() -> None:
    alike = {
        taking(kind) for name in ("Person", "Human") for kind in kinds_of_object([("name", str), ("age", int)], name)
    }
    assert len(alike) == 1
    others = {
        taking(msgspec.defstruct("Person", fields, **options))
        for fields, options in (
            ([("name", str)], {}),
            ([("name", str), ("age", float)], {}),
            ([("name", str), ("years", int)], {}),
            ([("name", str), ("age", int, 0)], {}),
            ([("name", str), ("age", int), ("more", int)], {}),
            ([("name", str), ("age", int)], {"array_like": True}),
            ([("name", str), ("age", int)], {"tag": "person"}),
            ([("name", str), ("age", int)], {"rename": "upper"}),
            ([("name", str), ("age", int)], {"forbid_unknown_fields": True}),
        )
    }
    assert len(others) == 9
    assert not alike & others
    assert taking(NamedTuple("P", [("name", str)])) != taking(msgspec.defstruct("P", [("name", str)]))


def test_a_field_deep_inside_counts() -> None:
    def nested(innermost: Any) -> str:
        inner = msgspec.defstruct("Inner", [("x", innermost)])
        return taking(dict[str, list[msgspec.defstruct("Outer", [("inner", inner | None)])]])

    assert nested(int) == nested(int)
    assert nested(int) != nested(str)


class Node(msgspec.Struct):
    left: "Node | None"
    right: "list[Node]"


class Knot(msgspec.Struct):
    left: "Knot | None"
    right: "list[Knot]"


class Ahead(msgspec.Struct):
    other: "Behind | None"


class Behind(msgspec.Struct):
    ahead: "Ahead"


def test_recursive_types_are_finite() -> None:
    assert taking(Node) == taking(Knot)
    assert taking(Ahead) != taking(Behind)
    assert taking(Node) != taking(Ahead)


def test_two_types_of_one_name_stay_apart() -> None:
    def pair(first: Any, second: Any) -> str:
        return taking(tuple[msgspec.defstruct("Item", [("x", first)]), msgspec.defstruct("Item", [("x", second)])])

    assert len({pair(int, str), pair(str, int), pair(int, int)}) == 3


def test_unions_have_no_order_and_values_count() -> None:
    assert taking(int | str | None) == taking(None | str | int)
    assert taking(Literal["a", "b"]) == taking(Literal["b", "a"])
    assert taking(Literal["a", "b"]) != taking(Literal["a"])
    assert taking(enum.Enum("Colour", {"RED": 1, "BLUE": 2})) != taking(enum.Enum("Colour", {"RED": 1}))


@pytest.mark.parametrize("dtypes", [("float64", "float32")])
def test_the_dtype_of_an_array_counts(dtypes: tuple[str, str]) -> None:
    import numpy as np
    import numpy.typing as npt

    first, second = (npt.NDArray[getattr(np, name)] for name in dtypes)
    assert len({taking(first), taking(second), taking(np.ndarray)}) == 3


def test_a_description_crosses_processes() -> None:
    class Tree(msgspec.Struct):
        children: list[int]

    class Forest(Interface, version="3.1"):
        """Trees."""

        @raises(KeyError)
        async def grow(self, tree: Tree, by: float = 1.5, *, wet: bool = False) -> Tree | None: ...
        def watch(self, names: AsyncIterator[str]) -> AsyncIterator[Tree]: ...

    description = Forest.__contract__.describe()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(description), type=Description) == description
    assert msgspec.json.decode(msgspec.json.encode(description), type=Description) == description
    assert (description.name, description.version, description.documentation) == ("Forest", "3.1", "Trees.")
    assert description.hash == Forest.__contract__.hash
    grow = description.method("grow")
    assert grow is not None
    assert [(p.name, p.default, p.required, p.keyword_only) for p in grow.parameters] == [
        ("tree", "", True, False),
        ("by", "1.5", False, False),
        ("wet", "false", False, True),
    ]
    assert grow.raises == ("KeyError",)
    assert description.method("fell") is None


class Port(enum.IntEnum):
    HTTP = 80


@dataclasses.dataclass
class Settings:
    ports: dict[int, str] = dataclasses.field(default_factory=lambda: {2: "b", 1: "a"})
    key: bytes = b"q"
    mixed: frozenset[int | str] = frozenset({1, "a"})


@pytest.mark.parametrize(
    ("annotation", "default", "text"),
    [
        (dict[int, str], {2: "b", 1: "a"}, '{1:"a",2:"b"}'),
        (dict[bool, int], {True: 1}, "{true:1}"),
        (dict[uuid.UUID, int], {uuid.UUID(int=1): 1}, '{"00000000-0000-0000-0000-000000000001":1}'),
        (dict[Port, str], {Port.HTTP: "a"}, '{80:"a"}'),
        (dict[tuple[int, int], int], {(1, 2): 3}, "{[1,2]:3}"),
        (dict[int | str, int], {"a": 2, 1: 1}, '{"a":2,1:1}'),
        (Any, {1: {b"k": 2}}, "{1:{b'k':2}}"),
        (set[int | str], {"b", 1, "a"}, '["a","b",1]'),
        (bytes, b"abc", "b'abc'"),
        (float, float("inf"), "inf"),
        (float, float("-inf"), "-inf"),
        (Settings, Settings(), """{"key":b'q',"mixed":["a",1],"ports":{1:"a",2:"b"}}"""),
        (list[Settings], [Settings({})], """[{"key":b'q',"mixed":["a",1],"ports":{}}]"""),
    ],
)
def test_any_default_is_described_the_same_each_time(annotation: Any, default: Any, text: str) -> None:
    def put(self: object, value: Any = default) -> None: ...

    put.__annotations__["value"] = annotation
    assert contract(put=put).describe().methods[0].parameters[0].default == text


def test_defaults_that_json_does_not_tell_apart_do_count() -> None:
    class Left(msgspec.Struct, tag=True):
        x: int = 1

    class Right(msgspec.Struct, tag=True):
        x: int = 1

    defaults: list[Any] = [None, float("inf"), float("-inf"), "YWJj", b"abc", {1: 2}, {"1": 2}, Left(), Right()]
    hashes = set()
    for default in defaults:

        def put(self: object, value: Any = default) -> None: ...

        hashes.add(contract(put=put).hash)
    assert len(hashes) == len(defaults)


def test_a_default_that_has_no_end_is_refused_by_name() -> None:
    endless: list[Any] = []
    endless.append(endless)

    def put(self: object, value: Any = endless) -> None: ...

    with pytest.raises(ContractError, match="put: parameter 'value': the default"):
        contract(put=put)
