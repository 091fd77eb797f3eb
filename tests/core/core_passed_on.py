"""Plug-ins of the tests of narrowing: one that passes on a part of what it holds, and one that is given it."""

from __future__ import annotations

from typing import Any

from core_granted import Cellar, Said, Shelf, all_of, said

from mukernel import Interface, Plugin, narrow, redeem


class Worker(Interface):
    """Is granted nothing, and works with what it is given."""

    async def use(self, token: str, method: str, path: str) -> Said: ...
    async def keep(self, token: str, wrong: bool = False) -> Said: ...
    async def use_kept(self, method: str, path: str) -> Said: ...
    async def let_go(self) -> None: ...
    async def narrower(self, part: str) -> Said: ...


class Giver(Interface):
    async def redeem(self, token: str) -> Said: ...
    async def give(self, part: str) -> Said: ...
    async def delegate(self, part: str, method: str, path: str) -> Said: ...


class Hand(Plugin, Worker):
    def __init__(self) -> None:
        self.kept: Any = None

    async def call(self, shelf: Shelf, method: str, path: str) -> Said:
        if method == "walk":
            return await said(all_of(shelf.walk(path)))
        if method == "read_now":
            try:
                return Said(shelf.read_now(path))
            except Exception as error:
                return Said(error=f"{type(error).__name__}: {error}")
        return await said(getattr(shelf, method)(path))

    async def use(self, token: str, method: str, path: str) -> Said:
        try:
            shelf = await redeem(self, token, Shelf)
        except Exception as error:
            return Said(error=f"{type(error).__name__}: {error}")
        return await self.call(shelf, method, path)

    async def keep(self, token: str, wrong: bool = False) -> Said:
        try:
            self.kept = await redeem(self, token, Cellar if wrong else Shelf)  # type: ignore[type-abstract]
        except Exception as error:
            return Said(error=f"{type(error).__name__}: {error}")
        return Said("kept")

    async def use_kept(self, method: str, path: str) -> Said:
        return await self.call(self.kept, method, path)

    async def let_go(self) -> None:
        self.kept = None

    async def narrower(self, part: str) -> Said:
        return await said(narrow(self, self.kept, part))


class Master(Plugin, Giver):
    def __init__(self, shelf: Shelf, worker: Worker) -> None:
        self.shelf, self.worker = shelf, worker

    async def redeem(self, token: str) -> Said:
        return await said(redeem(self, token, Shelf))

    async def give(self, part: str) -> Said:
        return await said(narrow(self, self.shelf, part))

    async def delegate(self, part: str, method: str, path: str) -> Said:
        return await self.worker.use(await narrow(self, self.shelf, part), method, path)
