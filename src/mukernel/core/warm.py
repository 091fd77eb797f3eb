"""Importing this rehearses the life of an instance once, in the fork server.

What that fills on its first run (type information, codecs, specialised bytecode) is then there before the fork: every
process starts faster, and shares those pages instead of copying them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ..contract import Description, Interface, Plugin, idempotent
from ..kernel.clock import Clock
from . import host, messages
from .messages import Blueprint, Envelope, Source
from .space import Grant, Space

REHEARSALS = 3  # bytecode is specialised after a few runs


class Rehearsed(Interface):
    """An interface with a method of each kind."""

    @idempotent
    async def call(self, text: str, count: int = 0) -> list[str]:
        return []

    def plain(self, data: bytes) -> bytes:
        return data

    def stream(self, upto: int) -> AsyncIterator[dict[str, int]]:
        raise NotImplementedError


class Rehearsal(Plugin, Rehearsed):
    """Serves it."""

    def __init__(self, *, setting: int = 1) -> None:
        self.setting = setting

    async def call(self, text: str, count: int = 0) -> list[str]:
        return [text] * count

    def plain(self, data: bytes) -> bytes:
        return data

    async def stream(self, upto: int) -> AsyncIterator[dict[str, int]]:
        for number in range(upto):
            yield {"number": number}

    def save(self) -> int:
        return self.setting

    def restore(self, setting: int) -> None:
        self.setting = setting


class Nobody:
    """A directory in which nothing is found."""

    async def connect(self, interface: Description, plugin: str | None, bell: int, space: str) -> Grant:
        raise LookupError

    def connect_now(self, interface: Description, plugin: str | None, bell: int, space: str, turn: int) -> Grant:
        raise LookupError

    def disconnect(self, channel: int) -> None: ...


async def rehearse(loop: asyncio.AbstractEventLoop) -> None:
    space = Space("rehearsal", Nobody(), Clock(), loop)
    source = Source(__name__, "Rehearsal")
    blueprint = Blueprint("rehearsal#0.1", "rehearsal", source, {"setting": 2})
    build: Any = messages.decode(messages.encode(Envelope(1, False, messages.Build(blueprint)))).content
    instance = await space.build(build.blueprint)
    messages.decode(messages.encode(Envelope(1, True, instance.describe())))
    quiesced = await space.quiesce(blueprint.key, 1.0, True)
    await space.activate(blueprint.key, quiesced.state, 1, False)
    await space.stop(blueprint.key)
    space.close()


def main() -> None:
    for _ in range(REHEARSALS):
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(rehearse(loop))
        finally:
            loop.close()


main()
__all__ = ["host"]
