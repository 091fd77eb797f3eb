"""Plug-ins whose calls are brokered."""

import asyncio
import os
import signal
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mukernel import Buffer, Interface, Plugin, idempotent, oneway, raises


@dataclass
class Order:
    article: str
    at: datetime
    pieces: int = 1


class Refused(Exception):
    """Declared, with attributes of its own."""

    def __init__(self, article: str) -> None:
        super().__init__(article)
        self.article = article


class Bills(Interface, version="1.0"):
    """Each call leaves a line in a file."""

    @oneway
    async def note(self, text: str, *, loud: bool = False) -> None:
        raise NotImplementedError

    @idempotent
    @raises(Refused)
    async def bill(self, order: Order, discount: int = 0) -> str:
        raise NotImplementedError

    @idempotent
    async def size(self, data: Buffer) -> int:
        raise NotImplementedError

    @idempotent
    async def scaled(self, values: NDArray[np.float64], factor: float = 2.0) -> NDArray[np.float64]:
        raise NotImplementedError


class Billing(Plugin, Bills):
    def __init__(self, *, file: str, hold: str = "") -> None:
        self.file, self.hold = Path(file), hold

    async def write(self, line: str) -> None:
        with self.file.open("a") as file:
            file.write(line + "\n")

    async def note(self, text: str, *, loud: bool = False) -> None:
        await self.write(f"{text}!" if loud else text)
        if text.startswith("die") and self.file.read_text().count(text) <= int(text.split()[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        if text.startswith("fail"):
            raise ValueError("it can't be noted")
        while self.hold and os.path.exists(self.hold):  # noqa: ASYNC110 - another process removes it
            await asyncio.sleep(0)

    async def bill(self, order: Order, discount: int = 0) -> str:
        if order.article == "nothing":
            raise Refused(order.article)
        if order.article == "error":
            raise ValueError("no such article")
        await self.write(f"billed {order.article} {order.pieces} {order.at.isoformat()} {discount}")
        return f"{order.article}: {order.pieces - discount}"

    async def size(self, data: Buffer) -> int:
        return len(data)

    async def scaled(self, values: NDArray[np.float64], factor: float = 2.0) -> NDArray[np.float64]:
        return values * factor


class Shop(Interface):
    async def sell(self, text: str) -> str:
        raise NotImplementedError


class Seller(Plugin, Shop):
    """A caller that knows nothing of brokers."""

    def __init__(self, bills: Bills) -> None:
        self.bills = bills

    async def sell(self, text: str) -> str:
        await self.bills.note(text)
        return repr(self.bills)


class Unfit(Interface):
    @idempotent
    async def fine(self) -> int:
        raise NotImplementedError

    async def once(self) -> int:
        raise NotImplementedError


class UnfitPlugin(Plugin, Unfit):
    async def fine(self) -> int:
        return 1

    async def once(self) -> int:
        return 2


class Jobs(Interface):
    @oneway
    async def run(self, job: str) -> None:
        raise NotImplementedError


class Worker(Plugin, Jobs):
    """Each job that is run to its end leaves a line in a file; "poison" takes the process, and what runs beside it."""

    def __init__(self, *, file: str) -> None:
        self.file = Path(file)

    async def run(self, job: str) -> None:
        if job == "poison":
            await asyncio.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.05)
        with self.file.open("a") as file:
            file.write(job + "\n")


class Routed(Interface):
    @idempotent
    async def old(self) -> str:
        raise NotImplementedError


class Routing(Plugin, Routed):
    async def old(self) -> str:
        return "old"


class NextRouted(Interface, name="Routed", version="1.1"):
    @idempotent
    async def old(self) -> str:
        raise NotImplementedError

    @idempotent
    async def added(self) -> str:
        raise NotImplementedError


class NextRouting(Plugin, NextRouted):
    async def old(self) -> str:
        return "older"

    async def added(self) -> str:
        return "added"


class UnfitRouted(Interface, name="Routed", version="1.2"):
    @idempotent
    async def old(self) -> str:
        raise NotImplementedError

    @idempotent
    async def added(self) -> str:
        raise NotImplementedError

    async def once(self) -> str:
        raise NotImplementedError


class UnfitRouting(Plugin, UnfitRouted):
    async def old(self) -> str:
        return "oldest"

    async def added(self) -> str:
        return "added"

    async def once(self) -> str:
        return "once"
