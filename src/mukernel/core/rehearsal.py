"""What the fork server builds to warm itself (see `warm`): an interface with methods and types of each kind, and
a plug-in that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from mukernel.contract import Interface, Plugin, idempotent


@dataclass
class Line:
    """What travels."""

    text: str
    weight: float = 1.0


class Rehearsed(Interface):
    """An interface."""

    @idempotent
    async def find(self, text: str, limit: int = 10) -> list[Line]:
        raise NotImplementedError

    async def note(self, line: Line, tags: dict[str, str] | None = None) -> None:
        raise NotImplementedError

    def plain(self, data: bytes) -> bytes:
        raise NotImplementedError

    def stream(self, upto: int) -> AsyncIterator[Line]:
        raise NotImplementedError


class Rehearsal(Plugin, Rehearsed):
    """Serves it."""

    def __init__(self, *, setting: int = 1) -> None:
        self.setting = setting

    async def find(self, text: str, limit: int = 10) -> list[Line]:
        return [Line(text)] * limit

    async def note(self, line: Line, tags: dict[str, str] | None = None) -> None:
        self.setting += 1

    def plain(self, data: bytes) -> bytes:
        return data

    async def stream(self, upto: int) -> AsyncIterator[Line]:
        for number in range(upto):
            yield Line(str(number))

    def save(self) -> int:
        return self.setting

    def restore(self, setting: int) -> None:
        self.setting = setting
