"""Plug-ins that are written as few are, and must work all the same."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mukernel import Interface, Plugin


class Names(Interface):
    """Methods with names that a framework might use itself."""

    async def route(self, to: str) -> str: ...
    async def blocking(self) -> bool: ...
    async def threads(self) -> list[str]: ...
    async def plugin(self) -> str: ...


class Named(Plugin, Names):
    async def route(self, to: str) -> str:
        return f"to {to}"

    async def blocking(self) -> bool:
        return True

    async def threads(self) -> list[str]:
        return ["warp", "weft"]

    async def plugin(self) -> str:
        return "named"


class Setting(Interface):
    async def value(self) -> int: ...


@dataclass
class Open(Plugin, Setting):
    number: int = 1

    async def value(self) -> int:
        return self.number


@dataclass(frozen=True)
class Frozen(Plugin, Setting):
    number: int = 1

    async def value(self) -> int:
        return self.number


@dataclass(frozen=True, slots=True)
class FrozenSlots(Plugin, Setting):
    number: int = 1

    async def value(self) -> int:
        return self.number

    def save(self) -> int:
        return self.number


class Slots(Plugin, Setting):
    __slots__ = ("number",)

    def __init__(self, number: int = 1) -> None:
        self.number = number

    async def value(self) -> int:
        await self.checkpoint()
        return self.number

    def save(self) -> int:
        return self.number


class Early(Plugin, Setting):
    """Its state is the process in which it was started first, and it says so before it is called."""

    async def start(self) -> None:
        self.number = os.getpid()
        await self.checkpoint()

    async def value(self) -> int:
        return self.number

    def save(self) -> int:
        return self.number

    def restore(self, number: int) -> None:
        self.number = number


class Closed(Plugin, Setting):
    """Lets nobody set an attribute."""

    def __init__(self, number: int = 1) -> None:
        self.__dict__["number"] = number

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(f"{name} can't be set")

    async def value(self) -> int:
        return int(self.number)
