"""The decorators of interface methods: @oneway, @idempotent, @raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from .errors import ContractError

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Marks:
    """What decorators said about one method; written once for each decorator, while the class body runs."""

    oneway: bool = False
    idempotent: bool = False
    raises: tuple[type[Exception], ...] = ()


def marks_of(function: object) -> Marks:
    """The marks of a function; those of one without decorators are all false."""
    marks = getattr(function, "__mukernel_marks__", None)
    return marks if isinstance(marks, Marks) else Marks()


def _mark(function: Function, marks: Marks) -> Function:
    function.__dict__["__mukernel_marks__"] = marks
    return function


def oneway(method: Function) -> Function:
    """The caller does not wait: no result and no error come back. The method must be annotated `-> None`."""
    return _mark(method, replace(marks_of(method), oneway=True))


def idempotent(method: Function) -> Function:
    """Running the call twice does no harm, so one that a crash interrupted may be run again."""
    return _mark(method, replace(marks_of(method), idempotent=True))


def raises(*exceptions: type[Exception]) -> Callable[[Function], Function]:
    """Declare exceptions that reach the caller as themselves; every other one reaches it as a RemoteError.

    Raises ContractError if an argument is not an exception class, or is one that Python takes for the end of a
    generator.
    """
    declared = checked_exceptions("@raises", exceptions)

    def decorate(method: Function) -> Function:
        marks = marks_of(method)
        return _mark(method, replace(marks, raises=(*marks.raises, *declared)))

    return decorate


def checked_exceptions(where: str, exceptions: object) -> tuple[type[Exception], ...]:
    """`exceptions` as a tuple of exception classes, or ContractError that begins with `where`."""
    given: tuple[Any, ...] = exceptions if isinstance(exceptions, tuple) else (exceptions,)
    for exception in given:
        if not (isinstance(exception, type) and issubclass(exception, Exception)):
            raise ContractError(f"{where}: got {exception!r}, wanted exception classes (derived from Exception)")
        if issubclass(exception, (StopIteration, StopAsyncIteration)):  # no coroutine, no future lets these pass
            raise ContractError(
                f"{where}: got {exception!r}, which ends whatever iterates over it: wanted exceptions that can be "
                "raised at a caller; declare one of your own"
            )
    return given
