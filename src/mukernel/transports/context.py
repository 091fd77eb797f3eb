"""What travels with a call through every hop: deadline, priority, trace; and how a caller sets it.

with deadline(0.2):                        # or `async with`, which is the same
    await greeter.greet("Ada")             # and whatever that calls in turn, in whichever process
with priority(10):
    await greeter.greet("Ada")
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context, ContextVar, Token
from types import TracebackType
from typing import Any

from ..contract import DeadlineExceeded
from ..kernel.clock import Clock

A_TICK = 0.001  # seconds that a loop may call a timer early
LONGEST = 1_000_000_000  # seconds; some thirty years, and a deadline has 64 bits of nanoseconds


class CallContext:
    """The circumstances of the call that is being served, or that a caller has set for the calls it makes.

    `priority` is raised in place when a more urgent caller waits for this call (priority inheritance); calls that it
    makes from then on travel at the raised priority. A task or a timer that was started meanwhile may live on when the
    call has ended, as a worker of its plug-in does: then it is `over` for that, too.
    """

    __slots__ = ("_deadline", "_priority", "outer", "trace")

    def __init__(
        self, deadline: int = 0, priority: int | None = 0, trace: tuple[int, int, int] | None = None,
        outer: CallContext | None = None,
    ) -> None:  # fmt: skip
        """`deadline`: in ns of the clock that times the calls; 0: none. `priority`: -128 to 127, higher is more urgent;
        None: that of `outer`. `trace`: (trace id high, trace id low, span id), 64 bits each. `outer`: what else binds
        the same calls, as long as it is not over."""
        self._deadline, self._priority, self.trace, self.outer = deadline, priority, trace, outer

    @property
    def deadline(self) -> int:
        """The earlier of its own and the outer one; 0: none."""
        own, outer = self._deadline, self.outer.deadline if self.outer is not None else 0
        return min(own, outer) if own and outer else own or outer

    @property
    def priority(self) -> int:
        if self._priority is not None:
            return self._priority
        return self.outer.priority if self.outer is not None else 0

    @priority.setter
    def priority(self, level: int) -> None:
        self._priority = level

    def over(self) -> None:
        """What is called from now on has the deadline and the priority of the outer one, if there is one."""
        self._deadline, self._priority = 0, None

    def binding(self) -> CallContext | None:
        """This, or the first outer one that says anything: what is over is not held on to."""
        found: CallContext | None = self
        while found is not None and found._priority is None and not found._deadline:
            found = found.outer
        return found

    def copy(self) -> CallContext:
        """As it is now: for a stream, which may be read when it is over."""
        return CallContext(self.deadline, self.priority, self.trace)


current: ContextVar[CallContext | None] = ContextVar("mukernel_call", default=None)


def own_of(base: Context, call: CallContext | None) -> Context:
    """A context for one call alone: what is left in a variable there is for nobody else."""
    own = base.copy()
    if call is not None:
        own.run(current.set, call)
    return own


def outside(outer: CallContext | None) -> tuple[tuple[int, int, int] | None, CallContext | None]:
    """The trace, and what else binds, of calls within a new block."""
    return (None, None) if outer is None else (outer.trace, outer.binding())


class deadline:
    """Everything that is called within must have ended `seconds` from now. Of nested deadlines the earlier holds.

    In a task, as `with` or as `async with`: whatever is awaited within is cancelled then, wherever it runs, and the
    block raises DeadlineExceeded. In code that blocks, the calls that are made within raise it. What never gives the
    loop a turn, such as a `def` method that runs inline, can't be cut off. `math.inf`: no deadline of its own. Raises
    ValueError for what is no number from 0 to 1e9, nor infinite.
    """

    __slots__ = ("cancellations", "context", "passed", "seconds", "task", "timer", "token")

    def __init__(self, seconds: float) -> None:
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not (0 <= seconds <= LONGEST or seconds == math.inf):
            raise ValueError(
                f"seconds: got {seconds!r}, wanted a number from 0 to {LONGEST:,}, or math.inf for no deadline"
            )
        self.seconds = seconds
        self.token: Token[CallContext | None] | None = None
        self.task: asyncio.Task[object] | None = None  # what is cut off
        self.timer: asyncio.Handle | None = None
        self.passed = False  # the task was cancelled by this

    def __enter__(self) -> None:
        if self.token is not None:
            raise RuntimeError("this deadline is in use already; make one for each `with`")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.context = self.within(Clock().now())
            self.token = current.set(self.context)
            return
        self.context = context = self.within(loop.time())
        self.token = current.set(context)
        self.task, self.passed = asyncio.current_task(), False
        if context.deadline and self.task is not None:
            self.cancellations = self.task.cancelling()
            self.timer = cut_off_at(loop, context.deadline / 1e9, self.cut_off)

    def within(self, now: float) -> CallContext:
        """The circumstances of the calls that are made within, from `now` on (seconds)."""
        outer = current.get()
        mine = max(1, int((now + self.seconds) * 1e9)) if self.seconds != math.inf else 0
        return CallContext(mine, None, *outside(outer))

    def cut_off(self) -> None:
        """The deadline has passed: cancel what the task waits for. Calls of every kind end so, and cost nothing more
        where there is no deadline."""
        assert self.task is not None
        ends, loop = self.context.deadline / 1e9, asyncio.get_running_loop()
        if not ends or ends > loop.time() + A_TICK:  # it was that of an outer one, which is over
            self.timer = cut_off_at(loop, ends, self.cut_off) if ends else None
            return
        self.timer, self.passed = None, True
        self.task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.token is not None:
            current.reset(self.token)
            self.token = None
            self.context.over()
        task, self.task = self.task, None
        if task is None or not self.passed:
            return
        others = task.uncancel() > self.cancellations  # somebody else wants it cancelled, too: then it is
        del task  # which has the error that is raised now, and that has this frame
        if isinstance(error, asyncio.CancelledError) and not others:
            raise DeadlineExceeded(f"not done within the {self.seconds:g} s of its deadline") from None

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def cut_off_at(loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], None]) -> asyncio.Handle:
    """Call back at `when`, or in the loop's next turn where that has passed."""
    return loop.call_soon(callback) if when <= loop.time() else loop.call_at(when, callback)


def watch(loop: asyncio.AbstractEventLoop, descriptor: Any, readable: Callable[..., object], *args: object) -> None:
    """`loop.add_reader`, with nothing of the present call: what is read there belongs to others."""
    Context().run(loop.add_reader, descriptor, readable, *args)


class priority:
    """Calls that are made within travel at this priority: -128 to 127, 0 is usual, higher is more urgent.

    For `with` and `async with`. Raises ValueError for a number out of range.
    """

    __slots__ = ("context", "level", "token")

    def __init__(self, level: int) -> None:
        if not isinstance(level, int) or isinstance(level, bool) or not -128 <= level <= 127:
            raise ValueError(f"level: got {level!r}, wanted a whole number from -128 to 127")
        self.level = level
        self.token: Token[CallContext | None] | None = None

    def __enter__(self) -> None:
        if self.token is not None:
            raise RuntimeError("this priority is in use already; make one for each `with`")
        outer = current.get()
        self.context = CallContext(0, self.level, *outside(outer))
        self.token = current.set(self.context)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.token is not None:
            current.reset(self.token)
            self.token = None
            self.context.over()

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
