"""Plug-ins that tell what they inherit."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from decimal import Decimal, getcontext

from mukernel import Interface, Plugin, deadline, priority
from mukernel.transports.calling import BURST_NS
from mukernel.transports.context import current

left_behind: ContextVar[str] = ContextVar("left_behind", default="")


def inherited() -> str:
    """What a call has that nobody gave it."""
    context = current.get()
    return left_behind.get() + ("" if context is None else f"{bool(context.deadline)} {context.priority}")


class Inheritance(Interface):
    async def slow(self, turns: int) -> str:
        raise NotImplementedError

    async def quick(self) -> str:
        raise NotImplementedError

    def blocking(self) -> str:
        raise NotImplementedError

    async def busy(self) -> str:
        raise NotImplementedError

    async def until_busy(self) -> str:
        raise NotImplementedError


class Heir(Plugin, Inheritance):
    def __init__(self) -> None:
        self.was_busy = asyncio.Event()

    def busy(self) -> str:  # type: ignore[override]
        """For longer than a server lets others wait: what is behind it is left for a later turn of the loop."""
        ends = time.perf_counter() + 2 * BURST_NS / 1e9
        while time.perf_counter() < ends:
            pass
        self.was_busy.set()
        return inherited()

    async def until_busy(self) -> str:
        await self.was_busy.wait()
        return inherited()

    async def slow(self, turns: int) -> str:
        """It leaves a context variable of its own behind."""
        found = inherited()
        left_behind.set("left behind")
        for _ in range(turns):
            await asyncio.sleep(0)
        return found

    async def quick(self) -> str:
        return inherited()

    def blocking(self) -> str:
        """It leaves a context variable of its own behind, too."""
        found = inherited()
        left_behind.set("left behind")
        return found


class Asking(Interface):
    async def ask(self) -> list[str]:
        raise NotImplementedError


class Asker(Plugin, Asking):
    def __init__(self, heir: Inheritance) -> None:
        self.heir = heir

    async def ask(self) -> list[str]:
        return [inherited(), await self.heir.quick()]


class Batching(Interface):
    async def write(self, line: str) -> None: ...
    async def written(self) -> list[str]: ...


class Batcher(Plugin, Batching):
    """What is written is asked about by a worker, which whoever writes first happens to start."""

    def __init__(self, heir: Inheritance) -> None:
        self.heir, self.worker = heir, None
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.done: list[str] = []
        self.asked = asyncio.Event()

    async def write(self, line: str) -> None:
        if self.worker is None:
            self.worker = asyncio.create_task(self.work())
        self.lines.put_nowait(line)

    async def work(self) -> None:
        while True:
            line = await self.lines.get()
            if line == "before":
                continue
            self.done.append(line + inherited() + await self.heir.quick())
            self.asked.set()

    async def written(self) -> list[str]:
        await self.asked.wait()
        return self.done


class Pricing(Interface):
    async def price(self) -> str:
        raise NotImplementedError

    def now(self) -> str:
        raise NotImplementedError

    def prices(self) -> AsyncIterator[str]:
        raise NotImplementedError


class Prices(Plugin, Pricing):
    """Their precision is set where the library says that it is to be: once, at the start."""

    def __init__(self) -> None:
        getcontext().prec = 7

    async def start(self) -> None:
        left_behind.set("started")

    def now(self) -> str:
        return f"{Decimal(1) / 3} {left_behind.get()}"

    async def price(self) -> str:
        return self.now()

    async def prices(self) -> AsyncIterator[str]:
        yield self.now()


class Workers(Interface):
    async def begin(self) -> None:
        raise NotImplementedError

    async def results(self) -> list[str]:
        raise NotImplementedError


class Worker(Plugin, Workers):
    """Its worker, which the first caller happens to start, sets a priority and a deadline of its own, once for all."""

    def __init__(self, heir: Inheritance) -> None:
        self.heir, self.task, self.go, self.found = heir, None, asyncio.Event(), asyncio.Queue()

    async def begin(self) -> None:
        if self.task is None:
            self.task = asyncio.create_task(self.work())
            await asyncio.sleep(0)  # so that it begins within this call

    async def work(self) -> None:
        with priority(-10), deadline(3600):
            while True:
                await self.go.wait()
                self.found.put_nowait(await self.heir.quick())
                self.go.clear()

    async def results(self) -> list[str]:
        self.go.set()
        return [await self.found.get()]
