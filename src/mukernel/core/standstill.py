"""Standstill: notices that the kernel's own event loop stands still, and says where, since nobody else can: an inline
plug-in that blocks or computes keeps the supervisor from its turn, too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

from .stack import Stack, own_stack

log = logging.getLogger("mukernel")


class StandstillWatch:
    """A thread that wakes once in `heartbeat` seconds, and asks the loop for a sign of life.

    Where two in a row were not answered, it logs the stack of the loop's thread, once for each standstill; one may be
    missed by a process that was itself stopped. When the loop turns again, `on_end` is called there with the stack.
    `heartbeat` of 0: there is no thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, heartbeat: float, on_end: Callable[[Stack], object]) -> None:
        self.loop, self.heartbeat, self.on_end = loop, heartbeat, on_end
        self.loop_thread = threading.get_ident()
        self.ended = threading.Event()
        self.answered = True
        self.missed = 0
        self.thread: threading.Thread | None = None
        if heartbeat:
            self.thread = threading.Thread(target=self.run, name="mukernel standstill watch", daemon=True)
            self.thread.start()

    def run(self) -> None:
        while not self.ended.wait(self.heartbeat):
            if not self.answered:
                self.missed += 1
                if self.missed == 2:
                    self.tell()
                continue
            self.answered, self.missed = False, 0
            if not self.asked(self.answer):
                return

    def answer(self) -> None:
        self.answered = True

    def asked(self, callback: Callable[[], object]) -> bool:
        """Have the loop call it; False where it is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback)
            return True
        return False

    def tell(self) -> None:
        stack = own_stack(self.loop_thread)
        stack = Stack(stack.pid, stack.state, [thread for thread in stack.threads if not self.is_ours(thread.name)])
        log.warning(
            "the kernel's event loop has stood still for more than %g s; nobody is served meanwhile. %s",
            self.heartbeat, stack.text,
        )  # fmt: skip
        self.asked(lambda: self.on_end(stack))

    def is_ours(self, name: str) -> bool:
        return self.thread is not None and name == self.thread.name

    def close(self) -> None:
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
