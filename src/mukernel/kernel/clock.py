"""Time comes only from here: real time, and virtual time in which hours pass in milliseconds.

Both clocks agree with `time()` of the event loop they are used on, so asyncio's own timers (`asyncio.timeout_at`,
`loop.call_later`) follow the same clock. Times are monotonic seconds, or nanoseconds where the name ends in `_ns`. Real
time is shared by all processes of a machine: a deadline means the same in the process that it is sent to.
"""

import asyncio
import math
import selectors
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlockError(RuntimeError):
    """In virtual time: tasks wait, and nothing is left that could wake one of them."""


class Clock:
    """Real time."""

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

    def every(self, seconds: float, callback: Callable[[], object]) -> "Ticker":
        """Call `callback()` at each whole multiple of `seconds` from now, until cancelled: a watchdog's tick.

        Ticks that a busy loop missed are skipped. An exception in `callback` goes to the loop's exception handler, and
        the ticking goes on. Raises ValueError unless 0 < seconds < infinity.
        """
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds: got {seconds!r}, wanted a finite number above 0")
        return Ticker(self._loop(), seconds, callback)

    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class Ticker:
    """What `Clock.every` started. The next tick is due at _start + _ticks * _period, so that they do not drift."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period: float, callback: Callable[[], object]) -> None:
        self._loop, self._period, self._callback = loop, period, callback
        self._start, self._ticks, self._cancelled = loop.time(), 1, False
        self._handle = loop.call_at(self._start + period, self._tick)

    def cancel(self) -> None:
        """Let no more tick come. May be called again, and from the callback."""
        self._cancelled = True
        self._handle.cancel()

    def _tick(self) -> None:
        try:
            self._callback()
        except Exception as error:
            message = f"exception in {self._callback!r}, called every {self._period} s"
            self._loop.call_exception_handler({"message": message, "exception": error})
        if not self._cancelled:
            self._ticks = max(self._ticks, int((self._loop.time() - self._start) / self._period)) + 1
            self._handle = self._loop.call_at(self._start + self._ticks * self._period, self._tick)


class VirtualClock(Clock):
    """Time that stands still while anything can run, and jumps to the next timer when nothing can.
    A program that awaits only timers and its own tasks runs the same way each time; one with file descriptors or
    threads (`asyncio.to_thread`) does not: time stands still while such a thread works, and until the descriptors have
    been silent for `patience` real seconds.
    """

    patience = 0.005
    epoch = datetime(2000, 1, 1, tzinfo=UTC)

    def __init__(self) -> None:
        self._now = 1.0  # only _VirtualSelector moves it. Not 0: a deadline of 0 means none

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
        self.clock, self.threads = clock, set[object]()  # threads: one thing for each that the loop waits for
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        return self.clock._now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        if when == math.inf:  # it never comes, so it is not in the heap: time would jump towards it for ever
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self.threads.add(future)
        future.add_done_callback(self.threads.discard)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        self.threads.add(self)  # it is done by a thread, which waits for the others
        await super().shutdown_default_executor(*args, **kwargs)
        self.threads.discard(self)


class _VirtualSelector(selectors.EpollSelector):
    """Where asyncio would sleep until the next timer, time moves instead. `timeout`: None without any timer."""

    def __init__(self, loop: _VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        clock, idle = self._loop.clock, timeout is None or timeout > 0
        watching = len(self.get_map()) > 1  # the loop's own wake-up pipe is the one
        if (idle and self._loop.threads) or (timeout is None and watching):
            return super().select(None)
        ready = super().select(clock.patience if idle and watching else 0)
        if not ready and timeout is None:
            waiting = ", ".join(sorted(map(repr, asyncio.all_tasks(self._loop)))) or "none"
            raise DeadlockError(f"deadlock at virtual time {clock._now:g} s: no timer is pending to wake {waiting}")
        if not ready and timeout is not None:
            clock._now += max(timeout, 0)
            self._loop._clock_resolution = max(1e-9, math.ulp(clock._now))  # type: ignore[attr-defined]  # or none is due
        return ready
