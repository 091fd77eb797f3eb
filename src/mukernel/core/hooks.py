"""Hooks: what the kernel calls of a plug-in's own code, in the process where that runs, and does not wait for for
ever."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from contextvars import Context
from typing import Any

from ..transports.eager import start_task
from .ending import contained

log = logging.getLogger("mukernel")
PATIENCE = 30.0  # seconds that a hook has which others wait for
CLEAN_UP = 1.0  # seconds to end for what was told to


class TookTooLong(Exception):
    """A hook did not return in its time. It has been cancelled, or closed."""


async def outcome(
    result: Any, plugin: str, doing: str, seconds: float | None = None, context: Context | None = None
) -> Any:
    """What a hook returned, or what came of awaiting that, in `context`; `seconds`: its time, None: any.

    Raises what the hook does, ContractError where that is no Exception, and TookTooLong. It runs in a task of its own,
    since nobody may be kept by one that takes no cancellation (a bare `except:` around an `await` in a loop does):
    after CLEAN_UP it is closed, and an error is logged.
    """
    if not inspect.isawaitable(result):
        return result

    async def awaited() -> Any:
        with contained(plugin, doing):
            return await result

    work = awaited()
    task: asyncio.Task[Any] = start_task(asyncio.get_running_loop(), work, context)
    try:
        if not task.done():
            await asyncio.wait((task,), timeout=seconds)
        if task.done():
            return task.result()
        raise TookTooLong
    finally:
        if not task.done():
            task.cancel()
            try:
                await asyncio.wait((task,), timeout=CLEAN_UP)
            finally:
                give_up(task, work, plugin, doing)


def give_up(task: asyncio.Task[Any], work: Any, plugin: str, doing: str) -> None:
    """Nobody waits for a hook any more, which was cancelled."""
    if not task.done():
        log.error("plug-in %r takes no cancellation while it is %s: it is given up", plugin, doing)
        # A task that can't be cancelled would keep asyncio.run from returning. What is closed can't go on.
        with contextlib.suppress(Exception):  # it may ignore that, too: then it is thrown away as it stands
            work.close()
        task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody is to be warned of that
