"""Threads: those that work on a mount. The end of the program waits for none of them: what one asks of another machine
may never be answered, and the executors of the standard library would have the program wait for that."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Threads(Executor):
    """At most `most` of them, each begun when it is needed."""

    def __init__(self, most: int, name: str) -> None:
        self.most, self.name = most, name
        self.begun: list[Thread] = []
        self.idle = Semaphore(0)
        self.asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self.closed = False

    def submit(self, work: Callable[..., T], /, *given: Any, **named: Any) -> Future[T]:
        """Raises RuntimeError when they are closed."""
        if self.closed:
            raise RuntimeError(f"{self.name}: it is closed")
        future: Future[T] = Future()
        self.asked.put((future, partial(work, *given, **named)))
        if not self.idle.acquire(blocking=False) and len(self.begun) < self.most:
            self.begun.append(Thread(target=self.run, name=f"{self.name} {len(self.begun)}", daemon=True))
            self.begun[-1].start()
        return future

    def run(self) -> None:
        while (asked := self.asked.get()) is not None:
            future, work = asked
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            del asked, future, work  # they hold what was read
            self.idle.release()

    def close(self) -> None:
        """Begin nothing more, and wait until nobody works any more."""
        self.closed = True
        while True:
            try:
                asked = self.asked.get(block=False)
            except Empty:
                break
            if asked is not None:
                asked[0].cancel()
        for _ in self.begun:
            self.asked.put(None)
        for thread in self.begun:
            thread.join()
