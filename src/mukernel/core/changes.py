"""Changes: what users ask of a kernel that takes its time, as to load or to swap. A kernel that closes ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ..contract import Unavailable

C = TypeVar("C", bound="Changing")
P = ParamSpec("P")
T = TypeVar("T")


class Changes:
    """Those that are under way."""

    def __init__(self) -> None:
        self.under_way: dict[asyncio.Timeout, asyncio.Future[None]] = {}  # each with what is done when it has ended

    @asynccontextmanager
    async def one(self, what: str) -> AsyncIterator[None]:
        """One change, such as "load": it is cancelled when the kernel closes, and raises Unavailable then. Its task is
        not, nor what runs to its end."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self.under_way[limit] = ended
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unavailable(f"this kernel was closed while the {what} was under way") from None
        finally:
            self.under_way.pop(limit, None)
            ended.set_result(None)

    async def end(self) -> None:
        """End all of them; returns when they have."""
        for limit in self.under_way:
            limit.reschedule(asyncio.get_running_loop().time())
        while self.under_way:
            await asyncio.wait(list(self.under_way.values()))


class Changing(Protocol):
    """What has methods that are changes."""

    changes: Changes

    def check_open(self) -> None: ...
    def check_own_loop(self) -> None: ...


def change(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, T]]:
    """A method of an open kernel that is a change. Raises what its two checks do."""

    async def changing(kernel: C, /, *positional: P.args, **named: P.kwargs) -> T:
        kernel.check_open()
        kernel.check_own_loop()
        async with kernel.changes.one(method.__name__):
            return await method(kernel, *positional, **named)

    update_wrapper(changing, method)
    return changing
