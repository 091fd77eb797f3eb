"""MethodCodec: arguments, results and stream items to bytes and back; what is refused, and in which words."""

import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mukernel.contract import Buffer, ContractError, Interface, MethodCodec


@dataclass
class Street:
    name: str
    numbers: list[int] = field(default_factory=list)


class Person(msgspec.Struct):
    name: str
    streets: list[Street]


class Greeter(Interface):
    async def greet(self, name: str) -> str: ...
    async def nothing(self) -> None: ...
    async def many(self, a: int, b: float, c: str = "c", d: list[int] = [1]) -> Person: ...  # noqa: B006
    async def keyword(self, a: int, b: int = 2, *, c: int, d: int = 4) -> int: ...
    async def meet(self, person: Person, tags: dict[str, int]) -> Person: ...
    async def anything(self, value: Any) -> Any: ...
    def count(self, upto: int) -> AsyncIterator[int]: ...
    def echo(self, before: str, words: AsyncIterator[str], after: str = "!") -> AsyncIterator[bytes]: ...


def codec(name: str) -> MethodCodec:
    return MethodCodec(Greeter.__contract__.methods[name])


def by_name(codec: MethodCodec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Arguments as they reach a method whose caller has another contract."""
    return codec.encode_value(codec.binding.named(args, kwargs))


def refusal(action: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ContractError) as caught:
        action(*args, **kwargs)
    return str(caught.value)


def test_one_argument_in_and_out() -> None:
    greet = codec("greet")
    assert greet.decode_arguments(greet.encode_arguments(("Ada",), {})) == ("Ada",)
    assert greet.decode_positional(greet.encode_positional(("Ada",))) == ("Ada",)
    assert greet.encode_arguments(("Ada",), {}) == greet.encode_arguments((), {"name": "Ada"})
    assert greet.decode_result(greet.encode_result("Hello")) == "Hello"
    assert greet.decode_value(greet.encode_value("Hello")) == "Hello"


def test_no_argument_and_no_result() -> None:
    nothing = codec("nothing")
    assert nothing.decode_arguments(nothing.encode_arguments((), {})) == ()
    assert nothing.decode_arguments(nothing.encode_value({}), named=True) == ()
    assert nothing.decode_result(nothing.encode_result(None)) is None


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1, 2.0), {}, (1, 2.0, "c", [1])),
        ((1, 2.0, "x", []), {}, (1, 2.0, "x", [])),
        ((1,), {"b": 2.5, "d": [4]}, (1, 2.5, "c", [4])),
        ((), {"d": [], "c": "", "b": 0.0, "a": -1}, (-1, 0.0, "", [])),
    ],
)
def test_defaults_are_filled_in(
    args: tuple[Any, ...], kwargs: dict[str, Any], expected: tuple[Any, ...], named: bool
) -> None:
    many = codec("many")
    data = by_name(many, args, kwargs) if named else many.encode_arguments(args, kwargs)
    assert many.decode_arguments(data, named=named) == expected


@pytest.mark.parametrize("named", [False, True])
def test_keyword_only_parameters(named: bool) -> None:
    keyword = codec("keyword")
    data = by_name(keyword, (1,), {"c": 3}) if named else keyword.encode_arguments((1,), {"c": 3})
    arguments = keyword.decode_arguments(data, named=named)
    assert arguments == (1, 2, 3, 4)

    def callee(a: int, b: int, *, c: int, d: int) -> str:
        return f"{a} {b} {c} {d}"

    assert keyword.binding.call(callee, arguments) == "1 2 3 4"
    encode = keyword.encode_arguments
    assert refusal(encode, (1, 2, 3), {}) == "Greeter.keyword: got 3 positional arguments, wanted at most 2 (a, b)"
    assert refusal(encode, (1, 2), {}) == "Greeter.keyword: parameter 'c' is missing: wanted int"


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "Greeter.greet: parameter 'name' is missing: wanted str"),
        (("a", "b"), {}, "Greeter.greet: got 2 positional arguments, wanted at most 1 (name)"),
        (("a",), {"name": "b"}, "Greeter.greet: parameter 'name' came twice, by position and by name"),
        ((), {"nme": "b"}, "Greeter.greet: parameter 'nme' is unknown: wanted name"),
        ((1j,), {}, "Greeter.greet: parameter 'name': a value of type complex cannot be sent"),
        ((2**64,), {}, "Greeter.greet: parameter 'name': an int beyond 64 bits cannot be sent"),
        (("\udc80",), {}, "Greeter.greet: parameter 'name': 'utf-8' codec can't encode"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_where_it_is_made(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    assert refusal(codec("greet").encode_arguments, args, kwargs).startswith(message)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    message = refusal(codec("anything").encode_arguments, (loop,), {})
    assert message == "Greeter.anything: parameter 'value': a list nested too deeply, or in itself, cannot be sent"
    assert "the result: a list nested" in refusal(codec("anything").encode_result, loop)


def test_a_wrong_type_is_refused_where_it_arrives() -> None:
    greet, meet = codec("greet"), codec("meet")
    for named, data in ((False, greet.encode_arguments((3,), {})), (True, by_name(greet, (3,), {}))):
        message = refusal(greet.decode_arguments, data, named=named)
        assert message == "Greeter.greet: parameter 'name': expected str, got int"
    for named, encode in ((False, meet.encode_arguments), (True, functools.partial(by_name, meet))):
        person = {"name": "Ada", "streets": [{"name": "High", "numbers": [1, "x"]}]}
        message = refusal(meet.decode_arguments, encode((person, {}), {}), named=named)
        assert message == "Greeter.meet: parameter 'person': expected int, got str at streets[0].numbers[1]"
        message = refusal(meet.decode_arguments, encode((Person("", []), {"a": "b"}), {}), named=named)
        assert message == "Greeter.meet: parameter 'tags': expected int, got str at [...]"
        message = refusal(meet.decode_arguments, encode((Person("", []), {1: 1}), {}), named=named)
        assert message == "Greeter.meet: parameter 'tags': expected str, got int at a key"


def test_a_missing_field_is_named() -> None:
    meet = codec("meet")
    message = refusal(meet.decode_arguments, meet.encode_arguments(({"name": "Ada"}, {}), {}))
    assert message == "Greeter.meet: parameter 'person': object missing required field streets"


def test_a_wrong_number_of_arguments_on_the_wire_is_refused() -> None:
    greet, many = codec("greet"), codec("many")
    message = refusal(greet.decode_arguments, greet.encode_positional(("a", "b")))
    assert message == "Greeter.greet: the arguments: expected array of length 1, got 2; wanted the parameters name"
    five = many.encode_positional((1, 2.0, "c", [], 5))
    assert "got 5; wanted the parameters a, b, c, d" in refusal(many.decode_arguments, five)
    message = refusal(greet.decode_arguments, greet.encode_value({"name": "a", "more": 1}), named=True)
    assert "unknown field more" in message
    message = refusal(greet.decode_arguments, greet.encode_value({}), named=True)
    assert "missing required field name" in message


def test_a_wrong_result_says_who_is_at_fault() -> None:
    greet, meet = codec("greet"), codec("meet")
    fault = "the plug-in returned what its interface does not declare"
    assert refusal(greet.decode_result, greet.encode_result(3)) == (
        f"Greeter.greet: the result: expected str, got int: {fault}"
    )
    assert refusal(meet.decode_result, meet.encode_result({"name": 3, "streets": []})) == (
        f"Greeter.meet: the result: expected str, got int at name: {fault}"
    )
    assert refusal(greet.encode_result, 1j) == "Greeter.greet: the result: a value of type complex cannot be sent"


def test_the_hot_path_is_explained_by_the_same_words() -> None:
    greet = codec("greet")
    with pytest.raises(msgspec.ValidationError) as wrong:
        greet.decode_positional(greet.encode_positional((3,)))
    assert str(greet.arguments_error(wrong.value)) == "Greeter.greet: parameter 'name': expected str, got int"
    with pytest.raises(msgspec.ValidationError) as wrong:
        greet.decode_value(greet.encode_value(3))
    assert str(greet.result_error(wrong.value)).startswith("Greeter.greet: the result: expected str, got int")
    with pytest.raises(TypeError) as unsendable:
        greet.encode_value(1j)
    assert str(greet.encode_error(1j, unsendable.value)).startswith(
        "Greeter.greet: the result: a value of type complex"
    )


def test_items_of_streams() -> None:
    count, echo = codec("count"), codec("echo")
    assert count.decode_item(count.encode_item(7)) == 7
    assert refusal(count.decode_item, count.encode_item("7")).startswith(
        "Greeter.count: an item: expected int, got str"
    )
    assert refusal(count.encode_item, 1j) == "Greeter.count: an item: a value of type complex cannot be sent"
    assert count.decode_result(count.encode_result(None)) is None
    assert echo.decode_item(echo.encode_item(b"x")) == b"x"
    assert echo.decode_input(echo.encode_input("x")) == "x"
    message = refusal(echo.decode_input, echo.encode_input(3))
    assert message == "Greeter.echo: an item of parameter 'words': expected str, got int"
    assert refusal(echo.encode_input, 1j).startswith("Greeter.echo: an item of parameter 'words': a value of type")


def test_the_input_of_a_channel_is_taken_out_and_put_back() -> None:
    echo = codec("echo")
    words = iter(())

    def callee(before: str, words: object, after: str) -> tuple[str, object, str]:
        return before, words, after

    for args, kwargs in (
        (("a", words, "z"), {}),
        (("a", words), {"after": "z"}),
        ((), {"words": words, "before": "a", "after": "z"}),
    ):
        incoming, rest, keywords = echo.binding.take_input(args, kwargs)
        assert incoming is words
        arguments = echo.decode_arguments(echo.encode_arguments(rest, keywords))
        assert echo.binding.call(callee, arguments, incoming) == ("a", words, "z")
    assert refusal(echo.binding.take_input, ("a",), {}) == (
        "Greeter.echo: parameter 'words' is missing: wanted an iterator or an async iterator"
    )
    assert refusal(echo.binding.take_input, ("a", None), {}, ["async iterator"]) == (
        "Greeter.echo: parameter 'words': expected an async iterator, got None"
    )


@given(st.binary(max_size=64))
def test_garbage_is_a_contract_error_or_a_value(data: bytes) -> None:
    for name in ("greet", "many", "meet", "anything"):
        for named in (False, True):
            try:
                codec(name).decode_arguments(data, named=named)
            except ContractError as error:
                assert str(error).startswith(f"Greeter.{name}: ")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_like)
def test_any_plain_value_comes_back(value: Any) -> None:
    anything = codec("anything")
    assert anything.decode_arguments(anything.encode_arguments((value,), {})) == (value,)
    assert anything.decode_result(anything.encode_result(value)) == value


def test_deeply_nested_bytes_do_not_break_the_receiver() -> None:
    message = refusal(codec("anything").decode_arguments, b"\x91" * 100_000 + b"\xc0")
    assert message.startswith("Greeter.anything: the arguments: maximum recursion depth")


def test_a_reused_receive_buffer_does_not_change_what_was_decoded() -> None:
    class Store(Interface):
        async def put(self, data: Buffer, text: str) -> memoryview: ...

    put = MethodCodec(Store.__contract__.methods["put"])
    message = bytearray(put.encode_arguments((Buffer(b"abc"), "x"), {}))
    data, _ = put.decode_positional(memoryview(message))
    result_message = bytearray(put.encode_result(memoryview(b"abc")))
    result = put.decode_value(memoryview(result_message))
    message[:] = bytes(len(message))
    result_message[:] = bytes(len(result_message))
    assert data == b"abc"
    assert result == b"abc"
