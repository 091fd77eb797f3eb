"""What a function's own code and annotations declare, read without the inspect and typing modules.

They do the same for every callable there is; this does it for a plain function with plain types. A process
that was forked pays for each distinct function it runs with a page or two of memory that it shared until
then, and those modules run dozens.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, NoneType
from typing import Any, NamedTuple

SHAPE = (  # flags of a code object: what it gathers, and how it gives its result
    inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    | inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
)  # fmt: skip
_MISSING = object()


class Declared(NamedTuple):
    """One parameter. positional, named: it may be given so; gathers: it is *args (positional) or **kwargs
    (named)."""

    name: str
    positional: bool
    named: bool
    gathers: bool
    required: bool
    default: Any  # None when required


def declared_parameters(function: Callable[..., Any]) -> list[Declared]:
    """The parameters of a function, `self` included, in the order in which inspect.signature lists them."""
    if not isinstance(function, FunctionType):
        return _read_signature(function)
    code = function.__code__
    names, positional, defaults = code.co_varnames, code.co_argcount, function.__defaults__ or ()
    first_default = positional - len(defaults)
    declared = []
    for position in range(positional):
        required = position < first_default
        default = None if required else defaults[position - first_default]
        declared.append(Declared(names[position], True, position >= code.co_posonlyargcount, False, required, default))
    gathering = positional + code.co_kwonlyargcount  # in co_varnames *args and **kwargs stand last
    if code.co_flags & inspect.CO_VARARGS:
        declared.append(Declared(names[gathering], True, False, True, False, None))
    keyword_defaults = function.__kwdefaults__ or {}
    for name in names[positional : positional + code.co_kwonlyargcount]:
        required = name not in keyword_defaults
        declared.append(Declared(name, False, True, False, required, keyword_defaults.get(name)))
    if code.co_flags & inspect.CO_VARKEYWORDS:
        gathering += bool(code.co_flags & inspect.CO_VARARGS)
        declared.append(Declared(names[gathering], False, True, True, False, None))
    return declared


def declared_shape(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Equal for two functions only if their parameters have the same names, kinds and (the very same)
    defaults, and they give their results in the same way; annotations aside."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    keyword_defaults = function.__kwdefaults__ or {}
    return (
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & SHAPE),
        code.co_varnames[:count],
        [id(default) for default in function.__defaults__ or ()],
        {name: id(default) for name, default in keyword_defaults.items()},
    )


def plain_annotations(function: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Any] | None:
    """The annotations of a function if each is a class, None or the plain name of one of the two; else None.

    Equal to what typing.get_type_hints(function, localns=namespace, include_extras=True) returns.
    """
    if not isinstance(function, FunctionType):
        return None
    resolved = {}
    for name, annotation in function.__annotations__.items():
        if type(annotation) is str:
            annotation = namespace.get(annotation, _MISSING)
            if annotation is _MISSING:
                annotation = _global(function, function.__annotations__[name])
        if annotation is None:
            annotation = NoneType
        elif not issubclass(type(annotation), type):
            return None
        resolved[name] = annotation
    return resolved


def _global(function: FunctionType, name: str) -> Any:
    if name == "None":
        return None
    found = function.__globals__.get(name, _MISSING)
    return getattr(builtins, name, _MISSING) if found is _MISSING else found


def _read_signature(function: Callable[..., Any]) -> list[Declared]:
    declared = []
    for each in inspect.signature(function).parameters.values():
        gathers = each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        positional = each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)
        named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY, each.VAR_KEYWORD)
        optional = each.default is not each.empty
        default = each.default if optional else None
        declared.append(Declared(each.name, positional, named, gathers, not (optional or gathers), default))
    return declared


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Is it an `async def` without `yield`?"""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)
