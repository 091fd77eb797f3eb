"""Plug-ins that call others, and stop answering the kernel: they are killed, stopped, or keep their event loop."""

from __future__ import annotations

import asyncio
import os
import signal

from core_samples import blow

from mukernel import Interface, Plugin, idempotent
from mukernel.core.host import Host


class Served(Interface):
    @idempotent
    async def pid(self) -> int: ...
    async def large(self, size: int) -> str: ...


class Caller(Interface):
    async def pid(self) -> int: ...
    async def ask(self) -> int: ...
    async def ask_later(self, calls: int) -> list[str]: ...
    async def ask_before(self, calls: int, size: int) -> list[str]: ...
    async def never(self, whistle: str) -> None: ...


class Serves(Plugin, Served):
    """`stop` leaves a file."""

    def __init__(self, *, stopped: str = "") -> None:
        self.stopped = stopped

    async def pid(self) -> int:
        return os.getpid()

    async def large(self, size: int) -> str:
        return "x" * size

    def stop(self) -> None:
        if self.stopped:
            with open(self.stopped, "w"):
                pass


class Calls(Plugin, Caller):
    def __init__(self, served: Served) -> None:
        self.served = served

    async def pid(self) -> int:
        return os.getpid()

    async def ask(self) -> int:
        return await self.served.pid()

    async def ask_later(self, calls: int) -> list[str]:
        """Stop this very process. The first thing that it does when it is let go on is to call, so often; returns what
        it was answered: a process, or an error."""
        os.kill(os.getpid(), signal.SIGSTOP)
        calling = [asyncio.create_task(self.served.pid()) for _ in range(calls)]
        return [str(each) for each in await asyncio.gather(*calling, return_exceptions=True)]

    async def ask_before(self, calls: int, size: int) -> list[str]:
        """Call so often, and then stop this very process, with the replies unread; returns what they were."""
        calling = [asyncio.create_task(self.served.large(size)) for _ in range(calls)]
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGSTOP)
        return [str(each)[:60] for each in await asyncio.gather(*calling, return_exceptions=True)]

    async def never(self, whistle: str) -> None:
        """Keep the event loop for ever."""
        blow(whistle)
        while True:
            signal.pause()


class CannotFollow(Calls):
    """Its process answers with an error when it is told where to call."""

    def start(self) -> None:
        async def rerouted(host: Host, message: object) -> None:
            raise OSError(24, "too many open files")

        Host.rerouted = rerouted  # type: ignore[method-assign,assignment]
