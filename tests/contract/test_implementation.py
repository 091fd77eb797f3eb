"""Does a class implement an interface? What is accepted, and each refusal."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mukernel.contract import Interface, Plugin, check_implements, idempotent, oneway


class Greeter(Interface):
    @idempotent
    async def greet(self, name: str, loud: bool = False) -> str | None: ...
    def door(self, *, shut: bool) -> int: ...
    @oneway
    async def note(self, text: str) -> None: ...
    def count(self, upto: int) -> AsyncIterator[int]: ...
    def lines(self) -> Iterator[str]: ...
    def echo(self, before: str, words: AsyncIterator[str]) -> AsyncIterator[bytes]: ...


class Good:
    """Every method right, and without deriving from anything."""

    async def greet(self, name: str, loud: bool = False) -> str:
        return name

    def door(self, *, shut: bool) -> int:
        return 1

    async def note(self, text: str) -> None:
        pass

    async def count(self, upto: int) -> AsyncIterator[int]:
        yield upto

    def lines(self) -> Iterator[str]:
        yield ""

    async def echo(self, before: str, words: AsyncIterator[str]) -> AsyncIterator[bytes]:
        yield b""


def found(name: str, function: Any) -> list[str]:
    """What is said of Good with one method replaced."""
    if hasattr(function, "__name__"):
        function.__name__ = name
    return check_implements(type("Good", (Good,), {name: function}), Greeter)


def test_good() -> None:
    assert check_implements(Good, Greeter) == []


def test_a_plugin_that_implements_nothing() -> None:
    class Empty(Plugin, Greeter):
        pass

    assert check_implements(Empty, Greeter) == [
        f"Empty.{name}: is not implemented, and Greeter.{name} declares it"
        for name in ("greet", "door", "note", "count", "lines", "echo")
    ]
    assert len(check_implements(object, Greeter)) == 6


def blocking_greet(self: object, name: str, loud: bool = False) -> str: ...
def bare(self, name, loud=False): ...
def anything(self, *args, **kwargs): ...
async def wider(self: object, name: str | int, loud: bool = False, more: int = 0) -> Any: ...
async def narrower(self: object, name: str, loud: bool = False) -> None: ...
async def async_door(self: object, shut: bool) -> int: ...
def named_door(self: object, **kwargs: Any) -> int: ...
def sync_note(self: object, text: str) -> None: ...
def returned_count(self: object, upto: int) -> AsyncIterator[int]: ...
def bare_count(self, upto): ...
async def bare_generator(self, upto):
    yield upto


async def async_lines(self: object) -> AsyncIterator[str]:
    yield ""


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("greet", blocking_greet),
        ("greet", bare),
        ("greet", anything),
        ("greet", narrower),
        ("door", async_door),
        ("door", named_door),
        ("note", sync_note),
        ("count", returned_count),
        ("count", bare_count),
        ("count", bare_generator),
        ("lines", async_lines),
    ],
)
def test_accepted(name: str, function: Any) -> None:
    assert found(name, function) == []


async def other_type(self: object, name: int, loud: bool = False) -> str: ...
async def other_result(self: object, name: str, loud: bool = False) -> int: ...
async def other_default(self: object, name: str, loud: bool = True) -> str: ...
async def no_default(self: object, name: str, loud: bool) -> str: ...
async def swapped(self: object, loud: bool, name: str) -> str: ...
async def missing(self: object, name: str) -> str: ...
async def extra(self: object, name: str, loud: bool = False, *, more: int) -> str: ...
async def generator(self: object, name: str, loud: bool = False) -> AsyncIterator[str]:
    yield name


async def unknown(self: object, name: "Nowhere", loud: bool = False) -> str: ...  # noqa: F821
async def unsendable(self: object, name: complex, loud: bool = False) -> str: ...
def no_shut(self: object) -> int: ...
async def coroutine_count(self: object, upto: int) -> int: ...
def sync_count(self: object, upto: int) -> Iterator[int]:
    yield upto


async def wrong_items(self: object, upto: int) -> AsyncIterator[str]:
    yield ""


def listed(self: object) -> list[str]: ...
async def no_input(self: object, before: str) -> AsyncIterator[bytes]:
    yield b""


async def wrong_input(self: object, before: str, words: AsyncIterator[int]) -> AsyncIterator[bytes]:
    yield b""


async def list_input(self: object, before: str, words: list[str]) -> AsyncIterator[bytes]:
    yield b""


async def answering_note(self: object, text: str) -> int: ...


ASYNC = "wanted an async generator, or a def that returns an AsyncIterator"


@pytest.mark.parametrize(
    ("name", "function", "lines"),
    [
        ("greet", 3, ["is a int, wanted a method"]),
        ("greet", property(lambda self: None), ["is a property, wanted a method"]),
        ("greet", wider, ["the result was None | str, is Any"]),
        ("greet", other_type, ["parameter 'name' was str, is int"]),
        ("greet", other_result, ["the result was None | str, is int"]),
        ("greet", other_default, ["the default of parameter 'loud' was false, is true"]),
        ("greet", no_default, ["parameter 'loud' was optional, is required"]),
        (
            "greet",
            swapped,
            [
                "parameter 'name' is wanted at position 1, 'loud' stands there",
                "parameter 'loud' is wanted at position 2, 'name' stands there",
                "parameter 'loud' was optional, is required",
            ],
        ),
        ("greet", missing, ["parameter 'loud' is wanted at position 2, nothing stands there"]),
        ("greet", extra, ["parameter 'more' is required, and Greeter.greet does not declare it"]),
        (
            "greet",
            generator,
            ["is an async generator, or a def that returns an AsyncIterator, wanted async def or def"],
        ),
        (
            "greet",
            unknown,
            [
                "parameter 'name': annotation 'Nowhere' cannot be resolved (NameError: name "
                "'Nowhere' is not defined): "
                "wanted a name that the module, or the class, defines, or imports"
            ],
        ),
        ("door", no_shut, ["parameter 'shut' is missing"]),
        ("count", coroutine_count, [f"is async def, {ASYNC}"]),
        ("count", sync_count, [f"is a generator, or a def that returns an Iterator, {ASYNC}"]),
        ("count", wrong_items, ["each item of the result was int, is str"]),
        (
            "lines",
            listed,
            [
                "is def, wanted a generator, or a def that returns an Iterator or "
                "an async generator, or a def that returns an AsyncIterator"
            ],
        ),
        ("echo", no_input, ["parameter 'words' is wanted at position 2, nothing stands there"]),
        ("echo", wrong_input, ["each item of parameter 'words' was str, is int"]),
        ("echo", list_input, ["parameter 'words' was an AsyncIterator, is list[str]"]),
        ("note", answering_note, ["the result was None, is int"]),
    ],
)
def test_refused(name: str, function: Any, lines: list[str]) -> None:
    assert found(name, function) == [f"Good.{name}: {line}" for line in lines]


def test_a_type_that_cannot_be_sent_is_refused() -> None:
    (line,) = found("greet", unsendable)
    assert line.startswith("Good.greet: parameter 'name': type complex cannot be sent")
