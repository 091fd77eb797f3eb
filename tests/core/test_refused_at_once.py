"""Who is refused at once, and tries again at once, leaves the event loop its turn: nobody else could help otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from core_samples import Counter, Tally

from mukernel import Interface, Kernel, MukernelError, Overloaded, Plugin, Unavailable

CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "call": lambda counter: counter.version(),
    "one-way": lambda counter: counter.note(1),
    "stream": lambda counter: anext(counter.numbers(1)),
    "channel": lambda counter: anext(counter.doubled(endless())),
}


async def endless() -> AsyncIterator[int]:
    while True:
        yield 1


async def turned_before(error: type[MukernelError], refused: Awaitable[Any]) -> bool:
    """Has the loop had a turn when `refused` raises `error`?"""
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    with pytest.raises(error):
        await refused
    return bool(turns)


class Asking(Interface):
    async def turned(self, what: str) -> bool: ...


class Asks(Plugin, Asking):
    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    async def turned(self, what: str) -> bool:
        return await turned_before(Unavailable, CALLS[what](self.counter))


@pytest.mark.parametrize("what", list(CALLS))
async def test_calls_of_a_plugin_that_is_gone(kernel: Kernel, what: str) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(Asks, name="asks", placement="process")
    counter, asks = kernel.get(Counter), kernel.get(Asking)
    kept = counter.version
    await kernel.unload("counter")
    assert await turned_before(Unavailable, CALLS[what](counter))
    assert await turned_before(Unavailable, kept())
    assert await asks.turned(what)


async def test_who_tries_again_at_once_finds_the_plugin_when_it_is_back(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter")
    counter = kernel.get(Counter)
    await kernel.unload("counter")

    async def call() -> str:
        for _ in range(1_000_000):  # for ever, but that it would keep the loop
            try:
                return await counter.version()
            except Unavailable:
                pass
        raise AssertionError("nobody else had a turn")

    calling = asyncio.create_task(call())
    await asyncio.sleep(0)
    await kernel.load(Tally, name="counter")
    assert await calling == "one"


@pytest.mark.parametrize("what", list(CALLS))
async def test_calls_that_a_full_mailbox_refuses(kernel: Kernel, whistle: Any, what: str) -> None:
    await kernel.load(Tally, name="counter", placement="process", concurrency=1, drain=0)
    counter = kernel.get(Counter)
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    with pytest.raises(Overloaded):
        while True:
            await counter.note(1)
    assert await turned_before(Overloaded, CALLS[what](counter))
    held.cancel()
