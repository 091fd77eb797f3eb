"""A call has the circumstances that its caller gave it, and nothing of whatever ran before it."""

from __future__ import annotations

import asyncio
from contextvars import Context

import pytest
from context_samples import (
    Asker,
    Asking,
    Batcher,
    Batching,
    Heir,
    Inheritance,
    Prices,
    Pricing,
    Worker,
    Workers,
)
from waiting import until_waiting

from mukernel import Kernel, deadline, priority
from mukernel.transports.carriers import SETTING


@pytest.fixture(params=["", "socket"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the processes; "": as this machine prefers."""
    if request.param:
        monkeypatch.setenv(SETTING, request.param)


@pytest.mark.usefixtures("transport")
async def test_a_call_that_waited_inherits_nothing_of_the_one_it_waited_for() -> None:
    async with Kernel() as kernel:
        await kernel.load(Heir, name="heir", placement="process", concurrency=1)
        heir = kernel.get(Inheritance)

        async def first() -> str:
            with deadline(3600), priority(7):
                return await heir.slow(20_000)

        for method in (heir.quick, lambda: asyncio.to_thread(kernel.get(Inheritance, blocking=True).blocking)):
            running = asyncio.create_task(first())
            await asyncio.sleep(0)
            waiting = asyncio.create_task(method())  # type: ignore[arg-type]
            await until_waiting(kernel, "heir", 1)
            assert not running.done()
            assert await waiting in ("", "False 0")
            assert await running == "True 7"


async def test_nor_its_deadline_where_calls_wait_for_their_turn() -> None:
    async with Kernel() as kernel:
        await kernel.load(Heir, name="heir", placement="process")
        heir = kernel.get(Inheritance)

        async def first() -> str:
            with deadline(3600), priority(7):
                return await heir.until_busy()

        running = asyncio.create_task(first())
        await asyncio.sleep(0)
        assert await asyncio.gather(heir.busy(), heir.busy(), heir.busy()) == [""] * 3
        assert await running == "True 7"


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_calls_inherit_nothing_of_the_time_when_their_plugin_was_loaded(placement: str) -> None:
    async with Kernel() as kernel:
        with deadline(3600), priority(7):
            await kernel.load(Heir, name="heir", placement=placement)
            await kernel.load(Asker, name="asker", placement="process")
            asker = kernel.get(Asking)
        assert await asker.ask() == ["", ""]
        for replaced in ("asker", "heir"):
            with deadline(3600), priority(7):
                asking = asyncio.create_task(asker.ask(), context=Context())
                await kernel.restart(replaced)
            assert await asking == ["", ""]
            assert await asker.ask() == ["", ""]
            await kernel.clock.sleep(0.1)  # so that a bell has to be rung
            assert await asker.ask() == ["", ""]


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_what_a_def_method_leaves_in_a_variable_is_for_nobody_else(placement: str) -> None:
    async with Kernel() as kernel:
        await kernel.load(Heir, name="heir", placement=placement)
        heir, blocking = kernel.get(Inheritance), kernel.get(Inheritance, blocking=True)
        for _ in range(3):
            assert await asyncio.to_thread(blocking.blocking) == ""
            assert await heir.quick() == ""


@pytest.mark.parametrize("heir", ["inline", "process"])
@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_what_lives_on_is_bound_by_no_call_that_has_ended(placement: str, heir: str) -> None:
    """Nobody who writes a plug-in knows which deadline its first caller had."""
    async with Kernel() as kernel:
        await kernel.load(Heir, name="heir", placement=heir)
        await kernel.load(Batcher, name="batcher", placement=placement)
        batcher = kernel.get(Batching)
        with deadline(3600), priority(7):
            await batcher.write("before")
        await batcher.write("after")
        (line,) = await batcher.written()
        assert line.replace("False 0", "") == "after"  # a context may be there, and says nothing


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.usefixtures("transport")
async def test_every_kind_of_method_begins_with_what_its_instance_has_set(threads: int) -> None:
    async with Kernel() as kernel:
        await kernel.load(Prices, name="prices", placement="process", threads=threads)
        pricing, blocking = kernel.get(Pricing), kernel.get(Pricing, blocking=True)
        for _ in range(2):
            assert await pricing.price() == "0.3333333 started"
            assert await asyncio.to_thread(blocking.now) == "0.3333333 started"
            assert [each async for each in pricing.prices()] == ["0.3333333 started"]


@pytest.mark.parametrize("heir", ["inline", "process"])
@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_nor_is_what_it_has_set_for_itself_meanwhile(placement: str, heir: str) -> None:
    async with Kernel() as kernel:
        await kernel.load(Heir, name="heir", placement=heir)
        await kernel.load(Worker, name="worker", placement=placement)
        worker = kernel.get(Workers)
        async with deadline(0.3):
            await worker.begin()
        await kernel.clock.sleep(0.4)
        for _ in range(2):
            assert await worker.results() == ["True -10"]
