"""Which servers may serve which callers, and what is said when not."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from mukernel.contract import Description, Interface, MethodCodec, differences, idempotent, oneway


class Person(msgspec.Struct):
    name: str
    age: int


class Client(msgspec.Struct):
    name: str
    age: str


class Guest(msgspec.Struct):
    name: str
    age: int
    table: int = 0


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Row(msgspec.Struct, array_like=True):
    name: str
    age: int


class WideRow(msgspec.Struct, array_like=True):
    name: str
    age: int
    more: int = 0


class Node(msgspec.Struct):
    value: int
    next: "Node | None" = None


class Knot(msgspec.Struct):
    value: str
    next: "Knot | None" = None


def describe(version: str = "1.0", name: str = "Greeter", **functions: Callable[..., Any]) -> Description:
    made = type(name, (Interface,), {}, version=version)
    for function_name, function in functions.items():
        function.__name__ = function_name
        setattr(made, function_name, function)
    return made.__contract__.describe()


def taking(annotation: Any, returns: Any = None) -> Description:
    async def greet(self: object, name: Any) -> Any: ...

    greet.__annotations__.update({"name": annotation, "return": returns})
    return describe(greet=greet)


def returning(annotation: Any) -> Description:
    async def greet(self: object) -> Any: ...

    greet.__annotations__["return"] = annotation
    return describe(greet=greet)


async def one(self: object, name: str) -> str: ...
async def optional(self: object, name: str, loud: bool = False) -> str: ...
async def required(self: object, name: str, loud: bool) -> str: ...
async def number(self: object, name: int) -> str: ...
async def none(self: object) -> str: ...
async def no_result(self: object, name: str) -> None: ...
def stream(self: object, name: str) -> AsyncIterator[str]: ...
def numbers(self: object, name: str) -> AsyncIterator[int]: ...
def channel(self: object, words: AsyncIterator[str]) -> AsyncIterator[str]: ...
def other_channel(self: object, lines: AsyncIterator[bytes]) -> AsyncIterator[str]: ...


@pytest.mark.parametrize(
    ("caller", "server"),
    [
        (describe(greet=one), describe(greet=one)),
        (describe(greet=one), describe("1.4", greet=one, more=none)),
        (describe("1.4", greet=one), describe("1.1", greet=one)),
        (describe(greet=one), describe(greet=optional)),
        (describe(a=one, b=none), describe(b=none, a=one)),
        (taking(str), taking(str | None)),
        (taking(str), taking(Any)),
        (taking(list[int]), taking(list[int | str])),
        (taking(Person), taking(Guest)),
        (taking(Guest), taking(Person)),
        (taking(Node), taking(Node)),
        (returning(str | None), returning(str)),
        (returning(Person), returning(Guest)),
        (returning(Guest), returning(Person)),
    ],
)
def test_compatible(caller: Description, server: Description) -> None:
    assert differences(caller, server) == []


@pytest.mark.parametrize(
    ("caller", "server", "lines"),
    [
        (
            describe(greet=one),
            describe(greet=number),
            ["Greeter.greet: parameter 'name' was str, is int"],
        ),
        (
            describe("1.2", greet=one, more=one),
            describe("1.1", greet=one),
            ["Greeter.more: the method was in 1.2, is not in 1.1"],
        ),
        (describe(greet=one), describe(greet=none), ["Greeter.greet: parameter 'name' was str, is gone"]),
        (
            describe(greet=optional),
            describe(greet=one),
            ["Greeter.greet: parameter 'loud' was bool, is gone"],
        ),
        (
            describe(greet=one),
            describe(greet=required),
            ["Greeter.greet: parameter 'loud' is new and required (bool)"],
        ),
        (
            describe(greet=optional),
            describe(greet=required),
            ["Greeter.greet: parameter 'loud' was optional, is required"],
        ),
        (describe(greet=one), describe(greet=no_result), ["Greeter.greet: the result was str, is None"]),
        (describe(greet=one), describe(greet=stream), ["Greeter.greet: the model was call, is stream"]),
        (
            describe(greet=stream),
            describe(greet=numbers),
            ["Greeter.greet: each item of the result was str, is int"],
        ),
        (
            describe(greet=channel),
            describe(greet=other_channel),
            [
                "Greeter.greet: the input stream was 'words', is 'lines'",
                "Greeter.greet: each item of parameter 'words' was str, is bytes",
            ],
        ),
        (describe("1.0"), describe("2.0"), ["Greeter: the major version was 1.0, is 2.0"]),
        (describe(), describe(name="Door"), ["Greeter: the interface was Greeter, is Door"]),
        (taking(str | None), taking(str), ["Greeter.greet: parameter 'name' was None | str, is str"]),
        (
            taking(dict[str, int]),
            taking(dict[str, str]),
            ["Greeter.greet: parameter 'name' was dict[str, int], is dict[str, str]"],
        ),
        (taking(Any), taking(str), ["Greeter.greet: parameter 'name' was Any, is str"]),
        (returning(str), returning(str | None), ["Greeter.greet: the result was str, is None | str"]),
        (
            taking(Person),
            taking(Client),
            ["Greeter.greet: parameter 'name' was Person, is Client (field 'age' of Client was int, is str)"],
        ),
        (
            returning(Client),
            returning(Person),
            ["Greeter.greet: the result was Client, is Person (field 'age' of Client was str, is int)"],
        ),
        (
            taking(Strict),
            taking(Person),
            [
                "Greeter.greet: parameter 'name' was Strict, is Person (field 'age' of Person was "
                "absent, is int, required)"
            ],
        ),
        (
            taking(Person),
            taking(Strict),
            ["Greeter.greet: parameter 'name' was Person, is Strict (field 'age' of Strict was present, is refused)"],
        ),
        (
            taking(Row),
            taking(WideRow),
            [
                "Greeter.greet: parameter 'name' was Row, is WideRow "
                "(field order of Row was name, age, is name, age, more)"
            ],
        ),
        (taking(Person), taking(Row), ["Greeter.greet: parameter 'name' was Person, is Row"]),
        (
            taking(Node),
            taking(Knot),
            ["Greeter.greet: parameter 'name' was Node, is Knot (field 'value' of Knot was int, is str)"],
        ),
    ],
)
def test_incompatible(caller: Description, server: Description, lines: list[str]) -> None:
    assert differences(caller, server) == lines


def test_every_difference_is_listed() -> None:
    lines = differences(describe(a=one, b=one, c=one), describe(a=number, c=required))
    assert [line.split(":")[0] for line in lines] == ["Greeter.a", "Greeter.b", "Greeter.c"]


def test_idempotent_may_be_gained_and_not_lost() -> None:
    async def safe(self: object, name: str) -> str: ...

    safe = idempotent(safe)
    assert differences(describe(greet=safe), describe(greet=one)) == ["Greeter.greet: was @idempotent, is not"]
    assert differences(describe(greet=one), describe(greet=safe)) == []


def test_oneway_is_a_model() -> None:
    async def note(self: object, name: str) -> None: ...

    lines = differences(describe(greet=no_result), describe(greet=oneway(note)))
    assert lines == ["Greeter.greet: the model was call, is oneway"]


def test_what_is_called_compatible_can_really_be_read() -> None:
    class Old(Interface, name="Shop", version="1.0"):
        async def seat(self, person: Person, note: str) -> Guest: ...

    class New(Interface, name="Shop", version="1.1"):
        async def clear(self) -> None: ...
        async def seat(self, person: Guest, note: str | None, *, loud: bool = True) -> Person: ...

    assert Old.__contract__.hash != New.__contract__.hash
    assert differences(Old.__contract__.describe(), New.__contract__.describe()) == []
    caller = MethodCodec(Old.__contract__.methods["seat"])
    server = MethodCodec(New.__contract__.methods["seat"])
    sent = caller.encode_value(caller.binding.named((Person("Ada", 36), "by the window"), {}))
    assert server.decode_arguments(sent, named=True) == (Guest("Ada", 36, 0), "by the window", True)
    assert caller.decode_result(server.encode_result(Person("Ada", 36))) == Guest("Ada", 36, 0)
