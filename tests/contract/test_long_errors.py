"""Exceptions that say more than is sent, or than there is memory for."""

import tracemalloc

import pytest

from mukernel.contract import ContractError, Overloaded, RemoteError, decode_fault, encode_fault, faults
from mukernel.contract.error_texts import LONGEST


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def arrived(error: BaseException) -> RemoteError:
    found = decode_fault(encode_fault(error))
    assert isinstance(found, RemoteError)
    return found


def test_a_long_text_is_cut_and_its_traceback_keeps_where_it_was_raised() -> None:
    error = arrived(raised(ValueError("x" * LONGEST + "abc")))
    assert error.message == "x" * LONGEST + " [cut: 3 characters more]"
    assert "in raised" in error.traceback
    assert error.traceback.endswith(f"ValueError: {'x' * 1000} [cut: {LONGEST - 997} characters more]\n")
    assert len(error.traceback) < 3000


def test_a_text_that_is_not_too_long_arrives_whole() -> None:
    error = arrived(raised(ValueError("x" * LONGEST)))
    assert error.message == "x" * LONGEST
    assert len(error.traceback) == LONGEST + len("[cut:  characters before]\n") + len(error.traceback.split()[1])
    assert error.traceback.endswith("x\n")


def test_a_long_text_takes_no_more_memory_than_what_is_sent_of_it() -> None:
    error = raised(ValueError("x" * 30 * LONGEST))
    tracemalloc.start()
    encode_fault(error)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * LONGEST


def test_long_texts_of_what_it_came_of_are_cut_too() -> None:
    try:
        try:
            raise KeyError("k" * LONGEST)
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as second:
        try:
            raise OSError("third")
        except OSError as third:
            assert third.__context__ is second
            trace = arrived(third).traceback
    shown = [line[:12] for line in trace.splitlines() if "Error: " in line]
    assert shown == ["KeyError: 'k", "ValueError: ", "OSError: thi"]
    assert trace.index("direct cause of") < trace.index("ValueError: ") < trace.index("During handling of")
    assert len(trace) < 5000


@pytest.mark.parametrize("grouped", [True, False])
def test_long_notes_and_groups_are_cut_too(grouped: bool) -> None:
    error: Exception = ExceptionGroup("several", [ValueError("x" * LONGEST), OSError("y")])
    if not grouped:
        error = ValueError("several")
        error.add_note("n" * 2 * LONGEST)
    assert len(arrived(raised(error)).traceback) < 3000


def test_an_exception_that_came_of_itself_ends() -> None:
    error = raised(ValueError("x" * 2 * LONGEST))
    error.__cause__ = error
    assert 100 < arrived(error).traceback.count("ValueError") + 1 < 200


def test_the_differences_of_a_contract_error_are_cut() -> None:
    error = decode_fault(encode_fault(ContractError("no", ["d" * (LONGEST // 2)] * 5)))
    assert isinstance(error, ContractError)
    assert error.differences[2:] == ["[cut: 3 more]"]


def test_a_remote_error_that_is_handed_on_is_cut() -> None:
    error = arrived(RemoteError("Odd", "m" * 2 * LONGEST, "t" * 2 * LONGEST + "the end"))
    assert error.message.endswith(f"m [cut: {LONGEST} characters more]")
    assert error.traceback.endswith("the end") and len(error.traceback) < LONGEST + 100


def test_what_has_no_memory_for_its_text_is_answered() -> None:
    class Large(Exception):
        def __str__(self) -> str:
            raise MemoryError

    assert arrived(raised(Large())).message == "<str() of it raised MemoryError>"


def test_a_declared_exception_that_there_is_no_memory_for_arrives_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Declared(Exception):
        pass

    fitting = faults._packed

    def packed(value: object) -> bytearray:
        if isinstance(value, bytes):
            raise MemoryError
        return fitting(value)

    monkeypatch.setattr(faults, "_packed", packed)
    error = decode_fault(encode_fault(raised(Declared(b"large")), (Declared,)), (Declared,))
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("Declared")
    assert error.message == "<what it says could not be sent: there is no memory>"


def test_there_is_an_answer_where_there_is_no_memory_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(value: object) -> bytearray:
        raise MemoryError

    monkeypatch.setattr(faults, "_packed", packed)
    assert arrived(raised(Overloaded("full"))).message == "there is no memory to say what was raised"
