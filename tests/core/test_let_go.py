"""What nobody holds any more is free at once, whether Python's cyclic collector runs or not: an idle process
never runs it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing

import numpy
import pytest
from waiting import until

from mukernel import Blocking, Interface, Kernel, Overloaded, Plugin, shared
from mukernel.transports.segment import account

LARGE = 1 << 20  # bytes
QUOTA = 4 * LARGE


class Arrays(Interface):
    async def made(self, size: int) -> numpy.ndarray: ...
    def items(self, count: int) -> AsyncIterator[numpy.ndarray]: ...


class Holder(Plugin, Arrays):
    async def made(self, size: int) -> numpy.ndarray:
        return numpy.ones(size, "u1")

    async def items(self, count: int) -> AsyncIterator[numpy.ndarray]:
        for _ in range(count):
            yield numpy.ones(LARGE, "u1")


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=["ring", "socket"])
async def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kernel]:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", request.param)
    monkeypatch.setattr(account, "limit", QUOTA)  # as by Kernel(shared_memory=QUOTA), but for these tests alone
    async with Kernel() as made:
        await made.load(Holder, name="holder", placement="process", shared_memory=64 * LARGE)
        yield made


async def calls(kernel: Kernel) -> None:
    holder, kept = kernel.get(Arrays), []
    while True:
        kept.append(await holder.made(LARGE))


async def stream(kernel: Kernel) -> None:
    kept = [item async for item in kernel.get(Arrays).items(100)]
    assert not kept


async def blocking_calls(kernel: Kernel) -> None:
    holder = kernel.get(Arrays, blocking=True)

    def call() -> None:
        kept = []
        while True:
            kept.append(holder.made(LARGE))

    await asyncio.to_thread(call)


async def blocking_stream(kernel: Kernel) -> None:
    holder = kernel.get(Arrays, blocking=True)
    await asyncio.to_thread(lambda: list(holder.items(100)))


@pytest.mark.parametrize("collect", [calls, stream, blocking_calls, blocking_stream])
async def test_what_was_in_hand_when_there_was_no_room_for_more(
    kernel: Kernel, collect: Callable[[Kernel], Awaitable[None]]
) -> None:
    with pytest.raises(Overloaded, match="no room for"):
        await collect(kernel)
    await until(lambda: shared.held() == 0)
    assert (await kernel.get(Arrays).made(3 * LARGE)).size == 3 * LARGE


class Keeping(Interface):
    def keep(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[int]: ...
    async def held(self) -> int: ...


class Keeper(Plugin, Keeping):
    def __init__(self) -> None:
        gc.disable()

    async def keep(self, arrays: AsyncIterator[numpy.ndarray]) -> AsyncIterator[int]:
        kept = []
        async for array in arrays:
            kept.append(array)
            yield len(kept)

    async def held(self) -> int:
        return shared.held()


async def test_what_a_server_had_in_hand_when_there_was_no_room_for_more(kernel: Kernel) -> None:
    await kernel.load(Keeper, name="keeper", placement="process", shared_memory=QUOTA)
    keeper = kernel.get(Keeping)

    async def arrays() -> AsyncIterator[numpy.ndarray]:
        for _ in range(100):
            yield numpy.ones(LARGE, "u1")

    with pytest.raises(Overloaded, match="no room for"):
        async for _ in keeper.keep(arrays()):
            pass
    while await keeper.held():
        pass


class Spelling(Interface):
    def spell(self, array: numpy.ndarray, letters: AsyncIterator[str]) -> AsyncIterator[str]: ...


class Speller(Plugin, Spelling):
    async def spell(self, array: numpy.ndarray, letters: AsyncIterator[str]) -> AsyncIterator[str]:
        async for letter in letters:
            yield letter


class Reading(Interface):
    async def first(self, size: int) -> str: ...
    async def held(self) -> int: ...


class Reader(Plugin, Reading):
    """Reads a channel in a thread, and leaves it."""

    def __init__(self, speller: Blocking[Spelling]) -> None:
        gc.disable()
        self.speller = speller

    def first(self, size: int) -> str:  # in a thread
        def letters() -> Iterator[str]:
            while True:
                yield "a"

        for letter in self.speller.spell(numpy.ones(size, "u1"), letters()):
            return letter
        return ""

    async def held(self) -> int:
        return shared.held()


async def test_what_a_channel_was_given_that_is_left_while_its_iterator_has_more(kernel: Kernel) -> None:
    await kernel.load(Speller, name="speller", placement="process", shared_memory=64 * LARGE)
    speller = kernel.get(Spelling)

    async def letters() -> AsyncIterator[str]:
        while True:
            yield "a"
            await asyncio.sleep(0)

    for _ in range(10):  # more than the quota, together
        async with aclosing(speller.spell(numpy.ones(LARGE, "u1"), letters())) as spelt:
            assert await anext(spelt) == "a"
        await until(lambda: shared.held() == 0)


async def test_what_a_thread_gave_a_channel_that_it_left(kernel: Kernel) -> None:
    await kernel.load(Speller, name="speller", placement="process", shared_memory=64 * LARGE)
    await kernel.load(Reader, name="reader", placement="process", shared_memory=QUOTA)
    reader = kernel.get(Reading)
    for _ in range(10):
        assert await reader.first(LARGE) == "a"
        while await reader.held():
            pass
