"""Replacements and who calls a plug-in in its own process, by no channel: such calls are led and accounted for, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from core_samples import Counter, Stateless, Sum, Summing, Tally, blow
from waiting import until

from mukernel import Interface, Kernel, Plugin, SwapFailed, Unavailable
from mukernel.core.ledger import Ledger


async def all_of(numbers: AsyncIterator[int]) -> list[int]:
    return [number async for number in numbers]


class SlowToSave(Tally):
    """Saves when FOLDER/go is there."""

    def __init__(self, *, folder: str = "") -> None:
        super().__init__()
        self.folder = Path(folder)

    async def save(self) -> int:  # type: ignore[override]
        saved = self.total
        (self.folder / "saving").touch()
        await until((self.folder / "go").exists)
        return saved

    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number
            await asyncio.sleep(0)
        self.total += 100


class SlowToSave2(SlowToSave):
    label = "two"


class Reading(Interface):
    async def all(self) -> list[int]: ...
    async def add(self, amount: int) -> int: ...


class Reads(Plugin, Reading):
    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    async def all(self) -> list[int]:
        return await all_of(self.counter.numbers(3))

    async def add(self, amount: int) -> int:
        return await self.counter.add(amount)


@pytest.mark.parametrize("anew", [False, True], ids=["first", "anew"])
async def test_who_connects_while_the_state_is_saved_calls_the_new_version(
    kernel: Kernel, tmp_path: Path, anew: bool
) -> None:
    """For the first time, or since the kernel has told it to ask again."""
    await kernel.load(SlowToSave, name="counter", config={"folder": str(tmp_path)})
    if anew:
        assert await kernel.get(Counter).add(1) == 1
    swap = asyncio.create_task(kernel.swap("counter", SlowToSave2))
    await until((tmp_path / "saving").exists)
    if anew:
        await kernel.instances.reroute_callers(kernel.registry.entry("counter"))
    counter = kernel.get(Counter)
    call = asyncio.create_task(counter.add(5))
    await asyncio.sleep(0)
    (tmp_path / "go").touch()
    await swap
    assert await call == 5 + anew
    assert await counter.version() == "two"
    assert await counter.value() == 5 + anew


@pytest.mark.parametrize("placement", ["process:g", "process"])
async def test_a_neighbour_that_connects_while_the_state_is_saved_calls_the_new_version(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    """Its stream is read to its end where the plug-in is then, be it elsewhere."""
    await kernel.load(SlowToSave, name="counter", placement="process:g", config={"folder": str(tmp_path)})
    moving = kernel.swap("counter", SlowToSave2) if placement == "process:g" else kernel.move("counter", placement)
    change = asyncio.create_task(moving)
    await until((tmp_path / "saving").exists)
    await kernel.load(Reads, name="reads", placement="process:g")
    reads = kernel.get(Reading)
    stream, call = asyncio.create_task(reads.all()), asyncio.create_task(reads.add(5))
    while (await kernel.ledger("reads")).running < 2:
        assert not (call.done() or stream.done()), "nobody runs it before the state is handed over"
        await asyncio.sleep(0)
    (tmp_path / "go").touch()
    assert not (await change).rolled_back
    assert await stream == [0, 1, 2]
    await call
    assert await kernel.get(Counter).value() == 105, "nothing was run by an instance that had given up its state"


class Announces(Tally):
    """Tells when it begins to drain."""

    def __init__(self, *, whistle: str = "") -> None:
        super().__init__()
        self.whistle = whistle

    def draining(self) -> None:
        blow(self.whistle, "draining")


async def test_the_ledger_of_an_inline_swap_has_what_it_drained_and_what_waited(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Announces, name="counter", config={"whistle": whistle.path})
    counter, entry = kernel.get(Counter), kernel.registry.entry("counter")
    assert await counter.add(1) == 1
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    swap = asyncio.create_task(kernel.swap("counter", Announces))
    await whistle.heard()
    added = [asyncio.create_task(counter.add(1)) for _ in range(3)]
    in_thread = asyncio.create_task(asyncio.to_thread(kernel.get(Counter, blocking=True).value))  # type: ignore[arg-type]
    read = asyncio.create_task(all_of(counter.numbers(2)))
    cancelled = [asyncio.create_task(counter.add(1)), asyncio.create_task(all_of(counter.numbers(2)))]
    (route,) = kernel.space.routes_to("counter")
    await until(lambda: len(route.waiting) == 4 and route.held == 3)
    for each in cancelled:
        each.cancel()
    await asyncio.wait(cancelled)
    assert entry.replicas[0].instance is not None
    old: Any = kernel.space.instances[entry.replicas[0].instance.blueprint.key]
    old.plugin.released.set()
    report = await swap
    assert (
        await held == "one" and await asyncio.gather(*added) == [2, 3, 4] and await read == [0, 1] and await in_thread
    )
    assert (report.drained, report.carried_over) == (1, 5)
    assert report.ledger == Ledger(accepted=6, replied=1, waiting=5) and report.ledger.lost == 0
    again = await kernel.swap("counter", Announces)
    assert (again.drained, again.carried_over, again.ledger) == (0, 0, Ledger())


async def test_the_ledger_of_a_swap_has_what_neighbours_in_its_process_called(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Announces, name="counter", placement="process:g", config={"whistle": whistle.path})
    await kernel.load(Sum, name="sum", placement="process:g")
    summing = kernel.get(Summing)
    held = asyncio.create_task(summing.hold(whistle.path))
    await whistle.heard()
    swap = asyncio.create_task(kernel.swap("counter", Announces))
    await whistle.heard()
    waits = [asyncio.create_task(summing.add_twice(1)) for _ in range(2)]
    while (await kernel.ledger("sum")).running < 3:  # noqa: ASYNC110 - nothing tells when the count changes
        await asyncio.sleep(0)
    held.cancel()
    report = await swap
    assert (report.drained, report.carried_over) == (1, 2)
    assert report.ledger == Ledger(accepted=3, replied=1, waiting=2)
    assert sorted(await asyncio.gather(*waits)) == [3, 4]


async def test_what_is_called_directly_is_not_counted(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Stateless, name="counter")
    held = asyncio.create_task(kernel.get(Counter).hold(whistle.path))
    await whistle.heard()
    report = await kernel.swap("counter", Stateless)
    assert (report.drained, report.ledger) == (0, Ledger())
    held.cancel()


class SaysNothing(Tally):
    """Raises an error of ours without a word."""

    async def start(self) -> None:
        raise Unavailable()


async def test_no_reason_is_empty(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process", drain=0)
    counter = kernel.get(Counter)
    for kind, says in ((SaysNothing, "Unavailable"), ("core_faulty:NoSuchClass", "NoSuchClass")):
        with pytest.raises(SwapFailed, match=says) as failed:
            await kernel.swap("counter", kind)
        assert failed.value.report is not None and failed.value.report.reason
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    await kernel.unload("counter", " ")
    for refused in (held, counter.version()):
        with pytest.raises(Unavailable, match="plug-in 'counter' was unloaded"):
            await refused
