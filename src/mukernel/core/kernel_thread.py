"""KernelThread: a kernel for programs that have no event loop."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from ..contract import Unavailable
from ..transports.waiting_thread import result_of
from .kernel import Kernel

T = TypeVar("T")
Wanted = TypeVar("Wanted")
P = ParamSpec("P")


def waited_for(
    method: Callable[Concatenate[Kernel, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[KernelThread, P], T]:
    """A method of `Kernel` for other threads: it blocks its caller until the kernel's thread has run it."""

    @functools.wraps(method)
    def call(self: KernelThread, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(method(self.kernel, *args, **kwargs))

    return call


class KernelThread:
    """A kernel with an event loop and a thread of its own: for Flask, Django, scripts, notebooks.

        with KernelThread() as kernel:
            kernel.load(English, placement="process")
            kernel.get(Greeter).greet("Ada")

    Its methods are those of `Kernel`, and block; so do those of its proxies. Any thread may call them. Without `with`,
    call `start()`; the end of the program closes it, if nobody did. `kernel`: what it runs, a plain `Kernel()` unless
    another is given. A server that forks workers starts one in each worker: neither thread nor kernel survive a fork.
    """

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = Kernel() if kernel is None else kernel
        self.loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self.process = 0
        self.thread = threading.Thread(target=self._serve, name=f"{self.kernel.name} kernel", daemon=True)
        self.opened, self.closing = threading.Event(), asyncio.Event()
        self.problem: BaseException | None = None

    def start(self) -> KernelThread:
        """Open the kernel; return when it is. Raises what `Kernel` raises, and Unavailable the second time: it starts
        once, and not again after its end."""
        if self.process:
            raise Unavailable(f"this KernelThread {'runs already' if self.running else self.why_not()}")
        self.process = os.getpid()
        self.thread.start()
        self.opened.wait()
        if self.problem is not None:
            self.thread.join()
            raise self.problem
        atexit.register(self.end_of_program)
        return self

    @property
    def running(self) -> bool:
        """Does it run, in this process?"""
        return self.loop is not None and self.process == os.getpid()

    def close(self) -> None:
        """Stop every plug-in and end the thread; a second time, nothing. Raises RuntimeError on that very thread."""
        if threading.current_thread() is self.thread:
            raise RuntimeError("a KernelThread can't wait for its own end: call close() from another thread")
        atexit.unregister(self.end_of_program)
        loop = self.loop
        if loop is None or not self.running:
            return
        loop.call_soon_threadsafe(self.closing.set)
        self.thread.join()

    def end_of_program(self) -> None:
        """Nobody reads what was left half-read any more: no plug-in is to go on with that until its `drain` is over."""
        if self.process == os.getpid():
            for caller in list(self.kernel.space.thread_callers):
                caller.leave_streams()
        self.close()

    def __enter__(self) -> KernelThread:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    load, unload, restart = waited_for(Kernel.load), waited_for(Kernel.unload), waited_for(Kernel.restart)
    swap, move, scale = waited_for(Kernel.swap), waited_for(Kernel.move), waited_for(Kernel.scale)
    rollback = waited_for(Kernel.rollback)
    ledger, stack = waited_for(Kernel.ledger), waited_for(Kernel.stack)
    grant, revoke, route = waited_for(Kernel.grant), waited_for(Kernel.revoke), waited_for(Kernel.route)

    def get(
        self, interface: type[Wanted], *, plugin: str | None = None, when_full: Literal["refuse", "wait"] = "refuse"
    ) -> Wanted:
        """A blocking proxy, as `kernel.get(interface, blocking=True)`: it follows the plug-in wherever it goes."""

        async def get() -> Wanted:
            return self.kernel.get(interface, plugin=plugin, blocking=True, when_full=when_full)

        return self.run(get())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the kernel's loop and wait for what it returns or raises; Ctrl-C cancels it.

        Raises Unavailable where no kernel runs, and RuntimeError on the kernel's own thread: it can't wait for itself.
        """
        loop = self.loop
        if loop is None or not self.running:
            work.close()
            raise Unavailable(f"this KernelThread {self.why_not()}")
        result: T = result_of(loop, work)
        return result

    def why_not(self) -> str:
        """Why it can't be called."""
        if not self.process:
            return "is not running: call start(), or use it in `with KernelThread() as kernel:`"
        if self.process != os.getpid():
            return "did not come along when this process was forked: start one here, after the fork"
        return "has ended, and does not start again: make another one"

    def _serve(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._run_to_its_end(runner.get_loop())
        except BaseException as error:
            self.problem = error
        finally:
            self.loop = None
            self.opened.set()

    def _run_to_its_end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the kernel. A plug-in that ends the program (`sys.exit`) ends it, and a second one does not cut that
        short: threads wait for what it closes. Raises what the kernel does, or what ended it."""
        running = loop.create_task(self._run_kernel())
        ended_by: BaseException | None = None
        while not running.done():
            try:
                loop.run_until_complete(running)
            except BaseException as error:
                ended_by = ended_by or error
                self.closing.set()
        if ended_by is not None:
            raise ended_by

    async def _run_kernel(self) -> None:
        async with self.kernel:
            self.loop = asyncio.get_running_loop()
            self.opened.set()
            await self.closing.wait()
