"""The inline transport: a method of the instance itself, counted and redirected only where a swap will need that.

An instance that hands over no state and has nothing to stop is called directly: bound methods stand in the proxy, and
lead elsewhere once it has been replaced (`replaceable`). Of any other, what is awaited is called through
`InlineMethod`s, which know when it is drained and hold calls back while it is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import Any

from ..contract import Unavailable, as_told
from .waiting_calls import WaitingCalls
from .waiting_thread import result_of

try:
    from .tracked import InFlight, InlineMethod
except ImportError:  # not compiled here: the same, slower

    class InFlight:  # type: ignore[no-redef]
        """Counts the inline calls of one instance that are under way."""

        def __init__(self) -> None:
            self.running = self.calls = 0
            self.when_idle: Callable[[], None] | None = None
            self.waiting = WaitingCalls()

        def leave(self) -> None:
            self.running -= 1
            if not self.running and self.when_idle is not None:
                callback, self.when_idle = self.when_idle, None
                callback()

    class InlineMethod:  # type: ignore[no-redef]
        """Calls `target`; while `closed` is set, a coroutine waits in `closed(self, coroutine)` first."""

        def __init__(self, target: Any, in_flight: InFlight, name: str = "", documentation: str = "") -> None:
            self.target, self.in_flight, self.closed = target, in_flight, None
            self.__name__, self.__doc__ = name, documentation

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            result = self.target(*args, **kwargs)
            return self.counted(result) if asyncio.iscoroutine(result) else result

        async def counted(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
            if self.closed is not None:
                return await self.closed(self, coroutine)
            in_flight = self.in_flight
            in_flight.running += 1
            in_flight.calls += 1
            in_flight.waiting.enter(id(coroutine))
            try:
                result = await coroutine
            except BaseException as error:
                instead = in_flight.waiting.leave(id(coroutine), error)
                if instead is not None:
                    raise instead from None
                raise
            else:
                in_flight.waiting.leave(id(coroutine))
                return result
            finally:
                in_flight.leave()


def arguments_of(coroutine: Any, plugin: object) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that a coroutine was made with, but for `plugin`. It must not have run yet; it is closed."""
    values, code = coroutine.cr_frame.f_locals, coroutine.cr_code
    names = list(code.co_varnames)
    positional = [values[name] for name in names[: code.co_argcount]]
    rest = names[code.co_argcount :]
    keywords = {name: values[name] for name in rest[: code.co_kwonlyargcount]}
    rest = rest[code.co_kwonlyargcount :]
    if code.co_flags & inspect.CO_VARARGS:
        positional += values[rest.pop(0)]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        keywords.update(values[rest.pop(0)])
    coroutine.close()
    return positional[1:] if positional and positional[0] is plugin else positional, keywords


def awaitable(function: Callable[..., Any]) -> Callable[..., Any]:
    """A `def` method that its interface declares `async def`: it runs at once, and can be awaited. For StopIteration,
    which Python raises through no `await`, it raises RemoteError, as by a process."""

    async def method(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except StopIteration as error:
            raise as_told(error) from None

    return method


def counted_stream(
    function: Callable[..., Any], in_flight: InFlight, elsewhere: Callable[[], Callable[..., Any] | None]
) -> Callable[..., Any]:
    """A stream counts as a call under way from its first item to its end, and waits while its reader does; `elsewhere`
    may serve it instead."""
    waiting = in_flight.waiting

    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if (other := elsewhere()) is not None:
            async with contextlib.aclosing(other(*args, **kwargs)) as found:
                async for item in found:
                    yield item
            return
        in_flight.running += 1
        in_flight.calls += 1
        items = function(*args, **kwargs)
        each = aiter(items)
        try:
            while True:
                waiting.enter(id(each))
                try:
                    item = await anext(each)
                except StopAsyncIteration:
                    waiting.leave(id(each))
                    return
                except BaseException as error:
                    instead = waiting.leave(id(each), error)
                    if instead is not None:
                        raise instead from None
                    raise
                waiting.leave(id(each))
                yield item
                if waiting.reason is not None:
                    raise Unavailable(waiting.reason)
        finally:
            try:
                if hasattr(items, "aclose"):
                    await items.aclose()
            finally:
                if other is None:
                    leave(in_flight)

    return stream


def leave(in_flight: InFlight) -> None:
    """One call less is under way."""
    in_flight.running -= 1
    if not in_flight.running and in_flight.when_idle is not None:
        callback, in_flight.when_idle = in_flight.when_idle, None
        callback()


def on_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], now_ns: Callable[[], int]
) -> Callable[..., Any]:
    """A blocking form of an inline method, for threads other than the loop's own: it runs on the loop."""

    async def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with own_ending_told():
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

    def method(*args: Any, **kwargs: Any) -> Any:
        return result_of(loop, run(args, kwargs), now_ns)

    return method


def was_cancelled() -> bool:
    """Of a CancelledError: was it somebody who cancelled the present task, and not something that it awaited?"""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@contextlib.contextmanager
def own_ending_told() -> Iterator[None]:
    """A method that ends in a CancelledError of its own, since it awaited what was cancelled, or in StopIteration: the
    thread that waits for it is told so as by a process, since the future between them takes neither as it is. That it
    was cut off itself, or the loop ended, is another matter."""
    try:
        yield
    except (asyncio.CancelledError, CancelledError, StopIteration) as ending:
        if isinstance(ending, asyncio.CancelledError) and was_cancelled():
            raise
        raise as_told(ending) from None


__all__ = [
    "InFlight",
    "InlineMethod",
    "arguments_of",
    "awaitable",
    "counted_stream",
    "leave",
    "on_loop",
]
