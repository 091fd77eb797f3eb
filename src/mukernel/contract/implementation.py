"""Does a plug-in class implement an interface? Asked when it is loaded, so that no call has to find out."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from .compatibility import Comparison
from .contract import plain_name
from .declared import (
    Declared,
    declared_parameters,
    declared_shape,
    is_coroutine_function,
    plain_annotations,
)
from .description import MethodDescription, ParameterDescription, TypeDescription
from .errors import ContractError
from .interface import Interface, is_unimplemented
from .method import Method, Model
from .schema import TypeTable, default_text
from .signature import ASYNC_STREAMS, BLOCKING_STREAMS, annotations_of, stream_item


class Kind(enum.Enum):
    """How a function gives its result."""

    COROUTINE = "async def"
    FUNCTION = "def"
    ASYNC_STREAM = "an async generator, or a def that returns an AsyncIterator"
    BLOCKING_STREAM = "a generator, or a def that returns an Iterator"


# Whoever calls adapts to either way of running a method: an `async def` of the interface may be implemented
# by `def`, which then runs by itself, and a `def` by `async def`. A stream that is declared async is not
# produced by a generator that blocks: items would be computed on the event loop.
ACCEPTED: dict[tuple[Model, bool], tuple[Kind, ...]] = {
    (Model.CALL, False): (Kind.COROUTINE, Kind.FUNCTION),
    (Model.CALL, True): (Kind.FUNCTION, Kind.COROUTINE),
    (Model.ONEWAY, False): (Kind.COROUTINE, Kind.FUNCTION),
    (Model.ONEWAY, True): (Kind.FUNCTION, Kind.COROUTINE),
    (Model.STREAM, False): (Kind.ASYNC_STREAM,),
    (Model.STREAM, True): (Kind.BLOCKING_STREAM, Kind.ASYNC_STREAM),
    (Model.CHANNEL, False): (Kind.ASYNC_STREAM,),
    (Model.CHANNEL, True): (Kind.BLOCKING_STREAM, Kind.ASYNC_STREAM),
}


def check_implements(plugin_class: type, interface: type[Interface]) -> list[str]:
    """What keeps the class from serving the interface, one line each; empty means that it implements it.

    The class need not derive from the interface. Its methods may leave annotations out, take further optional
    parameters, read more than is declared and return less. "was" is the interface, "is" the class.
    Raises ContractError if the interface itself is malformed.
    """
    contract = interface.__contract__
    description = contract.describe()
    found: list[str] = []
    for method, described in zip(contract.methods.values(), description.methods, strict=True):
        where = f"{plain_name(plugin_class)}.{method.name}"
        function = _class_attribute(plugin_class, method.name)
        if function is None or is_unimplemented(function):
            found.append(f"{where}: is not implemented, and {method.qualified} declares it")
        elif not inspect.isfunction(function):
            found.append(f"{where}: is a {type(function).__name__}, wanted a method")
        elif not _repeats(_class_attribute(interface, method.name), interface, function, plugin_class):
            table = TypeTable()
            checker = _Implementation(where, inspect.unwrap(function), method, described, table)
            try:
                lines = list(checker.check(vars(plugin_class), Comparison(description.types, table.objects)))
            except ContractError as error:
                found.append(str(error))
            else:
                found += [f"{where}: {line}" for line in lines]
    return found


def _class_attribute(subject: type, name: str) -> Any:
    """What the class itself has under that name, no descriptor asked; None if nothing."""
    for ancestor in subject.__mro__:
        if name in vars(ancestor):
            return vars(ancestor)[name]
    return None


def _repeats(declaration: Any, interface: type, function: Any, plugin_class: type) -> bool:
    """Is the function declared as the interface declares it? Most are, and need no comparison."""
    declared, own = inspect.unwrap(declaration), inspect.unwrap(function)
    hints = plain_annotations(own, vars(plugin_class))
    return (
        hints is not None
        and plain_annotations(declared, vars(interface)) == hints
        and declared_shape(declared) == declared_shape(own)
    )


class _Implementation:
    """One function against the method that it should implement."""

    def __init__(
        self,
        where: str,
        function: Callable[..., Any],
        method: Method,
        described: MethodDescription,
        table: TypeTable,
    ) -> None:
        self._where = where
        self._function = function
        self._method = method
        self._described = described
        self._table = table

    def check(self, namespace: Any, comparison: Comparison) -> Iterator[str]:
        """Lines without the name of the function. Raises ContractError for annotations that make no sense."""
        hints = annotations_of(self._function, namespace, self._where)
        kind, returned = _kind(self._function, hints)
        accepted = ACCEPTED[self._method.model, self._method.blocking]
        # A plain def without annotation may return anything: trust it.
        if kind not in accepted and not (kind is Kind.FUNCTION and "return" not in hints):
            yield f"is {kind.value}, wanted {' or '.join(each.value for each in accepted)}"
            return
        yield from self._parameters(hints, comparison)
        if "return" in hints:
            declared = self._described.item or self._described.result
            assert declared is not None
            name = "each item of the result" if self._described.item else "the result"
            yield from comparison.answered(name, declared, self._describe(returned, name))

    def _parameters(self, hints: dict[str, Any], comparison: Comparison) -> Iterator[str]:
        own = declared_parameters(self._function)[1:]
        takes_any_position = any(each.gathers and each.positional for each in own)
        takes_any_name = any(each.gathers and each.named for each in own)
        named = {each.name: each for each in own if not each.gathers}
        positions = [each.name for each in named.values() if each.positional]
        expected = [each.name for each in self._method.parameters if not each.keyword_only]
        if self._method.input_name is not None:
            expected.insert(self._method.input_position, self._method.input_name)
        for position, name in enumerate(expected):
            if position < len(positions) and positions[position] == name:
                continue
            if position >= len(positions) and takes_any_position:
                continue
            stands = f"{positions[position]!r} stands there" if position < len(positions) else "nothing stands there"
            yield f"parameter {name!r} is wanted at position {position + 1}, {stands}"
        for described in self._described.parameters:
            if described.name in named:
                yield from self._parameter(named[described.name], described, hints, comparison)
            elif described.keyword_only and not takes_any_name:
                yield f"parameter {described.name!r} is missing"
        yield from self._input(hints, comparison)
        known = {*expected, *(each.name for each in self._described.parameters)}
        for name, each in named.items():
            if name not in known and each.required:
                yield f"parameter {name!r} is required, and {self._method.qualified} does not declare it"

    def _parameter(
        self,
        own: Declared,
        described: ParameterDescription,
        hints: dict[str, Any],
        comparison: Comparison,
    ) -> Iterator[str]:
        name = f"parameter {own.name!r}"
        if described.keyword_only and not own.named:
            yield f"{name} was keyword-only, is positional-only"
        if own.name in hints:
            yield from comparison.requested(name, described.type, self._describe(hints[own.name], name))
        if described.required:
            return
        if own.required:
            yield f"{name} was optional, is required"
            return
        declared = next(each for each in self._method.parameters if each.name == own.name)
        default = default_text(own.default, hints.get(own.name, declared.annotation), f"{self._where}: {name}")
        if default != described.default:
            # A call that leaves it out would mean one thing inline and another across processes.
            yield f"the default of {name} was {described.default}, is {default}"

    def _input(self, hints: dict[str, Any], comparison: Comparison) -> Iterator[str]:
        name = self._method.input_name
        if name is None or name not in hints or self._described.input is None:
            return
        is_stream, item = stream_item(hints[name], ASYNC_STREAMS)
        if is_stream:
            here = f"each item of parameter {name!r}"
            yield from comparison.requested(here, self._described.input, self._describe(item, here))
        else:
            yield f"parameter {name!r} was an AsyncIterator, is {hints[name]}"

    def _describe(self, annotation: Any, place: str) -> TypeDescription:
        return self._table.describe(annotation, f"{self._where}: {place}")


def _kind(function: Callable[..., Any], hints: dict[str, Any]) -> tuple[Kind, Any]:
    """The kind of a function, and the annotation of what it returns or yields."""
    returns = hints.get("return")
    is_async, item = stream_item(returns, ASYNC_STREAMS)
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_STREAM, item if is_async else returns
    if is_coroutine_function(function):
        return Kind.COROUTINE, returns
    if is_async:
        return Kind.ASYNC_STREAM, item
    is_blocking, item = stream_item(returns, BLOCKING_STREAMS)
    if is_blocking or inspect.isgeneratorfunction(function):
        return Kind.BLOCKING_STREAM, item if is_blocking else returns
    return Kind.FUNCTION, returns
