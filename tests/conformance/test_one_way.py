"""One-way calls: what their caller calls next finds them begun, wherever the plug-in runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from conformance_worlds import World, everywhere, threaded

from mukernel import Interface, Kernel, Plugin, oneway

ROUNDS = 50


class Basket(Interface):
    @oneway
    async def put(self, article: str) -> None: ...
    @oneway
    async def put_at_once(self, article: str) -> None: ...
    async def taken(self) -> list[str]: ...
    @oneway
    async def again(self, times: int) -> None: ...
    async def counted(self) -> int: ...
    @oneway
    async def drop(self) -> None: ...


class Stateless(Plugin, Basket):
    """Inline it is called directly, and not counted."""

    others: list[Basket]  # proxies of it and others, where the test gives it some

    def __init__(self) -> None:
        self.articles: list[str] = []
        self.count = 0

    async def put(self, article: str) -> None:
        self.articles.append(article)
        await asyncio.sleep(0)
        self.articles[self.articles.index(article)] += "!"

    def put_at_once(self, article: str) -> None:
        self.articles.append(article)

    async def taken(self) -> list[str]:
        taken, self.articles = self.articles, []
        return taken

    async def again(self, times: int) -> None:
        self.count += 1
        if times > 1:
            await self.others[times % len(self.others)].again(times - 1)

    async def counted(self) -> int:
        return self.count

    def drop(self) -> None:
        raise LookupError("dropped")


class Stateful(Stateless):
    def save(self) -> int:
        return self.count

    def restore(self, count: int) -> None:
        self.count = count


@pytest.mark.parametrize("kind", [Stateless, Stateful])
@everywhere
async def test_the_next_call_finds_it_begun(world: World, kernel: Kernel, kind: type[Stateless]) -> None:
    await kernel.load(kind, name="basket", placement=world.placement)
    basket = kernel.get(Basket)
    for number in range(ROUNDS):
        article = str(number)
        await basket.put_at_once(article)
        assert await basket.taken() == [article]
        await basket.put(article)
        await basket.put_at_once("last")
        assert [each.rstrip("!") for each in await basket.taken()] == [article, "last"]


@threaded
async def test_so_does_that_of_a_thread(world: World, kernel: Kernel) -> None:
    await kernel.load(Stateful, name="basket", placement=world.placement)
    basket: Any = kernel.get(Basket, blocking=True)

    def calls() -> None:
        for number in range(ROUNDS):
            basket.put_at_once(str(number))
            assert basket.taken() == [str(number)]

    await asyncio.to_thread(calls)


class Around(Interface):
    async def stale(self) -> int: ...


class Customer(Plugin, Around):
    def __init__(self, basket: Basket) -> None:
        self.basket = basket

    async def stale(self) -> int:
        stale = 0
        for number in range(ROUNDS):
            await self.basket.put_at_once(str(number))
            stale += await self.basket.taken() != [str(number)]
        return stale


@everywhere
async def test_so_does_that_of_another_plugin_in_its_process(world: World, kernel: Kernel) -> None:
    placement = "process:one" if world.placement == "process" else world.placement
    await kernel.load(Stateful, name="basket", placement=placement)
    await kernel.load(Customer, name="customer", placement=placement, grants=["Basket"])
    assert await kernel.get(Around).stale() == 0


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("plugins", [1, 30])
async def test_ones_that_are_handed_on_and_on_overflow_no_stack(strict: bool, plugins: int) -> None:
    async with Kernel(strict=strict) as kernel:
        for number in range(plugins):
            await kernel.load(Stateful, name=f"basket{number}")
        baskets = [kernel.get(Basket, plugin=f"basket{number}") for number in range(plugins)]
        Stateful.others = baskets
        try:
            await baskets[0].again(1000)
            while sum([await basket.counted() for basket in baskets]) < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0)
        finally:
            del Stateful.others
        assert not (await kernel.swap("basket0", Stateful, drain=0)).rolled_back  # none counts as running still


@everywhere
async def test_its_error_is_logged(world: World, kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    await kernel.load(Stateful, name="basket", placement=world.placement)
    basket = kernel.get(Basket)
    with caplog.at_level(logging.ERROR):
        await basket.drop()
        assert await basket.taken() == []
    if world.placement == "inline":
        assert "Basket.drop (one-way) raised" in caplog.text
