"""A plug-in whose streams have no end is told when it is to be replaced, and ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from mukernel import ContractError, Interface, Plugin, SwapFailed
from mukernel.testing import TestKernel


class Ticking(Interface):
    def ticks(self) -> AsyncIterator[int]:
        """Without an end."""
        raise NotImplementedError


class Endless(Plugin, Ticking):
    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.leaving = False

    async def ticks(self) -> AsyncIterator[int]:
        yield 1
        while not self.leaving:
            await self.changed.wait()

    async def stop(self) -> None:
        """There is something to stop, so inline streams are counted."""


class Ending(Endless):
    def draining(self) -> None:
        self.leaving = True
        self.changed.set()


class Failing(Ending):
    def draining(self) -> None:
        super().draining()
        raise ValueError("no")


@pytest.mark.parametrize("placement", ["inline", "process"])
@pytest.mark.parametrize("kind", [Ending, Failing])
def test_it_ends_its_streams(kind: type[Endless], placement: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(kind, name="ticking", placement=placement)
        ticks = kernel.get(Ticking).ticks()
        assert await anext(ticks) == 1
        ended = asyncio.ensure_future(anext(ticks, "ended"))  # type: ignore[call-overload]
        await kernel.clock.sleep(0.01)
        began = kernel.clock.now()
        report = await kernel.restart("ticking")
        assert not report.rolled_back
        assert kernel.clock.now() < began + 1
        assert await ended == "ended"

    with caplog.at_level(logging.ERROR):
        TestKernel().run(main)
    assert ("its draining failed" in caplog.text) is (kind is Failing)


def test_one_that_does_not_is_not_replaced() -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Endless, name="ticking", placement="process", drain=5.0)
        ticks = kernel.get(Ticking).ticks()
        assert await anext(ticks) == 1
        with pytest.raises(SwapFailed, match=r"still running: Ticking\.ticks"):
            await kernel.restart("ticking")

    TestKernel().run(main)


class Turning(Interface):
    async def turns(self, count: int) -> int: ...


class Turns(Plugin, Turning):
    async def turns(self, count: int) -> int:
        for _ in range(count):
            await asyncio.sleep(0)
        return count


def test_what_ends_as_the_time_for_it_does_is_not_what_a_swap_fails_for() -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Turns, name="turns", placement="process")
        turning, reasons = kernel.get(Turning), list[str]()
        for count in range(40):
            call = asyncio.ensure_future(turning.turns(count))
            try:
                await kernel.swap("turns", Turns, drain=0)
            except SwapFailed as failed:
                reasons.append(str(failed))
            assert await call == count
        assert 0 < len(reasons) < 40
        assert all("after 0 s 1 calls were still running: Turning.turns" in each for each in reasons)

    TestKernel().run(main)


def test_an_interface_can_not_have_a_method_of_that_name() -> None:
    with pytest.raises(ContractError, match="draining"):

        class Bad(Interface):
            async def draining(self) -> None: ...

        _ = Bad.__contract__
