"""Granted: what the caller of the call that is being run may do, where its channel does not give it everything."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..contract import Granted
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
    """The method as it is run for one channel. Methods of other channels know nothing of this and pay nothing."""
    return method.with_function(told(method.function, (plugin, granted), method.runs_here))


def told(function: Callable[..., Any], grant: tuple[object, Granted], take_back: bool) -> Callable[..., Any]:
    """Calls a function that can ask for the grant. `take_back`: after it, since it runs in the context of the loop;
    what runs in a task or a thread has a context of its own."""

    def call(*args: Any, **kwargs: Any) -> Any:
        current_grant.set(grant)
        return function(*args, **kwargs)

    def call_here(*args: Any, **kwargs: Any) -> Any:
        token = current_grant.set(grant)
        try:
            return function(*args, **kwargs)
        finally:
            current_grant.reset(token)

    return call_here if take_back else call
