"""Reading methods from signatures: the four models, and what is refused."""

from __future__ import annotations  # so every annotation here is a string, resolved at first use

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from types import NoneType
from typing import Any

import pytest

from mukernel.contract import Contract, ContractError, Interface, Model, idempotent, oneway, raises


class Everything(Interface):
    async def call(self, name: str, times: int = 3, *, loud: bool = False) -> str:
        """Says it."""

    def blocking(self) -> Later: ...

    @oneway
    @idempotent
    async def note(self, text: str) -> None: ...

    def stream(self, upto: int) -> AsyncIterator[int]: ...

    async def generator(self) -> AsyncGenerator[bytes, None]:
        yield b""

    def blocking_stream(self) -> Iterator[float]: ...

    def channel(self, before: int, words: AsyncIterator[str], after: int) -> AsyncIterator[bytes]: ...


Later = dict[str, int]  # defined after the interface that names it

METHODS = Everything.__contract__.methods


def test_models_and_kinds() -> None:
    assert {name: (method.model, method.blocking) for name, method in METHODS.items()} == {
        "call": (Model.CALL, False),
        "blocking": (Model.CALL, True),
        "note": (Model.ONEWAY, False),
        "stream": (Model.STREAM, False),
        "generator": (Model.STREAM, False),
        "blocking_stream": (Model.STREAM, True),
        "channel": (Model.CHANNEL, False),
    }


def test_parameters() -> None:
    name, times, loud = METHODS["call"].parameters
    assert (name.name, name.annotation, name.required, name.keyword_only) == ("name", str, True, False)
    assert (times.annotation, times.required, times.default, times.keyword_only) == (int, False, 3, False)
    assert (loud.required, loud.default, loud.keyword_only) == (False, False, True)
    assert METHODS["call"].returns is str
    assert METHODS["call"].documentation == "Says it."
    assert METHODS["call"].qualified == "Everything.call"


def test_forward_references_are_resolved_at_first_use() -> None:
    assert METHODS["blocking"].returns == dict[str, int]


def test_streams_and_channels() -> None:
    assert METHODS["stream"].item is int
    assert METHODS["generator"].item is bytes
    assert METHODS["blocking_stream"].item is float
    channel = METHODS["channel"]
    assert (channel.input_name, channel.input_position, channel.input_item) == ("words", 1, str)
    assert [parameter.name for parameter in channel.parameters] == ["before", "after"]
    assert channel.item is bytes
    assert channel.returns is NoneType


def test_marks() -> None:
    assert METHODS["note"].idempotent
    assert not METHODS["call"].idempotent


class Unsendable:
    pass


async def no_annotation(self, name) -> str: ...
async def no_result(self, name: str): ...
async def no_self() -> None: ...
async def star(self, *names: str) -> None: ...
async def stars(self, **names: str) -> None: ...
async def unresolvable(self, name: str, other: list[Nowhere]) -> None: ...  # noqa: F821
async def unresolvable_result(self) -> Nowhere: ...  # noqa: F821
async def unsendable(self, thing: Unsendable) -> None: ...
async def unsendable_deep(self, things: dict[str, list[complex]]) -> None: ...
async def unsendable_result(self) -> object: ...
async def callback(self, done: Callable[[], None]) -> None: ...
async def ambiguous(self, either: dict[str, int] | dict[str, str]) -> None: ...
async def wrong_default(self, name: str = None) -> None: ...  # noqa: RUF013
async def coroutine_stream(self) -> AsyncIterator[int]: ...
async def input_only(self, words: AsyncIterator[str]) -> int: ...
def two_inputs(self, a: AsyncIterator[str], b: AsyncIterator[str]) -> AsyncIterator[str]: ...
def keyword_input(self, *, words: AsyncIterator[str]) -> AsyncIterator[str]: ...
def blocking_input(self, words: Iterator[str]) -> Iterator[str]: ...
def stream_of_unsendable(self) -> AsyncIterator[complex]: ...
@oneway
async def oneway_result(self) -> int: ...
@oneway
def oneway_stream(self) -> AsyncIterator[int]: ...
@oneway
@raises(KeyError)
async def oneway_raises(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_annotation, "Bad.no_annotation: parameter 'name' has no annotation: wanted its type"),
        (no_result, "Bad.no_result: the result has no annotation"),
        (no_self, "Bad.no_self: has no 'self'"),
        (star, "Bad.star: parameter '*names'"),
        (stars, "Bad.stars: parameter '**names'"),
        (unresolvable, "Bad.unresolvable: parameter 'other': annotation 'list[Nowhere]' cannot be resolved"),
        (unresolvable_result, "Bad.unresolvable_result: the result: annotation 'Nowhere' cannot be resolved"),
        (unsendable, "Bad.unsendable: parameter 'thing': type Unsendable cannot be sent: wanted builtins"),
        (unsendable_deep, "Bad.unsendable_deep: parameter 'things': type complex cannot be sent"),
        (unsendable_result, "Bad.unsendable_result: the result: type object cannot be sent"),
        (callback, "Bad.callback: parameter 'done': type Callable cannot be sent"),
        (ambiguous, "Bad.ambiguous: parameter 'either'"),
        (wrong_default, "Bad.wrong_default: parameter 'name': the default None is not of the declared type"),
        (coroutine_stream, "Bad.coroutine_stream: 'async def' returns the stream only when awaited"),
        (input_only, "Bad.input_only: parameter 'words' is a stream, and the result is 'int'"),
        (two_inputs, "Bad.two_inputs: parameters 'a', 'b' are all streams"),
        (keyword_input, "Bad.keyword_input: parameter 'words': an input stream must be positional"),
        (blocking_input, "Bad.blocking_input: parameter 'words': got collections.abc.Iterator[str], which would block"),
        (stream_of_unsendable, "Bad.stream_of_unsendable: each item of the result: type complex"),
        (oneway_result, "Bad.oneway_result: @oneway has no result, and is annotated '-> int'"),
        (oneway_stream, "Bad.oneway_stream: @oneway has no result"),
        (oneway_raises, "Bad.oneway_raises: @oneway sends no error back"),
    ],
)
def test_what_cannot_be_served_is_refused(function: Any, message: str) -> None:
    bad = type("Bad", (Interface,), {function.__name__: function})
    with pytest.raises(ContractError) as caught:
        bad.__contract__  # noqa: B018
    assert str(caught.value).startswith(message)


def test_a_refused_field_is_named() -> None:
    import msgspec

    inner = msgspec.defstruct("Inner", [("wave", complex)])
    outer = msgspec.defstruct("Outer", [("inner", list[inner])])

    class Plain:
        def send(self, message: Any) -> None: ...

    Plain.send.__annotations__["message"] = outer
    with pytest.raises(ContractError) as caught:
        Contract.of(Plain)
    assert str(caught.value).startswith(
        "Plain.send: parameter 'message': field 'inner' of Outer: field 'wave' of Inner: type complex"
    )
