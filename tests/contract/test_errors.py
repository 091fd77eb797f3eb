"""The errors, and how they travel."""

import asyncio
from typing import ClassVar, Self

import msgspec
import numpy
import pytest

from mukernel.contract import (
    CODE_OF_ERROR,
    ERROR_CODES,
    Buffer,
    ContractError,
    MukernelError,
    NotFound,
    Overloaded,
    RemoteError,
    decode_fault,
    encode_fault,
    error_code,
)


class NoSuchThing(Exception):
    """Its constructor's parameter is not its args."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no {name} here")
        self.name = name


class NoSuchBook(NoSuchThing):
    pass


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_every_code_has_one_class_and_every_class_one_code() -> None:
    assert set(ERROR_CODES) == set(range(1, 11))
    assert {CODE_OF_ERROR[error] for error in ERROR_CODES.values()} == set(ERROR_CODES)
    assert all(issubclass(error, MukernelError) for error in ERROR_CODES.values())


def test_a_subclass_has_the_code_of_its_nearest_framework_class() -> None:
    class Full(Overloaded):
        pass

    assert error_code(Full("x")) == CODE_OF_ERROR[Overloaded]
    assert error_code(KeyError("x")) == CODE_OF_ERROR[RemoteError]


def test_contract_error_lists_its_differences() -> None:
    error = ContractError("Greeter: incompatible", ["a was 1", "b is gone"])
    assert str(error) == "Greeter: incompatible\n  - a was 1\n  - b is gone"
    assert ContractError("alone").differences == []
    assert str(ContractError("alone")) == "alone"


def test_an_undeclared_exception_arrives_as_remote_error_with_its_traceback() -> None:
    error = decode_fault(encode_fault(raised(ZeroDivisionError("by zero"))))
    assert isinstance(error, RemoteError)
    assert (error.type_name, error.message) == ("ZeroDivisionError", "by zero")
    assert "in raised" in error.traceback
    assert error.traceback.rstrip() in str(error)


def test_a_remote_error_that_is_handed_on_keeps_what_happened_first() -> None:
    first = decode_fault(encode_fault(raised(ZeroDivisionError("by zero"))))
    second = decode_fault(encode_fault(raised(first)))
    assert isinstance(second, RemoteError)
    assert (second.type_name, second.message) == ("ZeroDivisionError", "by zero")


@pytest.mark.parametrize("kind", [kind for kind in ERROR_CODES.values() if kind is not RemoteError])
def test_a_framework_error_arrives_as_itself(kind: type[MukernelError]) -> None:
    error = decode_fault(encode_fault(raised(kind("what happened"))))
    assert type(error) is kind
    assert str(error) == "what happened"
    assert "in raised" in error.__notes__[0]


def test_the_differences_of_a_contract_error_arrive() -> None:
    error = decode_fault(encode_fault(ContractError("no", ["a", "b"])))
    assert isinstance(error, ContractError)
    assert error.differences == ["a", "b"]


def test_a_declared_exception_arrives_as_itself_without_running_its_constructor() -> None:
    error = decode_fault(encode_fault(raised(NoSuchThing("tea")), (NoSuchThing,)), (NoSuchThing,))
    assert type(error) is NoSuchThing
    assert (str(error), error.name) == ("no tea here", "tea")


def test_a_subclass_of_a_declared_exception_arrives_as_the_declared_one() -> None:
    error = decode_fault(encode_fault(NoSuchBook("Ulysses"), (NoSuchThing,)), (NoSuchThing,))
    assert type(error) is NoSuchThing
    assert error.name == "Ulysses"


def test_a_declared_builtin_keeps_its_slots() -> None:
    error = decode_fault(encode_fault(FileNotFoundError(2, "gone", "a.txt"), (OSError,)), (OSError,))
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror) == (2, "gone")


def test_a_name_that_the_caller_does_not_declare_is_never_looked_up() -> None:
    error = decode_fault(encode_fault(NoSuchThing("tea"), (NoSuchThing,)), (NotFound, ValueError))
    assert isinstance(error, RemoteError)
    assert error.type_name == "NoSuchThing"


def test_values_that_cannot_be_sent_go_as_their_text() -> None:
    error = decode_fault(encode_fault(ValueError(1j, 2**70, b"x", "\udc80"), (ValueError,)), (ValueError,))
    assert error.args == ("1j", str(2**70), b"x", "'\\udc80'")


def test_buffers_and_arrays_go_as_their_text() -> None:
    error = decode_fault(encode_fault(ValueError(Buffer(b"abc"), numpy.zeros(2)), (ValueError,)), (ValueError,))
    assert error.args == ("<Buffer of 3 bytes>", "array([0., 0.])")


def test_the_scalars_of_numpy_go_as_plain_ones() -> None:
    error = decode_fault(encode_fault(ValueError(numpy.int64(3)), (ValueError,)), (ValueError,))
    assert [type(argument) for argument in error.args] == [int]


def test_attributes_that_a_peer_sends_hide_nothing_that_every_exception_has() -> None:
    state = {"add_note": 1, "with_traceback": 2, "__notes__": 3, "__traceback__": 4, "name": "tea"}
    fault = msgspec.msgpack.encode([0, "NoSuchThing", "no tea", "where it was", ["no tea"], state])
    error = decode_fault(fault, (NoSuchThing,))
    assert vars(error) == {"name": "tea", "__notes__": ["The other side's traceback:\nwhere it was"]}
    assert error.with_traceback(None) is error


def test_an_exception_that_cannot_be_built_of_what_came_becomes_a_remote_error() -> None:
    class Numbered(Exception):
        NAMES: ClassVar = {1: "one"}

        def __new__(cls, number: int) -> Self:
            made = super().__new__(cls, number)
            made.text = cls.NAMES[number]
            return made

    assert type(decode_fault(encode_fault(Numbered(1), (Numbered,)), (Numbered,))) is Numbered
    odd = Numbered(1)
    odd.args = (2,)
    error = decode_fault(encode_fault(odd, (Numbered,)), (Numbered,))
    assert isinstance(error, RemoteError)
    assert error.type_name == "Numbered"


@pytest.mark.parametrize("failure", [RuntimeError("no text"), SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
def test_an_exception_whose_text_fails_still_arrives(failure: BaseException) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise failure

        __repr__ = __str__

    error = decode_fault(encode_fault(raised(Broken(Broken()))))
    assert isinstance(error, RemoteError)
    assert type(failure).__name__ in error.message
    declared = decode_fault(encode_fault(raised(Broken(Broken())), (Broken,)), (Broken,))
    assert isinstance(declared, Broken)
    assert type(failure).__name__ in declared.args[0]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", msgspec.msgpack.encode([1]), msgspec.msgpack.encode(["x", "y", "z"]), b"\x91" * 9999],
)
def test_garbage_is_a_contract_error(data: bytes) -> None:
    with pytest.raises(ContractError, match="malformed error"):
        decode_fault(data)
