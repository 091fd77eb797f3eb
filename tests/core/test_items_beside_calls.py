"""Items and cancellations come while calls of the same caller wait: what those lend stays with them."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import numpy
import pytest
from killing import kill, pid_of, stop
from waiting import until, until_state, until_waiting

from mukernel import Interface, Kernel, Plugin, PluginCrashed, RestartPolicy, shared
from mukernel.core.lifecycle import State
from mukernel.transports import lane

LARGE = 100_000  # bytes, which are lent
WAITING = 40  # calls


class Beside(Interface):
    def numbers(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[int]: ...
    def sums(self, pairs: AsyncIterator[tuple[numpy.ndarray, bytes]]) -> AsyncIterator[int]: ...
    async def wait(self, array: numpy.ndarray) -> None: ...
    async def number(self, array: numpy.ndarray) -> int: ...
    async def held(self) -> tuple[int, int]: ...


class Two(Plugin, Beside):
    """The channel has one of its two places, and `wait` has the other until a 0 comes by the channel."""

    def __init__(self) -> None:
        self.zero = asyncio.Event()

    async def numbers(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[int]:
        async for array in arrays:
            yield int(array[0])
            if not array[0]:
                self.zero.set()

    async def sums(self, pairs: AsyncIterator[tuple[numpy.ndarray, bytes]]) -> AsyncIterator[int]:
        async for array, more in pairs:
            yield int(array[0]) + len(more)

    async def wait(self, array: numpy.ndarray) -> None:
        await self.zero.wait()

    async def number(self, array: numpy.ndarray) -> int:
        return int(array[0])

    async def held(self) -> tuple[int, int]:
        gc.collect()
        return shared.held(), sum(len(each.unclaimed) + len(each.unwanted) for each in lane._lanes.values())


def filled(number: int, size: int = LARGE) -> numpy.ndarray:
    made: numpy.ndarray = shared.empty(size, "u1")
    made[:] = number
    return made


async def fed(items: asyncio.Queue[Any]) -> AsyncIterator[numpy.ndarray]:
    """What is put into a queue, until that is None."""
    while (item := await items.get()) is not None:
        yield item


@pytest.mark.parametrize("end", ["kill", "swap"])
@pytest.mark.parametrize("transport", ["ring", "socket"])
@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_calls_that_wait_are_run_by_the_successor(
    monkeypatch: pytest.MonkeyPatch, placement: str, transport: str, end: str
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    items: asyncio.Queue[Any] = asyncio.Queue()
    async with Kernel() as kernel:
        await kernel.load(Two, name="two", placement=placement, concurrency=2, restart=RestartPolicy(backoff=0.0))
        beside: Any = kernel.get(Beside)
        numbers = beside.numbers(fed(items))
        await items.put(filled(1))
        assert await anext(numbers) == 1
        waits = asyncio.create_task(beside.wait(filled(2)))
        calls = [asyncio.create_task(beside.number(filled(number))) for number in range(WAITING)]
        await asyncio.sleep(0)  # they are sent
        for size in (LARGE, 100 * LARGE):
            await items.put(filled(3, size))
            assert await anext(numbers) == 3
        if end == "kill":
            await kill(kernel, "two")
            with pytest.raises(PluginCrashed):
                await anext(numbers)
            with pytest.raises(PluginCrashed):
                await waits
        else:
            swap = asyncio.create_task(kernel.swap("two", Two))
            await until_state(kernel, "two", State.QUIESCING)
            await items.put(filled(0))
            assert await anext(numbers) == 0
            await items.put(None)
            assert [each async for each in numbers] == []
            await waits
            await swap
        assert await asyncio.gather(*calls) == list(range(WAITING))


@pytest.mark.parametrize("end", ["kill", "swap", "none"])
@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_what_is_cancelled_behind_others_leaves_them_what_they_lend_and_nobody_what_it_lent(
    monkeypatch: pytest.MonkeyPatch, transport: str, end: str
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    async with Kernel() as kernel:
        await kernel.load(Two, name="two", placement="process", concurrency=1, restart=RestartPolicy(backoff=0.0))
        beside: Any = kernel.get(Beside)
        waits = asyncio.create_task(beside.wait(filled(1)))
        calls = [asyncio.create_task(beside.number(filled(number))) for number in range(WAITING)]
        await until_waiting(kernel, "two", 1 if transport == "socket" else WAITING)  # which looks at no more
        for call in calls[WAITING // 2 + 1 :: 2]:  # the last, too
            call.cancel()
        replica = kernel.registry.entry("two").replicas[0].instance
        assert replica is not None
        left = WAITING * 3 // 4 if transport == "ring" else 1
        while (await replica.place.count(replica.blueprint.key)).waiting > left:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        if end == "kill":
            await kill(kernel, "two")
            with pytest.raises(PluginCrashed):
                await waits
        else:
            swap = asyncio.create_task(kernel.swap("two", Two) if end == "swap" else asyncio.sleep(0))
            if end == "swap":
                await until_state(kernel, "two", State.QUIESCING)
            waits.cancel()
            await swap
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        ran = [*range(WAITING // 2), *range(WAITING // 2, WAITING, 2)]
        assert [each for each in outcomes if not isinstance(each, BaseException)] == ran
        await until(lambda: not any(each.in_flight() for each in lane._lanes.values()))
        while await beside.held() != (0, 0):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        assert await beside.number(filled(7)) == 7


@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_an_item_that_is_overtaken_by_a_call_keeps_what_it_lends(
    monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    items: asyncio.Queue[Any] = asyncio.Queue()
    async with Kernel() as kernel:
        await kernel.load(Two, name="two", placement="process")
        beside: Any = kernel.get(Beside)
        numbers = beside.numbers(fed(items))
        await items.put(filled(1))
        assert await anext(numbers) == 1
        stop(pid_of(kernel, "two"))
        await items.put(filled(2))
        await until(lambda: any(each.in_flight() for each in lane._lanes.values()))
        calls = [asyncio.create_task(beside.number(filled(number))) for number in (3, 4)]
        await asyncio.sleep(0)
        os.kill(pid_of(kernel, "two"), signal.SIGCONT)
        assert await asyncio.gather(*calls) == [3, 4]
        assert await anext(numbers) == 2
        await items.put(numpy.zeros(1, "u1"))
        assert await anext(numbers) == 0
        assert await beside.held() == (0, 0)  # of what its method has read a channel keeps nothing
        await items.put(None)
        assert [each async for each in numbers] == []


@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_items_that_there_was_no_room_for_yet_keep_what_they_lend(
    monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)

    async def feed() -> AsyncIterator[tuple[numpy.ndarray, bytes]]:
        for number in range(200):
            yield filled(number), bytes(15_000)

    async with Kernel() as kernel:
        await kernel.load(Two, name="two", placement="process")
        beside: Any = kernel.get(Beside)

        async def read() -> list[int]:
            return [each - 15_000 async for each in beside.sums(feed())]

        reading = asyncio.create_task(read())
        while not reading.done():
            assert await beside.number(filled(7)) == 7
        assert await reading == [*range(200)]
