"""Plug-ins that call others, and stop answering the kernel: they are killed, stopped, or keep their event loop."""

from __future__ import annotations

import asyncio
import os
import signal

from mukernel import Interface, Plugin, idempotent
from mukernel.core.host import Host


class Served(Interface):
    @idempotent
    async def pid(self) -> int: ...
    async def slowly(self, file: str) -> int: ...


class Caller(Interface):
    async def pid(self) -> int: ...
    async def ask(self) -> int: ...
    async def ask_later(self, calls: int) -> None: ...
    async def answers(self) -> list[str]: ...
    async def never(self) -> None: ...


class Serves(Plugin, Served):
    """`stop` leaves a file."""

    def __init__(self, *, stopped: str = "") -> None:
        self.stopped = stopped

    async def pid(self) -> int:
        return os.getpid()

    async def slowly(self, file: str) -> int:
        while not os.path.exists(file):  # noqa: ASYNC110 - nothing tells when it is there
            await asyncio.sleep(0.001)
        return os.getpid()

    def stop(self) -> None:
        if self.stopped:
            with open(self.stopped, "w"):
                pass


class Calls(Plugin, Caller):
    def __init__(self, served: Served) -> None:
        self.served = served
        self.calls: list[asyncio.Task[int]] = []

    async def pid(self) -> int:
        return os.getpid()

    async def ask(self) -> int:
        return await self.served.pid()

    async def ask_later(self, calls: int) -> None:
        """Stop this very process; when it is let go on, the first thing that it does is to call."""
        os.kill(os.getpid(), signal.SIGSTOP)
        self.calls = [asyncio.create_task(self.served.pid()) for _ in range(calls)]

    async def answers(self) -> list[str]:
        """What those calls were answered: a process, or an error."""
        found = await asyncio.gather(*self.calls, return_exceptions=True)
        return [each if isinstance(each, str) else str(each) for each in found]

    async def never(self) -> None:
        """It keeps its event loop, and is not to be told apart from what computes for long."""
        while True:
            signal.pause()


class CannotFollow(Calls):
    """Its process answers with an error when it is told where to call."""

    def start(self) -> None:
        async def rerouted(host: Host, message: object) -> None:
            raise OSError(24, "too many open files")

        Host.rerouted = rerouted  # type: ignore[method-assign,assignment]
