"""Functions and bound methods that cost what any costs, and that can lead elsewhere later.

Whoever keeps a bound method calls its function for ever. So that a kept one still leads to a plug-in that has been
swapped or moved, the function is a copy for this one instance, and what is replaced is its code: the interpreter runs
it as it would the original, until then.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE
from types import FunctionType, MethodType
from typing import Any

KINDS = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR | CO_ITERABLE_COROUTINE
PARTS = ("__kwdefaults__", "__doc__", "__annotations__", "__qualname__", "__module__")
Replaceable = FunctionType | MethodType


def replaceable(function: Callable[..., Any]) -> Replaceable | None:
    """A copy of a function, or of a bound method's; None for a callable that is no Python function underneath."""
    if isinstance(function, MethodType):
        copied = replaceable(function.__func__)
        return MethodType(copied, function.__self__) if isinstance(copied, FunctionType) else None
    if not isinstance(function, FunctionType):
        return None
    copied = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    for part in PARTS:
        setattr(copied, part, getattr(function, part))
    copied.__dict__.update(function.__dict__)
    return copied


def lead_elsewhere(function: Replaceable, call: Callable[..., Any]) -> None:
    """From now on, calling `function`, which `replaceable` made, calls `call` with the same arguments."""
    code = _function_elsewhere.__code__
    if isinstance(function, MethodType):
        code, function = _method_elsewhere.__code__, function.__func__  # type: ignore[assignment]
    assert isinstance(function, FunctionType)
    function.__defaults__, function.__kwdefaults__ = None, {"__elsewhere": call}
    # Code may only take the place of code that closes over as many variables, and, from Python 3.13 on, of code of its
    # kind. The flags say of which kind it is to who asks; what calling it makes is for its instructions to say.
    old = function.__code__
    function.__code__ = code.replace(
        co_freevars=old.co_freevars, co_flags=code.co_flags & ~KINDS | old.co_flags & KINDS
    )


def _method_elsewhere(plugin: object, /, *args: Any, __elsewhere: Callable[..., Any], **kwargs: Any) -> Any:
    return __elsewhere(*args, **kwargs)


def _function_elsewhere(*args: Any, __elsewhere: Callable[..., Any], **kwargs: Any) -> Any:
    return __elsewhere(*args, **kwargs)
