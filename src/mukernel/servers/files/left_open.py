"""LeftOpen: files of `mukernel://` that nobody closed are closed in a thread of their own.

Python finds out in any thread that nobody holds one any more, also in the event loop's, or in one that works on a mount
of an inline server: whoever wrote it there would wait for himself.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident
from typing import Any, Protocol

from ...transports.waiting_thread import is_here

log = logging.getLogger("mukernel")
ENDING = 10.0  # seconds that the end of the program waits for those that are left


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
        if route is None or route.caller is not None or not is_here(route.loop):
            self.wait(None)

    def wait(self, seconds: float | None) -> None:
        told: SimpleQueue[None] = SimpleQueue()
        self.given.put(told)
        with suppress(Empty):
            told.get(timeout=seconds)

    def end(self) -> None:
        """The end of the program, after which no thread of this kind goes on."""
        if self.left:
            self.wait(ENDING)
        self.ended = True


left_open = LeftOpen()
# A child has no thread of its parent's, and what that has left open is the parent's to write.
os.register_at_fork(after_in_child=left_open.__init__)  # type: ignore[misc]
