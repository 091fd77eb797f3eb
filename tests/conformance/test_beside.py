"""What calls that are being run need, to go on and to end, comes past those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from conformance_actor import Actor, Behaviour
from conformance_worlds import World, isolated

from mukernel import Kernel

ITEMS = 200
LARGE = "x" * 16_000  # characters; many times as many together as a channel holds


@isolated
async def test_items_and_credit_come_past_a_call_that_waits(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement, concurrency=1)
    actor = kernel.get(Behaviour, when_full="wait")

    async def words() -> AsyncIterator[str]:
        for _ in range(ITEMS):
            yield LARGE

    stream = actor.upper(words())
    assert await anext(stream) == LARGE.upper()  # it has the one place there is
    waiting = asyncio.create_task(actor.add(1))
    assert [word async for word in stream] == [LARGE.upper()] * (ITEMS - 1)
    assert await waiting == 1


@isolated
async def test_a_cancellation_comes_past_calls_that_wait(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement, concurrency=1)
    actor = kernel.get(Behaviour, when_full="wait")
    stream = actor.hold()
    await anext(stream)
    waiting = [asyncio.create_task(actor.note(LARGE)) for _ in range(100)]
    await asyncio.sleep(0)
    await stream.aclose()
    await asyncio.gather(*waiting)
    assert await actor.add(1) == 1


@isolated
async def test_a_stream_ends_though_a_swap_keeps_all_calls_waiting(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement, drain=5.0)
    actor = kernel.get(Behaviour, when_full="wait")
    stream = actor.count(1000)
    assert await anext(stream) == 0
    swapping = asyncio.create_task(kernel.swap("actor", Actor))

    async def send() -> None:
        while not swapping.done():
            await actor.note(LARGE)

    senders = [asyncio.create_task(send()) for _ in range(32)]
    assert [number async for number in stream] == list(range(1, 1000))
    assert not (await swapping).rolled_back
    await asyncio.gather(*senders)
