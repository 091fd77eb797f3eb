"""Versions of one plug-in that take checkpoints, at moments at which these are worth something and at others."""

import asyncio
import os
from pathlib import Path

from core_samples import blow

from mukernel import Interface, Plugin, idempotent


async def there(file: Path) -> None:
    while not file.exists():  # noqa: ASYNC110 - nothing tells when it comes
        await asyncio.sleep(0.001)


class Till(Interface):
    async def book(self, amount: int) -> int:
        """What it holds then, of which it has taken a checkpoint."""

    async def put(self, amount: int) -> int:
        """The same without a checkpoint."""

    @idempotent
    async def total(self) -> int: ...
    @idempotent
    async def where(self) -> int: ...
    async def hold(self, whistle: str, end: str) -> None:
        """Until there is a file `end`."""


class Stateless(Plugin, Till):
    """Has nothing to hand over."""

    def __init__(self, *, folder: str = "") -> None:
        self.held, self.folder = 0, Path(folder)

    async def book(self, amount: int) -> int:
        await self.put(amount)
        await self.checkpoint()
        return self.held

    async def put(self, amount: int) -> int:
        self.held += amount
        return self.held

    async def total(self) -> int:
        return self.held

    async def where(self) -> int:
        return os.getpid()

    async def hold(self, whistle: str, end: str) -> None:
        blow(whistle, "holding")
        await there(Path(end))


class First(Stateless):
    """Reads any version's state."""

    state_version = 1

    def save(self) -> int:
        return self.held

    async def restore(self, state: int, version: int) -> None:
        self.held = state


class Strict(First):
    """Reads its own state only."""

    async def restore(self, state: int) -> None:  # type: ignore[override]
        self.held = state


class Second(First):
    """Of the version before it reads the state, too."""

    state_version = 2

    async def restore(self, state: int, version: int) -> None:
        assert version in (self.state_version - 1, self.state_version)
        self.held = state


class Third(Second):
    state_version = 3


class Rash(Second):
    """Takes a checkpoint of what it has taken over, and finds then that it can't serve it."""

    async def restore(self, state: int, version: int) -> None:
        await super().restore(state, version)
        await self.checkpoint()
        raise ValueError("the books do not balance")


class Eager(Second):
    """Takes a checkpoint when it starts, and another, of nothing yet, when there is a file `now`."""

    async def start(self) -> None:
        await self.checkpoint()
        self.task = asyncio.create_task(self.wait())

    async def wait(self) -> None:
        await there(self.folder / "now")
        await self.checkpoint()
        blow(str(self.folder / "whistle"), "saved")


class Alone(Second):
    """Takes a checkpoint when it starts. Only the first of all that take over can."""

    async def start(self) -> None:
        await self.checkpoint()

    async def restore(self, state: int, version: int) -> None:
        await super().restore(state, version)
        (self.folder / "taken").touch(exist_ok=False)


class Counted(First):
    """How often its state was saved, of all in this process."""

    saves = 0

    def save(self) -> int:
        Counted.saves += 1
        return self.held
