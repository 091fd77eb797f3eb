"""Reading one method of an interface: from a function's signature to a Method."""

from __future__ import annotations

import inspect
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from types import NoneType
from typing import Any

from .declared import declared_parameters, is_coroutine_function, plain_annotations
from .errors import ContractError
from .hints import type_hints
from .marks import Marks, marks_of
from .method import Method, Model, Parameter

ASYNC_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
BLOCKING_STREAMS = (Iterator, Generator)
_INPUT_STREAMS = (AsyncIterator, AsyncIterable)


def read_method(
    interface: str,
    index: int,
    name: str,
    function: Callable[..., Any],
    namespace: Mapping[str, Any],
    extra_raises: tuple[type[Exception], ...] = (),
    bound: bool = False,
) -> Method:
    """The Method that `function`, called `name` in an interface whose class has `namespace`, stands for.

    extra_raises are exceptions that the whole interface declares. bound: it has no `self`. Raises ContractError, naming
    the parameter, for a declaration that cannot be served.
    """
    marks = marks_of(function)  # of the outermost: functools.wraps copies marks outwards, never inwards
    function = inspect.unwrap(function)
    where = f"{interface}.{name}"
    hints = annotations_of(function, namespace, where)
    parameters, inputs = _read_parameters(function, hints, where, bound)
    if "return" not in hints:
        raise ContractError(f"{where}: the result has no annotation: wanted one ('-> None' if there is no result)")
    returns = hints["return"]
    item, blocking = _read_stream(function, returns, where)
    model = _model(where, marks, item, inputs, returns)
    if len(inputs) > 1:
        names = ", ".join(repr(each) for each, _, _ in inputs)
        raise ContractError(f"{where}: parameters {names} are all streams: wanted one input stream at most")
    input_name, input_position, input_item = inputs[0] if inputs else (None, 0, None)
    return Method(
        interface=interface,
        name=name,
        index=index,
        model=model,
        blocking=blocking,
        idempotent=marks.idempotent,
        raises=tuple(dict.fromkeys((*marks.raises, *extra_raises))),
        parameters=parameters,
        returns=returns if model is Model.CALL else NoneType,
        item=item,
        input_item=input_item,
        input_name=input_name,
        input_position=input_position,
        documentation=inspect.cleandoc(function.__doc__) if function.__doc__ else "",
    )


def annotations_of(function: Callable[..., Any], namespace: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The resolved annotations of a function; raises ContractError naming the one that cannot be resolved."""
    plain = plain_annotations(function, namespace)
    if plain is not None:
        return plain
    try:
        return type_hints(function, namespace)
    except Exception:  # once more, one by one, to say which
        for name, annotation in function.__annotations__.items():
            try:
                type_hints(_only(function, name, annotation), namespace)
            except Exception as error:
                place = "the result" if name == "return" else f"parameter {name!r}"
                raise ContractError(
                    f"{where}: {place}: annotation {annotation!r} cannot be resolved "
                    f"({type(error).__name__}: {error}): "
                    "wanted a name that the module, or the class, defines, or imports"
                ) from None
        raise


def _only(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    def single() -> None: ...

    single.__annotations__ = {name: annotation}
    # get_type_hints looks for names where the outermost __wrapped__ was defined.
    single.__dict__["__wrapped__"] = function
    return single


def stream_item(annotation: Any, kinds: tuple[Any, ...]) -> tuple[bool, Any]:
    """Is the annotation one of those iterators, and of what (Any if it does not say)?"""
    if annotation is None or (type(annotation) is type and annotation not in kinds):
        return False, None
    origin = typing.get_origin(annotation) or annotation
    if origin not in kinds:
        return False, None
    arguments = typing.get_args(annotation)
    return True, arguments[0] if arguments else Any


def _read_parameters(
    function: Callable[..., Any], hints: Mapping[str, Any], where: str, bound: bool
) -> tuple[tuple[Parameter, ...], list[tuple[str, int, Any]]]:
    declared = declared_parameters(function)
    if not bound:
        if not declared or not declared[0].positional or declared[0].gathers:
            raise ContractError(f"{where}: has no 'self': wanted a method")
        del declared[0]
    parameters: list[Parameter] = []
    inputs: list[tuple[str, int, Any]] = []
    for position, each in enumerate(declared):
        here = f"{where}: parameter {each.name!r}"
        if each.gathers:
            star = "*" if each.positional else "**"
            raise ContractError(
                f"{where}: parameter '{star}{each.name}': wanted parameters by name, or one list or dict"
            )
        if each.name not in hints:
            raise ContractError(f"{here} has no annotation: wanted its type")
        if stream_item(hints[each.name], BLOCKING_STREAMS)[0]:
            raise ContractError(
                f"{here}: got {hints[each.name]}, which would block its reader; wanted AsyncIterator[...]: a blocking "
                "proxy gives it an iterator all the same"
            )
        is_input, item = stream_item(hints[each.name], _INPUT_STREAMS)
        if is_input:
            if not each.positional or not each.required:
                raise ContractError(f"{here}: an input stream must be positional and have no default")
            inputs.append((each.name, position, item))
            continue
        keyword_only = not each.positional
        parameters.append(Parameter(each.name, hints[each.name], each.required, each.default, keyword_only))
    return tuple(parameters), inputs


def _read_stream(function: Callable[..., Any], returns: Any, where: str) -> tuple[Any, bool]:
    """(type of the items, or None for no stream; whether callers block)."""
    coroutine = is_coroutine_function(function)
    is_async, item = stream_item(returns, ASYNC_STREAMS)
    if is_async:
        if coroutine:
            raise ContractError(
                f"{where}: 'async def' returns the stream only when awaited: wanted "
                f"'def {function.__name__}(...) -> AsyncIterator[...]', or an 'async def' that yields"
            )
        return item, False
    is_blocking, item = stream_item(returns, BLOCKING_STREAMS)
    if is_blocking:
        return item, True
    return None, not coroutine


def _model(where: str, marks: Marks, item: Any, inputs: list[tuple[str, int, Any]], returns: Any) -> Model:
    if marks.oneway:
        if returns is not NoneType:
            raise ContractError(
                f"{where}: @oneway has no result, and is annotated '-> {_shown(returns)}': wanted '-> None'"
            )
        if marks.raises:
            raise ContractError(f"{where}: @oneway sends no error back: wanted no @raises")
        if inputs:
            raise ContractError(f"{where}: parameter {inputs[0][0]!r}: @oneway takes no input stream")
        return Model.ONEWAY
    if item is None:
        if inputs:
            raise ContractError(
                f"{where}: parameter {inputs[0][0]!r} is a stream, and the result is '{_shown(returns)}': "
                "wanted '-> AsyncIterator[...]'"
            )
        return Model.CALL
    return Model.CHANNEL if inputs else Model.STREAM


def _shown(annotation: Any) -> str:
    return annotation.__name__ if type(annotation) is type else str(annotation)
