"""A plug-in that is swapped while its calls wait for calls that come back to it: nothing is lost, and the cause is
told."""

import asyncio
from typing import Any

import pytest
from core_samples import blow

from mukernel import Interface, Kernel, Plugin, SwapFailed


class Echo(Interface):
    async def sound(self, whistle: str) -> str: ...
    async def back(self) -> str: ...


class Wall(Interface):
    async def reflect(self, whistle: str) -> str: ...
    async def go_on(self) -> None: ...


class Caller(Plugin, Echo):
    """Its calls are counted inline, too, since it has a state; and it tells when it starts none any more."""

    def __init__(self, wall: Wall | None = None) -> None:
        self.wall = wall
        self.whistle = ""

    def draining(self) -> None:
        blow(self.whistle)

    async def sound(self, whistle: str) -> str:
        assert self.wall is not None
        self.whistle = whistle
        return await self.wall.reflect(whistle)

    async def back(self) -> str:
        return "back"

    def save(self) -> None: ...

    def restore(self, state: None) -> None: ...


class Reflecting(Plugin, Wall):
    def __init__(self, echo: Echo) -> None:
        self.echo = echo
        self.may = asyncio.Event()

    async def reflect(self, whistle: str) -> str:
        blow(whistle)
        await self.may.wait()
        return await self.echo.back()

    async def go_on(self) -> None:
        self.may.set()


@pytest.mark.parametrize("placement", ["process", "process:both", "inline"])
async def test_a_swap_under_calls_that_come_back_says_what_they_may_wait_for(
    kernel: Kernel, whistle: Any, placement: str
) -> None:
    await kernel.load(Caller, placement=placement, drain=1.0)
    await kernel.load(Reflecting, placement=placement)
    await kernel.restart("caller")  # now there is a wall
    call = asyncio.create_task(kernel.get(Echo).sound(whistle.path))
    await whistle.heard()
    swap = asyncio.create_task(kernel.swap("caller", Caller))
    await whistle.heard()
    await kernel.get(Wall).go_on()
    hint = r"1 calls were still running.*\. 1 calls waited meanwhile.*by way of a plug-in that calls 'caller' back"
    with pytest.raises(SwapFailed, match=hint) as failed:
        await swap
    assert 1.0 <= failed.value.report.pause <= failed.value.report.total  # type: ignore[attr-defined]
    assert await call == "back"
    assert (await kernel.ledger("caller")).lost == 0
