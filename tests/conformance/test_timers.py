"""A timer that a call sets is heard in time, though the process has nothing else to wake it up."""

from __future__ import annotations

import asyncio

import pytest

from mukernel import Interface, Kernel, Plugin, deadline
from mukernel.transports.carriers import SETTING, available


class Sleeping(Interface):
    async def quick(self, number: int) -> int: ...  # type: ignore[empty-body]
    async def sleeps(self, seconds: float) -> int: ...  # type: ignore[empty-body]
    async def gives_up(self, seconds: float) -> int: ...  # type: ignore[empty-body]


class Sleeper(Plugin, Sleeping):
    async def quick(self, number: int) -> int:
        return number

    async def sleeps(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return 1

    async def gives_up(self, seconds: float) -> int:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            return 2
        return 0


@pytest.mark.parametrize("transport", ["", *(each for each in ("ring", "socket") if each in available())])
async def test_a_timer_is_heard_though_calls_came_just_before(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop has chosen how long to wait for the system before calls come in by a ring, which it looks at then;
    a timer of theirs may be due earlier than that. Without heartbeats nothing else would wake it."""
    if transport:
        monkeypatch.setenv(SETTING, transport)
    placement = "process" if transport else "inline"
    async with Kernel(heartbeat=0) as kernel:
        await kernel.load(Sleeper, placement=placement)
        sleeper = kernel.get(Sleeping, blocking=True)

        def call() -> None:
            for _ in range(100):
                for number in range(5):
                    assert sleeper.quick(number) == number  # type: ignore[comparison-overlap]
                with deadline(30):
                    assert (sleeper.sleeps(0.001), sleeper.gives_up(0.001)) == (1, 2)

        await asyncio.to_thread(call)
