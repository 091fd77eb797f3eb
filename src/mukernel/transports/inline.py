"""The inline transport: a method of the instance itself, counted and redirected only where a swap will need that.

An instance that hands over no state and has nothing to stop is called directly: bound methods stand in the proxy, and
lead elsewhere once it has been replaced (`replaceable`). Of any other, what is awaited is called through
`InlineMethod`s, which know when it is drained and hold calls back while it is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any
from weakref import WeakKeyDictionary

from ..contract import DeadlineExceeded, Unavailable, as_told
from .context import current
from .waiting_calls import WaitingCalls

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


ENDED = "the event loop of the kernel's process has ended"
_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()  # those that run a loop
LOOK = 0.5  # seconds between two looks of a waiting thread at whether the loop is still there


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


def refuse_own_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raises RuntimeError where only this thread, which is about to wait, could let the loop go on."""
    if is_here(loop):
        raise RuntimeError(
            "a blocking call on the event loop's own thread can't wait for an async method in the same process: "
            "await it, or call from another thread"
        )
    if not loop.is_running() and _threads.get(loop) == threading.get_ident() and not loop.is_closed():
        raise RuntimeError(
            "the kernel's event loop does not run, and this is the thread that runs it: a blocking call would wait for "
            "ever; await it on the loop, or call from another thread while the loop runs"
        )


def owned_here(loop: asyncio.AbstractEventLoop) -> None:
    """Remember that the present thread is the one that runs a loop."""
    _threads[loop] = threading.get_ident()


def is_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Does `loop` run in this thread?"""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def result_of(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], now_ns: Callable[[], int] | None = None
) -> Any:
    """What `work` returns or raises, run by `loop`, for any other thread, which blocks. With the clock `now_ns` it is
    not waited for beyond the caller's deadline. Raises Unavailable where the loop ends first, DeadlineExceeded, and
    RuntimeError on the loop's own thread."""
    try:
        refuse_own_loop(loop)
    except RuntimeError:
        work.close()
        raise
    ends = ends_of_caller(now_ns)
    future = on_loop_soon(loop, work, in_time(work, ends, now_ns) if ends and now_ns is not None else work)
    try:
        return outcome(loop, future, ends, now_ns)
    except KeyboardInterrupt:
        future.cancel()
        raise
    except DeadlineExceeded:
        if not future.cancel():  # it has ended, so or otherwise
            return future.result()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(close_unbegun, work)
        raise


def ends_of_caller(now_ns: Callable[[], int] | None) -> int:
    """The deadline of the calls that this thread makes, in ns of the clock `now_ns`; 0: none."""
    context = current.get()
    return context.deadline if context is not None and now_ns is not None else 0


def on_loop_soon(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], guarded: Coroutine[Any, Any, Any] | None = None
) -> Future[Any]:
    """The future of `work`, which `loop` runs, inside `guarded` if given. Raises Unavailable where that has ended."""
    try:
        return asyncio.run_coroutine_threadsafe(guarded or work, loop)
    except RuntimeError:
        for each in (guarded, work):
            if each is not None:
                each.close()
        if loop.is_closed():
            raise Unavailable(ENDED) from None
        raise


def close_unbegun(work: Coroutine[Any, Any, Any]) -> None:
    """It was cancelled before its first step, and will not be run."""
    if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()


def outcome(loop: asyncio.AbstractEventLoop, future: Future[Any], ends: int, now_ns: Callable[[], int] | None) -> Any:
    """Block until `loop` has run what the future is of. Raises what that raises, Unavailable where the loop ends first,
    and DeadlineExceeded at `ends` (0: never).

    A loop tells nobody that it was closed, and what it was given last it may never run: so this looks.
    """
    try:
        while True:
            left = (ends - now_ns()) / 1e9 if ends and now_ns is not None else LOOK
            try:
                return future.result(max(0.0, min(left, LOOK)))
            except TimeoutError:
                if future.done():
                    return future.result()
                if left <= 0:
                    raise DeadlineExceeded("no reply before the deadline") from None
                if loop.is_closed():
                    raise Unavailable(ENDED) from None
    except CancelledError:
        raise Unavailable(ENDED) from None


async def in_time(work: Coroutine[Any, Any, Any], ends: int, now_ns: Callable[[], int]) -> Any:
    """What comes of `work`, unless the loop comes to it after `ends` (ns): then nobody waits for it, and it is not
    begun. Raises DeadlineExceeded."""
    try:
        if now_ns() >= ends:
            raise DeadlineExceeded("the deadline had passed before the call was begun")
        return await work
    finally:
        work.close()


__all__ = [
    "InFlight",
    "InlineMethod",
    "arguments_of",
    "awaitable",
    "counted_stream",
    "is_here",
    "leave",
    "on_loop",
    "result_of",
]
