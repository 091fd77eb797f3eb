"""Plug-ins that are written as few are, and must work all the same."""

from __future__ import annotations

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
