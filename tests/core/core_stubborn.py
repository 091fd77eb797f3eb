"""Plug-ins that don't end what they are told to end, and processes that leave unanswered what they are told to do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from mukernel import Interface, Plugin


class Naming(Interface):
    async def name(self) -> str: ...


async def heedless() -> None:
    """Takes no cancellation, as code with `except:` around an `await` in a loop does."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()


async def deaf() -> None:
    """Takes nothing at all."""
    while True:
        with suppress(BaseException):
            await asyncio.get_running_loop().create_future()


class Named(Plugin, Naming):
    """`waits`: the hook that never returns; `how`: what it does then."""

    def __init__(self, *, waits: str = "", how: str = "heedless") -> None:
        self.waits, self.how = waits, {"heedless": heedless, "deaf": deaf}[how]

    async def wait(self, hook: str) -> None:
        if hook == self.waits:
            await self.how()

    async def name(self) -> str:
        return f"waits in {self.waits or 'nothing'}"

    async def start(self) -> None:
        await self.wait("start")

    async def health(self) -> None:
        await self.wait("health")

    async def save(self) -> int:
        await self.wait("save")
        return 1

    async def restore(self, state: int) -> None:
        await self.wait("restore")

    async def stop(self) -> None:
        await self.wait("stop")


class Calling(Interface):
    async def call(self) -> str: ...


class Caller(Plugin, Calling):
    def __init__(self, naming: Naming) -> None:
        self.naming = naming

    async def call(self) -> str:
        return await self.naming.name()


def leave_unanswered(place: Any, *commands: str) -> Any:
    """A simulated process answers every question of the kernel's but these, from now on; returns it."""
    conversation = place.process.host.conversation
    answer = conversation.handler

    async def handle(message: Any, rights: list[int]) -> Any:
        if type(message).__name__ in commands:
            await asyncio.get_running_loop().create_future()
        return await answer(message, rights)

    conversation.handler = handle
    return place


def place_of(kernel: Any, plugin: str) -> Any:
    instance = kernel.registry.entry(plugin).replicas[0].instance
    assert instance is not None
    return instance.place
