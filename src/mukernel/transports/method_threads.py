"""The threads themselves of a pool: each is begun when there is work for it, and a call that gets none is not run."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..contract import Overloaded

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger("mukernel")


class MethodThreads:
    """At most `most` threads. Owned by one event loop.

    Each is an executor of its own: one for all would have queued a work by the time it can't start a thread for it, and
    would say that it failed while another thread runs it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self.loop, self.most = loop, most
        self.begun: list[ThreadPoolExecutor] = []
        self.idle: list[ThreadPoolExecutor] = []
        self.waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()  # for a thread, in turn
        self.closed = self.short = False

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """What `work`, which raises nothing, gives, in a thread that is idle, in another one, or, where no more can be
        started, in the next that is free. Raises Overloaded where there is none at all, and RuntimeError when closed;
        `work` is not run then."""
        if self.closed:
            raise RuntimeError("the threads of this plug-in are closed")
        if self.idle:
            future = self.run_in(self.idle[-1], work)
            self.idle.pop()
            return future
        if len(self.begun) < self.most:
            try:
                return self.run_in_another(work)
            except (RuntimeError, MemoryError) as error:
                self.tell(error)
        future = self.loop.create_future()
        self.waiting.append((work, future))
        return future

    def run_in_another(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        from concurrent.futures import ThreadPoolExecutor  # here: what it does at every fork costs a process memory

        another = ThreadPoolExecutor(1, f"mukernel-method-{len(self.begun)}")
        future = self.run_in(another, work)  # with no thread in it, nothing runs what it has queued
        self.begun.append(another)
        return future

    def run_in(self, thread: ThreadPoolExecutor, work: Callable[[], Any]) -> asyncio.Future[Any]:
        future = self.loop.run_in_executor(thread, work)
        future.add_done_callback(lambda _: self.free(thread))
        return future

    def free(self, thread: ThreadPoolExecutor) -> None:
        """A thread has done its work, or that was withdrawn."""
        while self.waiting and not self.closed:
            work, future = self.waiting.popleft()
            if not future.done():  # else it was withdrawn
                self.run_in(thread, work).add_done_callback(partial(hand_on, future))
                return
        self.idle.append(thread)

    def tell(self, error: Exception) -> None:
        """No thread could be started. Raises Overloaded where there is none."""
        count = len(self.begun)
        wanted = "wanted fewer `threads`, or more `memory` (8 MiB each, for its stack) and `processes`"
        if not count:
            raise Overloaded(f"no thread could be started: {error}; {wanted}")
        if not self.short:  # once
            self.short = True
            log.warning("%d of %d threads: no more could be started: %s; %s", count, self.most, error, wanted)

    def close(self) -> None:
        """What was not begun is not begun any more; nobody waits for what runs."""
        self.closed = True
        for thread in self.begun:
            thread.shutdown(wait=False, cancel_futures=True)
        for _, future in self.waiting:
            future.cancel()


def hand_on(future: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
    if not future.done():
        if done.cancelled():
            future.cancel()
        else:
            future.set_result(done.result())


__all__ = ["MethodThreads"]
