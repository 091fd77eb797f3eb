"""LeftOpen: files of `mukernel://` that nobody closed are closed in a thread of their own.

Python finds out in any thread that nobody holds one any more, also in the event loop's, or in one that works on a mount
of an inline server: whoever wrote it there would wait for himself.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident
from typing import Any, Protocol

from ...kernel.clock import Clock
from ...transports.context import current
from ...transports.waiting_thread import is_here

log = logging.getLogger("mukernel")
CLOCK = Clock()
ENDING = 10.0  # seconds that the end of the program waits for those that are left
LOOKING = 2.0  # seconds that a look waits for them: where one of their stores stalls, others go on


class Closable(Protocol):
    path: str

    def close(self) -> None: ...


class LeftOpen:
    """Those of one process. `given`: a file to close, or what is told when those before it are closed."""

    def __init__(self) -> None:
        self.given: SimpleQueue[Closable | SimpleQueue[None]] = SimpleQueue()
        self.left: deque[Closable] = deque()  # those that are not closed yet
        self.thread: Thread | None = None
        self.beginning = Lock()
        self.stalled: Closable | None = None  # the one that somebody has waited for in vain
        self.ended = False

    def begin(self) -> None:
        """Have the thread: a finalizer can't start one."""
        if self.thread is not None:
            return
        with self.beginning:
            if self.thread is None:
                self.thread = Thread(target=self.run, name="mukernel files left open", daemon=True)
                self.thread.start()
                atexit.register(self.end)
                if processes := sys.modules.get("multiprocessing.util"):  # whose children end without atexit
                    processes.Finalize(None, self.end, exitpriority=0)

    def run(self) -> None:
        while True:
            each = self.given.get()
            if isinstance(each, SimpleQueue):
                each.put(None)
                continue
            try:
                each.close()
            except BaseException:
                log.exception("%r was not closed, and could not be written", each.path)
            self.left.popleft()
            del each

    def close(self, file: Closable) -> None:
        """Close it some time soon. Called by finalizers: it waits for nothing."""
        if self.ended:
            file.close()
        else:
            self.left.append(file)
            self.given.put(file)

    def settle(self, files: Any) -> None:
        """Wait for those that are left: who lets go of a file, and then looks, is to see it. `files`: where they are
        written. On a loop that has to turn for that there is no waiting."""
        if not self.left or self.thread is None or get_ident() == self.thread.ident:
            return
        route = getattr(files, "_mukernel_route", None)
        if route is not None and route.caller is None and is_here(route.loop):
            return
        with suppress(IndexError):  # the last was closed just now
            first = self.left[0]
            if first is not self.stalled:
                call, seconds = current.get(), LOOKING
                if call is not None and call.deadline:
                    seconds = max(0.0, min(seconds, (call.deadline - CLOCK.now_ns()) / 1e9))
                if not self.wait(seconds) and seconds == LOOKING:
                    self.stalled = first

    def wait(self, seconds: float) -> bool:
        """Until those that are left by now are closed; False: that took longer."""
        told: SimpleQueue[None] = SimpleQueue()
        self.given.put(told)
        try:
            told.get(timeout=seconds)
        except Empty:
            return False
        return True

    def end(self) -> None:
        """The end of the program, after which no thread of this kind goes on."""
        if self.left and not self.wait(ENDING):
            log.error("not closed, and so not written, at the end: %s", [each.path for each in list(self.left)])
        self.ended = True


left_open = LeftOpen()
# A child has no thread of its parent's, and what that has left open is the parent's to write.
os.register_at_fork(after_in_child=left_open.__init__)  # type: ignore[misc]
