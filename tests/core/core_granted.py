"""Plug-ins of the tests of grants: a shelf whose keeper asks what its callers hold, and those who call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from core_samples import blow

from mukernel import Blocking, Interface, PermissionDenied, Plugin, caller_grant


class Shelf(Interface):
    """Things by path. Its keeper tells two rights apart."""

    async def read(self, path: str) -> str: ...
    async def write(self, path: str) -> str: ...
    def read_now(self, path: str) -> str: ...
    def walk(self, path: str) -> AsyncIterator[str]: ...
    def walk_now(self, path: str) -> Iterator[str]: ...
    async def hold(self, whistle: str) -> str: ...
    async def interrupted(self) -> int: ...
    async def held(self) -> str: ...


class Keeper(Plugin, Shelf):
    grant_rights = ("read", "write")

    def __init__(self) -> None:
        self.cut = 0

    def check(self, right: str, path: str) -> None:
        grant = caller_grant(self)
        if grant is not None:
            grant.check(right, path)

    async def read(self, path: str) -> str:
        await asyncio.sleep(0)  # what it was granted is known beyond the first step
        self.check("read", path)
        return f"read {path}"

    async def write(self, path: str) -> str:
        self.check("write", path)
        return f"wrote {path}"

    def read_now(self, path: str) -> str:
        self.check("read", path)
        return f"read {path}"

    async def walk(self, path: str) -> AsyncIterator[str]:
        for name in ("a", "b"):
            self.check("read", f"{path}/{name}")
            yield name

    def walk_now(self, path: str) -> Iterator[str]:
        for name in ("a", "b"):
            self.check("read", f"{path}/{name}")
            yield name

    async def hold(self, whistle: str) -> str:
        blow(whistle, "holding")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cut += 1
            blow(whistle, "cut")
            raise
        return ""

    async def interrupted(self) -> int:
        return self.cut

    async def held(self) -> str:
        return str(caller_grant(self) or "everything")


class Careless(Keeper):
    """Its next version, which looks at nothing."""

    grant_rights = ()

    def check(self, right: str, path: str) -> None:
        pass


@dataclass
class Said:
    """What became of a call."""

    answer: str = ""
    error: str = ""


class Reader(Interface):
    """Calls the shelf from its own process, and says what came of it."""

    async def call(self, method: str, path: str) -> Said: ...
    async def hold(self, whistle: str) -> Said: ...
    async def reach(self, interface: str, plugin: str | None = None) -> Said: ...


async def said(awaitable: object) -> Said:
    try:
        return Said(answer=str(await awaitable))  # type: ignore[misc]
    except Exception as error:
        return Said(error=f"{type(error).__name__}: {error}")


async def all_of(items: AsyncIterator[str]) -> list[str]:
    return [item async for item in items]


class Visitor(Plugin, Reader):
    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    async def call(self, method: str, path: str) -> Said:
        if method == "walk":
            return await said(all_of(self.shelf.walk(path)))
        if method in ("read_now", "walk_now"):
            try:
                answer = getattr(self.shelf, method)(path)
                return Said(answer=answer if method == "read_now" else str(list(answer)))
            except Exception as error:
                return Said(error=f"{type(error).__name__}: {error}")
        if method == "held":
            return await said(self.shelf.held())
        return await said(getattr(self.shelf, method)(path))

    async def hold(self, whistle: str) -> Said:
        return await said(self.shelf.hold(whistle))

    async def reach(self, interface: str, plugin: str | None = None) -> Said:
        """As a hostile plug-in would: ask the kernel by the host's own link for what its constructor never named."""
        import gc

        from mukernel.core.space import Space

        (space,) = [each for each in gc.get_objects() if isinstance(each, Space) and each.instances]
        wanted = {"Shelf": Shelf, "Reader": Reader, "Cellar": Cellar}[interface]
        return await said(space.get(wanted, plugin))


class Bouncer(Visitor):
    """Lets itself not in."""

    def __init__(self) -> None:
        raise PermissionDenied("not in these shoes")


class Guest(Visitor):
    """Can do without the shelf."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.there = shelf is not None
        if shelf is not None:
            self.shelf = shelf

    async def call(self, method: str, path: str) -> Said:
        return await super().call(method, path) if self.there else Said(error="no shelf")


class ThreadVisitor(Plugin, Reader):
    """Calls it in threads that block."""

    def __init__(self, shelf: Blocking[Shelf]) -> None:
        self.shelf = shelf

    def call(self, method: str, path: str) -> Said:
        try:
            return Said(answer=str(getattr(self.shelf, method)(path)))
        except Exception as error:
            return Said(error=f"{type(error).__name__}: {error}")

    def hold(self, whistle: str) -> Said:
        return self.call("hold", whistle)

    async def reach(self, interface: str, plugin: str | None = None) -> Said:
        return Said()


class Cellar(Interface):
    async def look(self) -> str: ...


class CellarKeeper(Plugin, Cellar):
    async def look(self) -> str:
        return "dark"
