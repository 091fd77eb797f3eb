"""Granted: what the caller of the call that is being run may do, where its channel does not give it everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

from ..contract import Granted
from .inputs import one_by_one
from .served import ServedMethod

# The plug-in whose method runs, and what its caller holds. The plug-in, since a method may call another in its process.
current_grant: ContextVar[tuple[object, Granted] | None] = ContextVar("mukernel_grant", default=None)


def caller_grant(plugin: object) -> Granted | None:
    """What the caller of the method of `plugin` that runs was granted; None: everything that the interface has.

        grant = caller_grant(self)
        if grant is not None:
            grant.check("read", path)

    A server that asks this declares the rights that it tells apart: `grant_rights = ("read", "write")`.
    """
    found = current_grant.get()
    return found[1] if found is not None and found[0] is plugin else None


def restricted(method: ServedMethod, plugin: object, granted: Granted) -> ServedMethod:
    """The method as it is run for one channel. Methods of other channels know nothing of this and pay nothing.

    What it was told is taken back when it ends, before the server starts a call that waited, in the same context.
    """
    function, grant = method.function, (plugin, granted)

    async def call(*args: Any, **kwargs: Any) -> Any:
        token = current_grant.set(grant)
        try:
            return await function(*args, **kwargs)
        finally:
            current_grant.reset(token)

    def call_plain(*args: Any, **kwargs: Any) -> Any:
        token = current_grant.set(grant)
        try:
            return function(*args, **kwargs)
        finally:
            current_grant.reset(token)

    def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        return told(lambda: function(*args, **kwargs))

    async def told(begin: Callable[[], Any]) -> AsyncIterator[Any]:
        token = current_grant.set(grant)
        try:
            items = begin()
            try:
                async for item in items if hasattr(items, "__aiter__") else one_by_one(items):
                    yield item
            finally:
                if hasattr(items, "aclose"):
                    await items.aclose()
        finally:
            current_grant.reset(token)

    def in_steps(*args: Any, **kwargs: Any) -> Any:
        current_grant.set(grant)  # the context is this stream's alone
        items = function(*args, **kwargs)
        return told(lambda: items) if hasattr(items, "__aiter__") else items

    if method.in_steps:
        return method.with_function(in_steps)
    return method.with_function(stream if method.streams else call if method.simple else call_plain)
