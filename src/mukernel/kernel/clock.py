"""Time comes only from here: real time, and virtual time in which hours pass in milliseconds.

Both clocks have one interface, and both agree with `time()` of the event loop they are used on, so asyncio's
own timers (`asyncio.sleep`, `asyncio.timeout`, `loop.call_later`) follow the same clock. All times are
seconds, or nanoseconds where the name ends in `_ns`; both are monotonic. Real time is CLOCK_MONOTONIC, which
every process of one machine shares, so a deadline may be compared in a process other than the one that set
it.
"""

import asyncio
import math
import selectors
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class DeadlockError(RuntimeError):
    """In virtual time: tasks wait, and nothing is left that could wake one of them."""


class Timer(Protocol):
    """Something that will happen. `cancel()` prevents it, or does nothing if it happened or was cancelled."""

    def cancel(self) -> None: ...


class Clock:
    """Real time. Methods that start a timer need a running event loop."""

    def now(self) -> float:
        """Seconds since an arbitrary start; on the scale of the running loop's `time()`."""
        return time.monotonic()

    def now_ns(self) -> int:
        """The same instant as `now()`, in nanoseconds. Never 0, which means "no deadline" in a message."""
        return time.monotonic_ns()

    def wall(self) -> datetime:
        """Date and time in UTC: for people to read, never to measure with."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait; 0 lets the other tasks run once."""
        self._loop()
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call `callback(*args)` once, on the running loop, `seconds` from now."""
        return self._loop().call_later(seconds, callback, *args)

    def timeout_at(self, when: float | None) -> asyncio.Timeout:
        """An async context manager: at `when`, as `now()` counts, its body is cancelled and TimeoutError
        raised.

        None means no timeout; a `when` in the past cancels at the body's first await.
        """
        self._loop()
        return asyncio.timeout_at(when)

    def every(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback()` at each whole multiple of `seconds` from now, until cancelled: a watchdog's tick.

        Ticks do not drift; those that a busy loop missed are skipped, not made up for. An exception in
        `callback` goes to the loop's exception handler, and the ticking goes on. Raises ValueError unless 0 <
        seconds < infinity.
        """
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds: got {seconds!r}, wanted a finite number above 0")
        return _Ticker(self._loop(), seconds, callback)

    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class _Ticker:
    """A timer that sets itself again. `_handle` is None exactly when it was cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period: float, callback: Callable[[], object]):
        self._loop, self._period, self._callback = loop, period, callback
        self._start, self._ticks = loop.time(), 1  # the next tick is due at _start + _ticks * _period
        self._handle: Timer | None = loop.call_at(self._start + period, self._tick)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        try:
            self._callback()
        except Exception as error:
            message = f"exception in {self._callback!r}, called every {self._period} s"
            self._loop.call_exception_handler({"message": message, "exception": error})
        if self._handle is not None:  # the callback may have cancelled us
            passed = int((self._loop.time() - self._start) / self._period)
            self._ticks = max(self._ticks, passed) + 1
            self._handle = self._loop.call_at(self._start + self._ticks * self._period, self._tick)


class VirtualClock(Clock):
    """Time that stands still while anything can run, and jumps to the next timer when nothing can.

    A program that only awaits timers and its own tasks runs the same way each time. Real file descriptors and
    executor threads still work, and are not deterministic: while a thread of `asyncio.to_thread` or
    `run_in_executor` works, time stands still; while descriptors are registered, time jumps only after they
    were silent for `patience` real seconds. Threads that the loop did not start are not seen: waiting for one
    alone looks like a deadlock.
    """

    patience = 0.005
    epoch = datetime(2000, 1, 1, tzinfo=UTC)

    def __init__(self) -> None:
        self._now = 1.0  # only the selector below moves it. Not 0: a deadline of 0 means none

    def now(self) -> float:
        return self._now

    def now_ns(self) -> int:
        return round(self._now * 1e9)

    def wall(self) -> datetime:
        return self.epoch + timedelta(seconds=self._now)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` on a new loop and return its result. Raises DeadlockError when it can never end."""
        with asyncio.Runner(loop_factory=self.new_event_loop) as runner:
            return runner.run(main)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop on this clock's time, which the caller closes. One at a time may run."""
        return _VirtualLoop(self)

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, _VirtualLoop) or loop.clock is not self:
            raise RuntimeError(f"virtual clock used on {loop!r}, wanted a loop of its own new_event_loop()")
        return loop


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.threads = clock, 0  # threads: how many the loop waits for
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        return self.clock._now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        if when == math.inf:  # it never comes, so it is not in the heap: time would jump towards it for ever
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        self.threads += 1  # it waits for a thread of its own
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self.threads -= 1

    def _thread_ended(self, _future: asyncio.Future[Any]) -> None:
        self.threads -= 1


class _VirtualSelector(selectors.BaseSelector):
    """Where asyncio would sleep until the next timer, time moves instead."""

    def __init__(self, loop: _VirtualLoop) -> None:
        self._loop, self._real = loop, selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._loop.threads:
            return self._real.select(None if timeout is None or timeout > 0 else 0)
        watching = len(self.get_map()) > 1  # the loop's own wake-up pipe is the one
        if timeout is None and watching:
            return self._real.select(None)
        ready = self._real.select(self._loop.clock.patience if watching and timeout else 0)
        if not ready and timeout is None:
            waiting = ", ".join(sorted(map(_whereabouts, asyncio.all_tasks(self._loop)))) or "none"
            at = f"virtual time {self._loop.clock._now:g} s"
            raise DeadlockError(f"deadlock at {at}: no timer is pending, nothing can wake {waiting}")
        if not ready and timeout is not None and timeout > 0:
            self._loop.clock._now += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def _whereabouts(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"{task.get_name()}{where}"
