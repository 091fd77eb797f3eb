"""Starting a coroutine at once, in a task of its own: most calls end in their first step, without the loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

if sys.version_info >= (3, 12):

    def start_task(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None
    ) -> asyncio.Task[T]:
        """A task whose first step has been run; in `context`, or a copy of the present one."""
        return asyncio.Task(work, loop=loop, context=context, eager_start=True)

else:

    def start_task(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None
    ) -> asyncio.Task[T]:
        """A task whose first step has been run; in `context`, or a copy of the present one.

        A new task asks its loop to call its first step soon; for that moment the loop's `call_soon` is ours, and the
        step is run now. Where a task is running it is set aside meanwhile, or calls started from it would be
        overtaken by later ones. Loops that can't be asked so (uvloop) run the step in their next turn.

        Others may ask for something in that moment, too: a signal's handler, a finalizer that the collector calls. That
        goes on to the loop.
        """
        steps: list[tuple[Any, Context | None]] = []
        call_soon = loop.call_soon

        def now(callback: Any, *arguments: Any, context: Context | None = None) -> Any:
            if arguments or type(getattr(callback, "__self__", None)) is not asyncio.Task:
                return call_soon(callback, *arguments, context=context)
            return steps.append((callback, context))

        try:
            loop.call_soon = now  # type: ignore[method-assign,assignment]
        except AttributeError:
            return asyncio.Task(work, loop=loop, context=context)
        try:
            task = asyncio.Task(work, loop=loop, context=context)
        finally:
            try:  # noqa: SIM105  # no call is made here: where the stack is full, none can be
                del loop.call_soon
            except AttributeError:  # not there any more where one of those others came here, too
                pass
        running = asyncio.current_task(loop)
        if running is not None:
            asyncio.tasks._leave_task(loop, running)
        try:
            for callback, own in steps:
                if callback.__self__ is not task or own is None:
                    call_soon(callback, context=own)
                else:
                    own.run(callback)
        finally:
            if running is not None:
                asyncio.tasks._enter_task(loop, running)
        return task
