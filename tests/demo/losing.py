"""Runs the demo with a search that loses calls, in the way that is named first; the folder follows."""

from __future__ import annotations

import asyncio
import sys

from mukernel.demo import scene
from mukernel.demo.interfaces import Hit
from mukernel.demo.search import CodeSearch
from mukernel.demo.stage import Setting

OFTEN = 3  # every so many calls one is lost: the last replicas may be asked little more where a machine is slow


class Losing(CodeSearch):
    """Counts its calls, to lose some of them."""

    calls = 0

    def loses(self) -> bool:
        self.calls += 1
        return self.calls % OFTEN == 0


class Wrong(Losing):
    async def search(self, query: str, limit: int = 10) -> list[Hit]:
        hits = await super().search(query, limit)
        return hits[1:] if self.loses() else hits


class Raising(Losing):
    async def search(self, query: str, limit: int = 10) -> list[Hit]:
        if self.loses():
            raise LookupError("no such page")
        return await super().search(query, limit)


class Hanging(Losing):
    async def search(self, query: str, limit: int = 10) -> list[Hit]:
        if self.loses():
            await asyncio.Event().wait()
        return await super().search(query, limit)


if __name__ == "__main__":
    way = {"wrong": Wrong, "raising": Raising, "hanging": Hanging}[sys.argv[1]]
    sys.exit(scene.run(Setting(folder=sys.argv[2], seconds=2.0, patience=3.0, search=way), json=True))
