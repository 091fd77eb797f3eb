"""Plug-ins that use the event server, imported by name in other processes."""

from __future__ import annotations

import asyncio
import os

from mukernel import Interface, Plugin
from mukernel.servers.events import EventClient, Events


class Holding(Interface):
    """Takes events and never settles them."""

    async def held(self, at_least: int) -> list[int]:
        """Offsets that came, when there are so many."""
        raise NotImplementedError

    async def pid(self) -> int:
        raise NotImplementedError


class Holder(Plugin, Holding):
    def __init__(self, events: Events, *, group: str) -> None:
        self.client, self.group = EventClient(events), group
        self.offsets: list[int] = []
        self.more = asyncio.Event()

    async def start(self) -> None:
        self.task = asyncio.create_task(self.hold())

    async def stop(self) -> None:
        self.task.cancel()

    async def hold(self) -> None:
        async for event in self.client.subscribe("orders.>", group=self.group, start="first", ack_wait=3600):
            self.offsets.append(event.offset)
            self.more.set()

    async def held(self, at_least: int) -> list[int]:
        while len(self.offsets) < at_least:
            self.more.clear()
            await self.more.wait()
        return self.offsets

    async def pid(self) -> int:
        return os.getpid()
