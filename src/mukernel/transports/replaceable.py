"""Bound methods that cost what any costs, and that can lead elsewhere later.

Whoever keeps a bound method calls its function for ever. So that a kept one still leads to a plug-in that has been
swapped or moved, the function is a copy for this one instance, and what is replaced is its code: the interpreter runs
it as it would the original, until then.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

PARTS = ("__kwdefaults__", "__doc__", "__annotations__", "__qualname__", "__module__")


def replaceable(method: Callable[..., Any]) -> MethodType | None:
    """A bound method like `method`, of a function of its own; None where `method` is not one of Python's own."""
    if not isinstance(method, MethodType) or not isinstance(method.__func__, FunctionType):
        return None
    function = method.__func__
    copied = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    for part in PARTS:
        setattr(copied, part, getattr(function, part))
    copied.__dict__.update(function.__dict__)
    return MethodType(copied, method.__self__)


def lead_elsewhere(method: MethodType, call: Callable[..., Any]) -> None:
    """From now on, calling `method`, which `replaceable` made, calls `call` with the same arguments."""
    function = method.__func__
    assert isinstance(function, FunctionType)
    function.__defaults__, function.__kwdefaults__ = None, {"__elsewhere": call}
    # Code may only take the place of code that closes over as many variables.
    function.__code__ = _elsewhere.__code__.replace(co_freevars=function.__code__.co_freevars)


def _elsewhere(plugin: object, /, *args: Any, __elsewhere: Callable[..., Any], **kwargs: Any) -> Any:
    return __elsewhere(*args, **kwargs)
