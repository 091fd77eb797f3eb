"""The kernel as its users see it: the example of the documentation, typed proxies, events, descriptors given back."""

import asyncio
import gc
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from core_samples import Arithmetic, Counter, Plain, Report, Reporter, Stateless, Sum, Summing, Tally, Tally2

from mukernel import ContractError, Interface, Kernel, Plugin, deadline
from mukernel.core.loader import default_name


async def exercise(kernel: Kernel) -> None:
    """Everything once, under whatever loop is running."""
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(Sum, name="sum")
    await kernel.load(Reporter, name="report", placement="process:group")
    counter, report = kernel.get(Counter), kernel.get(Report)
    assert await report.total(2) == 4
    assert sum([await counter.add(1) for _ in range(200)]) == sum(range(5, 205))
    assert [number async for number in counter.numbers(500)] == list(range(500))

    async def given() -> Any:
        for number in range(300):
            yield number

    assert [number async for number in counter.doubled(given())][-1] == 598
    assert sorted(await asyncio.gather(*(counter.add(1) for _ in range(500)))) == list(range(205, 705))
    await kernel.swap("counter", Tally2)
    await kernel.move("counter", "process:group")
    await kernel.move("counter", "inline")
    assert (await counter.value(), await counter.version()) == (704, "two")
    await kernel.move("sum", "process")
    await kernel.move("counter", "process")
    os.kill(await counter.where(), 9)
    assert len(set(await report.path())) == 3
    assert (await kernel.ledger("counter")).lost == 0
    assert await asyncio.to_thread(kernel.get(Counter, blocking=True).version) == "two"  # type: ignore[arg-type]


async def test_everything_once_under_asyncios_own_loop(kernel: Kernel) -> None:
    await exercise(kernel)


def test_everything_once_under_uvloop() -> None:
    async def main() -> None:
        async with Kernel() as kernel:
            await exercise(kernel)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("reporter", ["inline", "process", "process:shared"])
@pytest.mark.parametrize("summing", ["inline", "process", "process:shared"])
@pytest.mark.parametrize("counter", ["inline", "process", "process:shared"])
async def test_plugins_call_each_other_across_placements(
    kernel: Kernel, counter: str, summing: str, reporter: str
) -> None:
    placements = (reporter, summing, counter)
    await kernel.load(Stateless, name="counter", placement=counter)
    await kernel.load(Sum, name="sum", placement=summing)
    await kernel.load(Reporter, name="report", placement=reporter)
    path = await kernel.get(Report).path()
    for first in range(3):
        for second in range(first):
            same = placements[first] == placements[second] != "process"
            assert (path[first] == path[second]) == same, f"{placements} ran in {path}"
    assert await kernel.get(Report).total(3) == 3


async def test_proxies_are_of_their_interface_and_say_where_they_lead(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter")
    counter = kernel.get(Counter)
    assert isinstance(counter, Counter)
    assert not isinstance(counter, Plugin)
    assert re.fullmatch("<Counter of 'counter', inline>", repr(counter))
    await kernel.move("counter", "process")
    assert repr(counter) == "<Counter of 'counter', remote>"
    await kernel.unload("counter")
    assert "was unloaded" in repr(counter)


async def test_what_happens_is_recorded_in_order(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.swap("counter", Tally2)
    await kernel.scale("counter", 2)
    await kernel.restart("counter")
    await kernel.unload("counter")
    assert [(event.what, event.plugin) for event in kernel.events] == [
        (what, "counter") for what in ("load", "swap", "scale", "restart", "unload")
    ]
    times = [event.at for event in kernel.events]
    assert times == sorted(times)
    assert [event.pause is not None for event in kernel.events] == [False, True, False, True, False]


def test_default_names() -> None:
    wanted = {"English": "english", "shop.SqliteCatalog": "sqlite-catalog", "Outer.Inner2D": "inner2-d"}
    assert {given: default_name(given) for given in wanted} == wanted


class Twice(Interface):
    async def both(self) -> str: ...


class Two(Plugin, Twice, Plain):
    """A plug-in that serves two interfaces."""

    async def both(self) -> str:
        return "both"

    def plus(self, a: int, b: int = 1) -> int:
        return a + b + 100

    def thread(self) -> str:
        return ""

    def most_at_once(self, others: int) -> int:
        return 0


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_plugin_serves_several_interfaces(kernel: Kernel, placement: str) -> None:
    await kernel.load(Two, placement=placement)
    assert (await kernel.get(Twice).both(), kernel.get(Plain).plus(1)) == ("both", 102)
    await kernel.swap("two", Two)
    assert (await kernel.get(Twice).both(), kernel.get(Plain).plus(2)) == ("both", 103)


async def test_two_kernels_in_one_process_do_not_meet() -> None:
    async with Kernel("one") as one, Kernel("two") as two:
        await one.load(Tally, name="counter", placement="process")
        await two.load(Tally, name="counter", config={"start_at": 50})
        assert await one.get(Counter).add(1) == 1
        assert await two.get(Counter).add(1) == 51


CHANGES: list[Callable[[Kernel], Awaitable[object]]] = [
    lambda kernel: kernel.load(Tally, name="another"),
    lambda kernel: kernel.route(Counter, brokered=True),
    lambda kernel: kernel.swap("tally", Tally),
    lambda kernel: kernel.move("tally", "process"),
    lambda kernel: kernel.scale("tally", 2),
    lambda kernel: kernel.restart("tally"),
    lambda kernel: kernel.unload("tally"),
    lambda kernel: kernel.rollback("tally"),
    lambda kernel: kernel.stack("tally"),
    lambda kernel: kernel.ledger("tally"),
    lambda kernel: kernel.close(),
    lambda kernel: kernel.grant("tally", "Counter"),
    lambda kernel: kernel.revoke("tally", "Counter"),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_awaited_in_another_loop_is_refused_before_it_begins(change: Any) -> None:
    async with Kernel() as kernel:
        await kernel.load(Tally, name="tally", grants=["Counter"])

        async def changed() -> None:
            await change(kernel)

        with pytest.raises(ContractError, match="was opened in another event loop"):
            await asyncio.to_thread(asyncio.run, changed())
        assert list(kernel.registry.entries) == ["tally"]
        await kernel.get(Counter).add(1)
        assert await kernel.get(Counter).value() == 1


async def test_a_call_in_another_loop_is_refused(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    await counter.add(1)

    async def called() -> int:
        return await counter.add(1)

    async def within() -> int:
        with deadline(5):
            return await counter.add(1)

    async def noted() -> None:
        await counter.note(1)

    async def read() -> list[int]:
        return [number async for number in counter.numbers(3)]

    for call in (called, within, noted, read):
        with pytest.raises(ContractError, match=r"Counter\.\w+: called in another event loop .*blocking=True"):
            await asyncio.to_thread(asyncio.run, call())
    assert await counter.value() == 1  # nothing was sent
    assert [number async for number in counter.numbers(3)] == [0, 1, 2]


async def test_a_kernel_gives_back_every_descriptor_and_process() -> None:
    async def one_life() -> None:
        async with Kernel() as kernel:
            await kernel.load(Tally, name="counter", placement="process", replicas=2)
            await kernel.load(Sum, name="sum", placement="process:a")
            await kernel.load(Arithmetic, name="plain", placement="process:a")
            assert await kernel.get(Summing).add_twice(1) > 0
            assert kernel.get(Plain).plus(1) == 2
            await kernel.swap("counter", Tally2)
            await kernel.move("sum", "inline")
            await kernel.scale("counter", 1)
            await kernel.move("counter", "inline")
            await kernel.move("counter", "process")

    def descriptors() -> set[str]:
        gc.collect()  # the memory of a channel is unmapped with the last right to it
        return set(os.listdir("/proc/self/fd"))

    def processes() -> str:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return children.read()

    others = processes()  # such as a database that other tests talk to
    await one_life()
    before = descriptors()
    await one_life()
    # One that stays has the lowest free number, thus a new one. Those that go meanwhile are of tests before this one.
    assert (descriptors() - before, processes()) == (set(), others)


async def test_a_kernel_whose_body_raises_still_ends_its_processes() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Kernel() as kernel:
            await kernel.load(Tally, name="counter", placement="process")
            pid = await kernel.get(Counter).where()
            raise ZeroDivisionError
    assert not os.path.exists(f"/proc/{pid}")


async def test_a_kernel_that_two_tasks_close_ends_once_and_both_wait_for_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel = Kernel()
    async with kernel:
        for name in ("one", "two"):
            await kernel.load(Tally, name=name, placement="process")
        processes = [place.process for place in kernel.places.values()]
        closing = [asyncio.create_task(kernel.close()) for _ in range(3)]
        for each in asyncio.as_completed(closing):
            await each
            assert not any(process.alive for process in processes)
        await kernel.close()
    assert not caplog.records


async def test_a_kernel_that_is_open_is_not_entered_again(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    with pytest.raises(ContractError, match="this kernel is open already"):
        await kernel.__aenter__()
    assert await kernel.get(Counter).add(1) == 1, "it goes on"
    closing = asyncio.create_task(kernel.close())
    await asyncio.sleep(0)
    with pytest.raises(ContractError, match="open already"):  # it is being closed
        await kernel.__aenter__()
    await closing
    async with kernel:
        await kernel.load(Tally, name="counter")
