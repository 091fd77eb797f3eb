"""The short way to read a function must say what the inspect and typing modules say."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import pytest

from mukernel.contract import declared_parameters, plain_annotations
from mukernel.contract.declared import Declared, declared_shape


def nothing() -> None: ...
def positional(a: int, b: str = "b", /, c: float = 1.0) -> str: ...  # type: ignore[empty-body]
def keyword(self: Any, *, a: int, b: bytes = b"") -> None: ...
def gathers(a: int, *rest: str, b: bool = True, **others: float) -> None: ...
def only_keywords(**others: int) -> None: ...
async def coroutine(a: int = 3) -> dict: ...  # type: ignore[empty-body, type-arg]


FUNCTIONS = [nothing, positional, keyword, gathers, only_keywords, coroutine]


def as_inspect_says(function: Callable[..., Any]) -> list[Declared]:
    read = []
    for each in inspect.signature(function).parameters.values():
        gathering = each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        positional = each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)
        named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY, each.VAR_KEYWORD)
        required = each.default is each.empty and not gathering
        default = None if each.default is each.empty else each.default
        read.append(Declared(each.name, positional, named, gathering, required, default))
    return read


@pytest.mark.parametrize("function", FUNCTIONS)
def test_parameters_are_those_of_inspect(function: Callable[..., Any]) -> None:
    assert declared_parameters(function) == as_inspect_says(function)


def test_what_is_no_plain_function_is_read_all_the_same() -> None:
    class Callable:
        def __call__(self, a: int, *, b: int = 2) -> None: ...

    declared = declared_parameters(Callable())
    assert declared == [
        Declared("a", True, True, False, True, None),
        Declared("b", False, True, False, False, 2),
    ]
    assert plain_annotations(Callable(), {}) is None


@pytest.mark.parametrize("function", FUNCTIONS)
def test_plain_annotations_are_those_of_typing(function: Callable[..., Any]) -> None:
    assert plain_annotations(function, {}) == typing.get_type_hints(function, include_extras=True)


def test_a_name_of_the_class_comes_before_one_of_the_module() -> None:
    class Own: ...

    def function(a: int, b: Declared) -> None: ...

    assert plain_annotations(function, {"int": Own}) == {"a": Own, "b": Declared, "return": type(None)}


@pytest.mark.parametrize("annotation", ["list[int]", "int | None", "Nowhere", "typing.Any", list[int]])
def test_anything_but_a_class_is_left_to_typing(annotation: Any) -> None:
    def function(a: Any) -> None: ...

    function.__annotations__["a"] = annotation
    assert plain_annotations(function, {}) is None


def test_shapes_differ_where_a_call_would_tell_them_apart() -> None:
    default = object()

    def one(a: int, b: object = default) -> None: ...
    def same(a: int, b: object = default) -> None: ...
    def other_name(a: int, c: object = default) -> None: ...
    def other_default(a: int, b: object = None) -> None: ...
    def keyword_only(a: int, *, b: object = default) -> None: ...
    def positional_only(a: int, /, b: object = default) -> None: ...
    async def awaited(a: int, b: object = default) -> None: ...
    def gathering(a: int, b: object = default, **rest: int) -> None: ...

    shape = declared_shape(one)
    assert declared_shape(same) == shape
    others = [other_name, other_default, keyword_only, positional_only, awaited, gathering]
    assert [each.__name__ for each in others if declared_shape(each) == shape] == []
