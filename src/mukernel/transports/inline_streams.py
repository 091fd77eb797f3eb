"""Streams of inline plug-ins for other threads: the method runs on the loop, and its input in the thread that reads it.

A generator may be let go of by whichever thread collects garbage, and the loop's own is one of them: so that is told to
the loop, and never waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from ..contract import DeadlineExceeded, Unavailable
from .inline import InFlight, leave, own_ending_told
from .waiting_thread import ENDED, LOOK, ends_of_caller, is_here, refuse_own_loop, result_of

ITEM, INPUT, ENDING, ERROR, MOVED = range(5)  # what the loop tells the thread that reads a stream
NO_MORE = object()

_running: set[asyncio.Task[None]] = set()  # else nothing would hold one that cleans up when its reader has gone


class SplitInput(Protocol):
    """Takes the input out of the arguments of a channel, and puts `instead` in its place: (input, None where the loop
    can iterate it; args; kwargs)."""

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], instead: AsyncIterator[Any], /
    ) -> tuple[Iterator[Any] | None, tuple[Any, ...], dict[str, Any]]: ...


class ThreadInput(AsyncIterator[Any]):
    """What a thread gives to a channel, as the method awaits it: item by item, when the method asks for one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Callable[[], None]) -> None:
        self.loop, self.ask = loop, ask
        self.items: deque[Any] = deque()
        self.asked = self.ended = False
        self.waiter: asyncio.Future[None] | None = None

    def give(self, item: Any) -> None:
        """Called on the loop, with NO_MORE at the end."""
        self.asked = False
        if item is NO_MORE:
            self.ended = True
        else:
            self.items.append(item)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def __anext__(self) -> Any:
        while not self.items:
            if self.ended:
                raise StopAsyncIteration
            if not self.asked:
                self.asked = True
                self.ask()
            self.waiter = self.loop.create_future()
            await self.waiter
        return self.items.popleft()


class StreamOnLoop:
    """One stream, which one task of the loop computes, and one thread at a time reads; the next item is computed when
    it is asked for. The deadline is that of the thread which began it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now_ns: Callable[[], int]) -> None:
        self.loop, self.now_ns, self.ends = loop, now_ns, ends_of_caller(now_ns)
        self.told: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self.input = ThreadInput(loop, lambda: self.told.put((INPUT, None)))
        self.task: asyncio.Task[None] | None = None
        self.next_wanted: asyncio.Future[None] | None = None

    # -- in the thread ----------------------------------------------------------------------------------------

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Let the loop call it. Raises Unavailable where that has ended."""
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            raise Unavailable(ENDED) from None

    def next_told(self) -> tuple[int, Any]:
        """Block until the loop tells something. Raises Unavailable where that ends first, DeadlineExceeded, and
        RuntimeError on its own thread."""
        refuse_own_loop(self.loop)
        while True:
            left = (self.ends - self.now_ns()) / 1e9 if self.ends else LOOK
            try:
                return self.told.get(timeout=max(0.0, min(left, LOOK)))
            except Empty:
                if left <= 0:
                    raise DeadlineExceeded("the stream did not end before the deadline") from None
                if self.loop.is_closed():
                    raise Unavailable(ENDED) from None

    def let_go(self) -> None:
        with contextlib.suppress(Unavailable):
            self.soon(self.cancel)

    # -- on the loop ------------------------------------------------------------------------------------------

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task = self.loop.create_task(self.run(function, args, kwargs))
        _running.add(self.task)
        self.task.add_done_callback(_running.discard)

    async def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            with own_ending_told():
                if self.ends and self.now_ns() >= self.ends:
                    raise DeadlineExceeded("the deadline had passed before the stream was begun")
                items = function(*args, **kwargs)
                if items is None:
                    self.told.put((MOVED, None))
                    return
                async with closing(items):
                    async for item in items:
                        self.next_wanted = self.loop.create_future()
                        self.told.put((ITEM, item))
                        del item
                        await self.next_wanted
            self.told.put((ENDING, None))
        except asyncio.CancelledError:
            self.told.put((ERROR, Unavailable(ENDED)))  # unless its reader wanted that, who has gone
            raise
        except BaseException as error:
            self.told.put((ERROR, error))
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise

    def want_next(self) -> None:
        if self.next_wanted is not None and not self.next_wanted.done():
            self.next_wanted.set_result(None)

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


@contextlib.asynccontextmanager
async def closing(items: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()


def iterate_on_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], split: SplitInput | None, now_ns: Callable[[], int]
) -> Callable[..., Generator[Any, None, bool]]:
    """A blocking form of an inline stream: every item is computed on the loop. It returns, at its end, whether
    `function` had a stream at all: it may give None."""

    def method(*args: Any, **kwargs: Any) -> Generator[Any, None, bool]:
        refuse_own_loop(loop)
        stream, feed = StreamOnLoop(loop, now_ns), None
        if split is not None:
            feed, args, kwargs = split(args, kwargs, stream.input)
        ended = False
        try:
            stream.soon(stream.begin, function, args, kwargs)
            while True:
                what, told = stream.next_told()
                if what == ITEM:
                    yield told
                    del told
                    stream.soon(stream.want_next)
                elif what == INPUT:
                    stream.soon(stream.input.give, NO_MORE if feed is None else next(feed, NO_MORE))
                else:
                    ended = True
                    if what == ERROR:
                        try:
                            raise told
                        finally:
                            del told  # else this frame, which it names, would keep it
                    return what != MOVED
        finally:
            if not ended:
                stream.let_go()

    return method


def step_on_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], now_ns: Callable[[], int]
) -> Callable[..., Generator[Any, None, bool]]:
    """The same for a `def` stream. The loop's own thread takes its steps itself."""

    def method(*args: Any, **kwargs: Any) -> Generator[Any, None, bool]:
        items: Any = None
        context = copy_context()  # of the thread that begins it, with its deadline

        def step() -> Any:
            nonlocal items
            if items is None:
                found = function(*args, **kwargs)
                if found is None:
                    return MOVED
                items = iter(found)
            return next(items, NO_MORE)

        async def step_in_task() -> Any:
            with own_ending_told():
                return step()

        try:
            while True:
                item = step() if is_here(loop) else context.run(result_of, loop, step_in_task(), now_ns)
                if item is NO_MORE or (items is None and item is MOVED):
                    return item is NO_MORE
                yield item
                del item
        finally:
            if hasattr(items, "close"):
                on_its_thread(loop, items.close)

    return method


def counted_blocking_stream(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], in_flight: InFlight,
    elsewhere: Callable[[], Callable[..., Any] | None],
) -> Callable[..., Iterator[Any]]:  # fmt: skip
    """As `counted_stream`, for a `def` stream, whose reader is on the loop's own thread."""

    def end(items: Any) -> None:
        try:
            if hasattr(items, "close"):
                items.close()
        finally:
            leave(in_flight)

    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        if (other := elsewhere()) is not None:
            yield from other(*args, **kwargs)
            return
        in_flight.running += 1
        in_flight.calls += 1
        items = None
        try:
            items = iter(function(*args, **kwargs))
            for item in items:
                yield item
                if in_flight.waiting.reason is not None:
                    raise Unavailable(in_flight.waiting.reason)
        finally:
            on_its_thread(loop, end, items)

    return stream


def on_its_thread(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: Any) -> None:
    """Call it now if `loop` runs in this thread, else soon in its own."""
    if is_here(loop):
        call(*args)
    else:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(call, *args)


__all__ = ["counted_blocking_stream", "iterate_on_loop", "step_on_loop"]
