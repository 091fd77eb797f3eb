"""Plain classes and functions as plug-ins: what never heard of mukernel is wrapped in a plug-in class that serves
it."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

from ..contract import ContractError, Interface, Plugin, interface_of, is_plugin

_made: weakref.WeakKeyDictionary[Any, dict[tuple[str, ...], type]] = weakref.WeakKeyDictionary()


def plugin_class(kind: type, only: Sequence[str] = ()) -> type:
    """The plug-in class of a class: itself, or one that serves a plain class. `only`: these of its methods.

    The plain class is wrapped, not derived from: none of its methods is taken for a hook. Raises ContractError that
    lists every method that can't be served as it is, and for `only` of what is no plain class.
    """
    if is_plugin(kind) or issubclass(kind, Interface):
        if only:
            raise ContractError(
                f"[{', '.join(only)}]: {kind.__qualname__} is no plain class, of whose methods some could be chosen; "
                "leave that out: what it serves, its interfaces say"
            )
        return kind
    made = _made.setdefault(kind, {})
    key = tuple(only)
    if key not in made:
        made[key] = _wrapped(kind, interface_of(kind, only=only))
    return made[key]


def class_of_function(function: FunctionType) -> type:
    """The plug-in class that serves a typed function. Raises ContractError."""
    made = _made.setdefault(function, {})
    if () not in made:
        interface = interface_of(function)

        def construct(self: Any) -> None:
            self._wrapped = types.SimpleNamespace(**{function.__name__: function})

        def fill(namespace: dict[str, Any]) -> None:
            namespace.update(__module__=function.__module__, __doc__=function.__doc__, __init__=construct)
            forward: Any = _forwarder(function.__name__, function)
            del forward.__wrapped__  # which has no `self`: what is declared is the interface's
            forward.__annotations__ = {}
            namespace[function.__name__] = forward

        made[()] = types.new_class(function.__name__, (Plugin, interface), {}, fill)
    return made[()]


def plain_object(plugin: object) -> object:
    """What a plug-in of such a class serves; None of another's."""
    return getattr(plugin, "_wrapped", None)


def _wrapped(kind: type, interface: type[Any]) -> type:
    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(
            __module__=kind.__module__,
            __qualname__=kind.__qualname__,
            __doc__=kind.__doc__,
            __init__=_constructor(kind),
        )
        for name in interface.__contract__.methods:
            namespace[name] = _forwarder(name, inspect.getattr_static(kind, name))

    return types.new_class(kind.__name__, (Plugin, interface), {}, fill)


def _constructor(kind: type) -> Callable[..., None]:
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        self._wrapped = kind(*args, **kwargs)

    # Its parameters are what is injected and configured.
    constructor: Any = inspect.getattr_static(kind, "__init__")
    return construct if constructor is object.__init__ else functools.wraps(constructor)(construct)


def _forwarder(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls that of the wrapped object, and gives its result in the same way."""

    async def coroutine(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self._wrapped, name)(*args, **kwargs)

    async def async_stream(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        items = getattr(self._wrapped, name)(*args, **kwargs)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    def stream(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from getattr(self._wrapped, name)(*args, **kwargs)

    def plain(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._wrapped, name)(*args, **kwargs)

    inner = inspect.unwrap(function)
    forward: Callable[..., Any] = plain
    if inspect.iscoroutinefunction(inner):
        forward = coroutine
    elif inspect.isasyncgenfunction(inner):
        forward = async_stream
    elif inspect.isgeneratorfunction(inner):
        forward = stream
    return functools.wraps(function)(forward)
