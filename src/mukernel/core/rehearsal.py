"""What the fork server builds to warm itself (see `warm`): an interface with a method of each kind, and a
plug-in that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mukernel.contract import Interface, Plugin, idempotent


class Rehearsed(Interface):
    """An interface."""

    @idempotent
    async def call(self, text: str, count: int = 0) -> list[str]:
        raise NotImplementedError

    async def echo(self, data: bytes) -> bytes:
        raise NotImplementedError

    def plain(self, data: bytes) -> bytes:
        raise NotImplementedError

    def stream(self, upto: int) -> AsyncIterator[dict[str, int]]:
        raise NotImplementedError


class Rehearsal(Plugin, Rehearsed):
    """Serves it."""

    def __init__(self, *, setting: int = 1) -> None:
        self.setting = setting

    async def call(self, text: str, count: int = 0) -> list[str]:
        return [text] * count

    async def echo(self, data: bytes) -> bytes:
        return data

    def plain(self, data: bytes) -> bytes:
        return data

    async def stream(self, upto: int) -> AsyncIterator[dict[str, int]]:
        for number in range(upto):
            yield {"number": number}

    def save(self) -> int:
        return self.setting

    def restore(self, setting: int) -> None:
        self.setting = setting
