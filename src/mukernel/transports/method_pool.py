"""The threads of one instance, for methods that are `def` and may block."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import Any

from ..contract import Overloaded, as_told
from .method_threads import MethodThreads
from .stray import end_stray


class MethodPool:
    """At most `threads` methods, or steps of streams, at once; with 0 there is no thread. Owned by one event loop.

    `busy`: places that are taken, those of inline calls that wait for a thread among them; whoever starts a method
    takes one, and `run` gives it back. `left`: called when a thread is free of which no server was told otherwise.

    Steps take turns with the calls that wait for a place: neither many streams nor many calls keep the others waiting.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int, left: Callable[[], None]) -> None:
        self.loop, self.threads, self.left = loop, threads, left
        self.busy = 0
        self.waiting: deque[asyncio.Future[None]] = deque()  # steps, for a place
        self.turn_of_steps = False  # the last place was a call's
        self.begun = MethodThreads(loop, threads)

    @property
    def full(self) -> bool:
        """Every thread has something to run."""
        return self.busy >= self.threads

    def take_place(self) -> None:
        """For a call."""
        self.busy += 1
        self.turn_of_steps = True

    def give_back_place(self) -> None:
        self.busy -= 1
        if self.waiting:
            if self.turn_of_steps:
                self.let_steps_go_on()
            else:  # after the calls, whose turn it is, and who are begun when this one has ended
                self.loop.call_soon(self.let_steps_go_on)

    def let_steps_go_on(self) -> None:
        while self.waiting and self.busy < self.threads:
            turn = self.waiting.popleft()
            if not turn.done():  # else it was cancelled just now
                self.busy += 1
                self.turn_of_steps = False
                turn.set_result(None)

    async def run(
        self, function: Callable[..., Any], arguments: Sequence[Any], context: Context | None = None,
        outlive: Callable[[asyncio.Future[Any]], object] = lambda future: None,
    ) -> Any:  # fmt: skip
        """The result of a method, in a thread and in `context`, or a copy of the present one. Raises what it raises,
        and for StopIteration, which Python raises through no `await`, a RemoteError; Overloaded, and it was not run,
        where no thread can be started. `outlive`: called with what a thread is still at when this is cancelled."""
        work = InThread(context or copy_context(), function, arguments)
        try:
            future = self.begun.run(work)
        except BaseException:
            work.withdrawn()
            self.give_back_place()
            raise
        try:
            await asyncio.shield(future)
        finally:
            if future.done() or work.withdrawn():
                future.cancel()
                self.give_back_place()
            else:  # a thread can't be cancelled: its place is free when it is done
                outlive(future)
                future.add_done_callback(self.outlived)
                future.add_done_callback(lambda _: work.taken())
        result, error = work.taken()
        if error is None:
            return result
        try:
            raise as_told(error) if isinstance(error, StopIteration) else error
        finally:
            del future, error  # an error that its own traceback keeps would keep what the method had in hand, too

    async def call(self, function: Callable[..., Any]) -> Any:
        """As `run`, for a call that no server counts: an inline one."""
        self.take_place()
        try:
            return await self.run(function, ())
        finally:
            self.left()

    async def step(
        self, function: Callable[[], Any], context: Context, outlive: Callable[[asyncio.Future[Any]], object]
    ) -> Any:
        """As `run`, for a step of a stream, when it is its turn."""
        if self.waiting or self.busy >= self.threads:
            turn = self.loop.create_future()
            self.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # it had its turn just now
                    self.outlived()
                elif turn in self.waiting:
                    self.waiting.remove(turn)
                raise
        else:
            self.busy += 1
            self.turn_of_steps = False
        try:
            return await self.run(function, (), context, outlive)
        finally:
            self.left()

    def begin(self, work: InThread) -> asyncio.Future[Any] | None:
        """Let a thread clean up, whoever waits for that. None: there are no threads any more."""
        try:
            future = self.begun.run(work)
        except (RuntimeError, Overloaded):
            return None
        self.busy += 1
        future.add_done_callback(self.outlived)
        return future

    def outlived(self, ended: object = None) -> None:
        self.give_back_place()
        self.left()

    def close(self) -> None:
        """What was not begun is not begun any more; nobody waits for what runs."""
        self.begun.close()


class InThread:
    """One method that a thread is to run. `outcome`: its result, or else what it raised. That is no exception of the
    future's, since a future takes no StopIteration, never ends then, and takes some others for its own cancellation.
    Nor is it the future's result, which a frame of the executor's keeps: an error's traceback leads there, and what the
    method had in hand would wait for Python's collector. Until the thread has begun, it may be withdrawn. A child that
    the method forked would wait there for another one."""

    __slots__ = ("arguments", "begun", "context", "function", "outcome", "unwanted")

    def __init__(self, context: Context, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self.context, self.function, self.arguments = context, function, arguments
        self.begun = self.unwanted = False
        self.outcome: tuple[Any, BaseException | None] = None, None

    def __call__(self) -> None:
        pid = os.getpid()
        self.begun = True  # before it looks: whoever withdraws it looks in the other order, so one of the two sees it
        if self.unwanted:
            return
        try:
            self.outcome = self.context.run(self.function, *self.arguments), None
        except BaseException as error:
            self.outcome = None, error
        finally:
            if os.getpid() != pid:
                end_stray()

    def taken(self) -> tuple[Any, BaseException | None]:
        """The outcome, which is whose now that asks for it."""
        outcome, self.outcome = self.outcome, (None, None)
        return outcome

    def withdrawn(self) -> bool:
        """It is not wanted any more. True if it will not be run; else a thread is at it."""
        self.unwanted = True
        return not self.begun
