"""Replacement that succeeds: swap, move and scale under load, with state, one after the other, seen from everywhere."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from core_samples import Arithmetic, Counter, Plain, Stateless, Sum, Summing, Tally, Tally2
from waiting import until_state

from mukernel import ContractError, Interface, Kernel, Plugin, SwapFailed
from mukernel.core.lifecycle import State
from mukernel.core.messages import Counts
from mukernel.core.place import RemotePlace


async def load_callers(counter: Counter, stop: asyncio.Event, count: int = 8) -> list[int]:
    """Each caller adds 1 until `stop`; the totals it was answered."""
    answers: list[int] = []

    async def caller() -> None:
        while not stop.is_set():
            answers.append(await counter.add(1))
            await asyncio.sleep(0)

    await asyncio.gather(*(caller() for _ in range(count)))
    return answers


@pytest.mark.parametrize("placement", ["inline", "process", "process:group"])
async def test_swaps_in_a_row_lose_nothing_and_run_nothing_twice(kernel: Kernel, placement: str) -> None:
    await kernel.load(Tally, name="counter", placement=placement)
    counter, stop = kernel.get(Counter), asyncio.Event()
    callers = asyncio.create_task(load_callers(counter, stop))
    for number in range(10):
        report = await kernel.swap("counter", (Tally2, Tally)[number % 2])
        assert not report.rolled_back
        assert report.ledger.lost == 0
    stop.set()
    answers = await callers
    assert sorted(answers) == list(range(1, len(answers) + 1)), "a call was lost, or run twice"
    assert await counter.value() == len(answers)
    assert await counter.version() == "one"


async def test_a_plugin_moves_through_every_placement_under_load(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter")
    counter, stop = kernel.get(Counter), asyncio.Event()
    callers = asyncio.create_task(load_callers(counter, stop))
    seen = {await counter.where()}
    for placement in ("process", "process:a", "process:b", "inline", "process:a", "process", "inline"):
        report = await kernel.move("counter", placement)
        assert report.after.endswith(placement)
        where = await counter.where()
        assert (where == os.getpid()) == (placement == "inline")
        seen.add(where)
    stop.set()
    answers = await callers
    assert sorted(answers) == list(range(1, len(answers) + 1))
    assert len(seen) == 6, "the kernel and five processes"
    assert not kernel.places, "processes that nothing lives in any more have ended"


@pytest.mark.parametrize("caller", ["inline", "process", "process:shared"])
async def test_a_plugin_that_other_plugins_call_moves(kernel: Kernel, caller: str) -> None:
    """The routes of the caller are changed wherever the caller is: by channel, inline, and within a group."""
    await kernel.load(Tally, name="counter", placement="process:shared")
    await kernel.load(Sum, name="sum", placement=caller)
    summing, counter = kernel.get(Summing), kernel.get(Counter)
    stop, expected = asyncio.Event(), 0

    async def call() -> None:
        nonlocal expected
        while not stop.is_set():
            await summing.add_twice(1)
            expected += 2
            await asyncio.sleep(0)  # where both are inline, nothing else gives the loop a turn

    callers = [asyncio.create_task(call()) for _ in range(4)]
    for placement in ("inline", "process", "process:shared", "process:other", "inline", "process:shared"):
        await kernel.move("counter", placement)
        pids = await summing.where()
        assert pids[1] == await counter.where()
        shared = {"inline": placement == "inline", "process:shared": placement == "process:shared"}
        assert (pids[0] == pids[1]) == shared.get(caller, False)
    stop.set()
    await asyncio.gather(*callers)
    assert await counter.value() == expected


async def test_several_swaps_asked_for_at_once_are_serialised(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", config={"start_at": 7})
    counter, stop = kernel.get(Counter), asyncio.Event()
    callers = asyncio.create_task(load_callers(counter, stop))
    reports = await asyncio.gather(
        *(kernel.swap("counter", (Tally2, Tally)[number % 2]) for number in range(4)),
        kernel.move("counter", "inline"),
        kernel.move("counter", "process"),
        kernel.restart("counter"),
    )
    stop.set()
    answers = await callers
    assert [report.before for report in reports[:4]] == [
        "Tally process", "Tally2 process", "Tally process", "Tally2 process"
    ]  # fmt: skip
    assert sorted(answers) == list(range(8, 8 + len(answers)))
    assert len(kernel.places) == 1


async def test_a_swap_waits_for_the_calls_that_run_and_reports_them(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    replacing = asyncio.create_task(kernel.swap("counter", Tally2))
    await until_state(kernel, "counter", State.QUIESCING)
    place = next(iter(kernel.places.values()))
    await place.ping()  # the old process has heard that it is to quiesce
    late = [asyncio.create_task(counter.add(1)) for _ in range(5)]
    await place.ping()  # and has had its chance to see these calls
    assert not any(call.done() for call in late), "a call was started while the plug-in was drained"
    assert not replacing.done()
    held.cancel()  # its caller has lost interest: so the call is cancelled, and the old instance is drained
    report = await replacing
    assert (report.carried_over, report.rolled_back) == (5, False)
    assert report.pause > 0
    assert report.total >= report.pause
    assert sorted(await asyncio.gather(*late)) == [1, 2, 3, 4, 5]
    assert await counter.version() == "two"


async def test_an_inline_swap_lets_running_calls_finish_on_the_old_version(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter")
    counter = kernel.get(Counter)
    old = counter.release  # kept by a caller: it must lead to the new version later
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    kept = counter.version
    instance = next(iter(kernel.space.instances.values()))
    replacing = asyncio.create_task(kernel.swap("counter", Tally2))
    await until_state(kernel, "counter", State.QUIESCING)
    late = asyncio.create_task(counter.version())
    await asyncio.sleep(0)
    instance.plugin.released.set()
    assert await held == "one"
    await replacing
    assert await late == "two"
    assert await kept() == "two", "a method that a caller has kept still leads to the old version"
    await old()


async def test_streams_go_on_through_a_swap(kernel: Kernel) -> None:
    """A stream that was begun is a call that runs: the swap waits for its end."""
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    stream = counter.numbers(300)
    seen = [await anext(stream)]
    replacing = asyncio.create_task(kernel.swap("counter", Tally2))
    seen += [number async for number in stream]
    assert seen == list(range(300))
    assert not (await replacing).rolled_back

    async def given() -> Any:
        for number in range(200):
            if number == 100:
                await kernel_is_swapping()
            yield number

    async def kernel_is_swapping() -> None:
        nonlocal replacing
        replacing = asyncio.create_task(kernel.swap("counter", Tally))
        await until_state(kernel, "counter", State.QUIESCING)

    assert [number async for number in counter.doubled(given())] == [2 * number for number in range(200)]
    await replacing
    assert await counter.version() == "one"


async def test_new_configuration_comes_with_a_swap_and_stays(kernel: Kernel) -> None:
    await kernel.load(Stateless, name="counter")
    await kernel.swap("counter", Tally, config={"start_at": 5})
    assert await kernel.get(Counter).value() == 5
    with pytest.raises(SwapFailed, match=r"config.start_at is 'x': Expected `int`, got `str`"):
        await kernel.swap("counter", Tally2, config={"start_at": "x"})
    with pytest.raises(SwapFailed, match=r"config.begin is unknown to Tally2; it takes: start_at"):
        await kernel.swap("counter", Tally2, config={"begin": 1})
    assert kernel.registry.entry("counter").options.config == {"start_at": 5}


# -- scale ------------------------------------------------------------------------------------------------------


async def test_scaling_under_load_loses_nothing(kernel: Kernel) -> None:
    await kernel.load(Stateless, name="counter", placement="process")
    counter, stop = kernel.get(Counter), asyncio.Event()
    callers = asyncio.create_task(load_callers(counter, stop, 16))
    for count in (3, 1, 4, 2, 1):
        report = await kernel.scale("counter", count)
        assert report.after == f"{count} replicas"
        assert report.ledger.lost == 0
        served_by = set(await asyncio.gather(*(counter.where() for _ in range(20 * count))))
        assert len(served_by) == count, "every replica has its share of the calls"
        assert len(kernel.places) == count
    stop.set()
    assert set(await callers) == {1}


async def test_a_call_that_begins_while_the_account_is_taken_is_not_lost(kernel: Kernel, whistle: Any) -> None:
    """The first call of a fresh instance, which had served nothing when it was asked."""
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    (place,) = kernel.places.values()
    count, held = place.count, []

    async def count_and_then_begin(key: str) -> Counts:
        counts = await count(key)
        held.append(asyncio.create_task(counter.hold(whistle.path)))
        await whistle.heard()
        return counts

    place.count = count_and_then_begin  # type: ignore[method-assign]
    assert (await kernel.ledger("counter")).lost == 0
    await counter.release()
    assert await held[0] == "one"


async def test_the_drain_of_a_swap_is_for_that_one_alone(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    quiesce, drains = RemotePlace.quiesce, []

    async def noted(place: RemotePlace, key: str, drain: float, save: bool) -> Any:
        drains.append(drain)
        return await quiesce(place, key, drain, save)

    monkeypatch.setattr(RemotePlace, "quiesce", noted)
    await kernel.load(Tally, name="counter", placement="process", drain=60.0)
    await kernel.swap("counter", Tally2, drain=5.0)
    await kernel.restart("counter")
    assert drains == [5.0, 60.0]
    assert kernel.registry.entry("counter").options.drain == 60.0


async def test_a_swap_replaces_every_replica(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=3)
    counter, stop = kernel.get(Counter), asyncio.Event()
    before = {await counter.where() for _ in range(12)}
    callers = asyncio.create_task(load_callers(counter, stop))
    assert not (await kernel.swap("counter", Tally2)).rolled_back
    stop.set()
    answered = len(await callers)
    after = {await counter.where() for _ in range(12)}
    assert (len(before), len(after), before & after) == (3, 3, set())
    assert {await counter.version() for _ in range(12)} == {"two"}
    # Least busy first, in turns: three calls that run together see each replica once, so its total.
    assert sum([await counter.value() for _ in range(3)]) == answered


async def test_a_swap_that_fails_at_the_second_replica_takes_the_first_back(kernel: Kernel, tmp_path: Path) -> None:
    """The new version can be built once and no more."""
    (tmp_path / "rare.py").write_text(
        "import os\n"
        "from core_samples import Tally\n"
        "class Rare(Tally):\n"
        "    label = 'rare'\n"
        "    def __init__(self) -> None:\n"
        "        super().__init__()\n"
        f"        os.mkdir({str(tmp_path / 'built')!r})\n"
    )
    await kernel.load(Tally, name="counter", placement="process", replicas=2)
    counter, stop = kernel.get(Counter), asyncio.Event()
    callers = asyncio.create_task(load_callers(counter, stop))
    with pytest.raises(SwapFailed, match="File exists"):
        await kernel.swap("counter", "rare.py:Rare", folder=str(tmp_path))
    stop.set()
    answered = len(await callers)
    assert {await counter.version() for _ in range(8)} == {"one"}
    assert sum([await counter.value() for _ in range(2)]) == answered
    assert len(kernel.places) == 2


async def test_what_cannot_be_scaled_says_why(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter")
    with pytest.raises(ContractError, match=r"runs inline.*move it to a process first"):
        await kernel.scale("counter", 2)
    for count in (0, 1_001, 1_000_000, True, "2", 2.0):  # how many there may be is asked for and not tried out
        problem = rf"replicas: got {count!r}, wanted a whole number of at least 1 and at most 1,000"
        with pytest.raises(ContractError, match=problem):
            await kernel.scale("counter", count)
        with pytest.raises(ContractError, match=problem):
            await kernel.load(Tally, name="other", placement="process", replicas=count)
    with pytest.raises(ContractError, match="replicas: got 2, wanted 1 for a plug-in that runs inline"):
        await kernel.load(Tally, name="other", replicas=2)
    await kernel.move("counter", "process")
    await kernel.scale("counter", 2)
    with pytest.raises(ContractError, match="has 2 replicas; scale it to 1 before it moves inline"):
        await kernel.move("counter", "inline")


async def test_a_plugin_with_only_def_methods_is_swapped_under_a_blocking_load(kernel: Kernel) -> None:
    await kernel.load(Arithmetic, name="plain", placement="process")
    plain = kernel.get(Plain, blocking=True)
    stop = asyncio.Event()

    def call() -> int:
        made = 0
        while not stop.is_set():
            assert plain.plus(made) == made + 1
            made += 1
        return made

    threads = [asyncio.create_task(asyncio.to_thread(call)) for _ in range(3)]
    for placement in ("process:a", "inline", "process", "inline", "process"):
        await kernel.move("plain", placement)
    stop.set()
    assert all(made > 0 for made in await asyncio.gather(*threads))


# -- state ------------------------------------------------------------------------------------------------------


class Ledgered(Interface):
    async def entries(self) -> dict[str, int]: ...
    async def put(self, key: str, value: int) -> None: ...


class LedgerOne(Plugin, Ledgered):
    """Version 1 of the state: a list of pairs."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, int]] = []

    async def entries(self) -> dict[str, int]:
        return dict(self.pairs)

    async def put(self, key: str, value: int) -> None:
        self.pairs.append((key, value))

    async def save(self) -> list[tuple[str, int]]:
        return self.pairs

    async def restore(self, state: list[tuple[str, int]]) -> None:
        self.pairs = state


class LedgerTwo(Plugin, Ledgered):
    """Version 2: a mapping; it can read version 1."""

    state_version = 2

    def __init__(self) -> None:
        self.mapping: dict[str, int] = {}

    async def entries(self) -> dict[str, int]:
        return self.mapping

    async def put(self, key: str, value: int) -> None:
        self.mapping[key] = value

    def save(self) -> dict[str, int]:
        return self.mapping

    def restore(self, state: dict[str, int], version: int) -> None:
        self.mapping = dict(state)


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_the_state_of_an_older_version_is_converted_a_newer_one_refused(kernel: Kernel, placement: str) -> None:
    await kernel.load(LedgerOne, name="ledger", placement=placement)
    ledger = kernel.get(Ledgered)
    await ledger.put("a", 1)
    await kernel.swap("ledger", LedgerTwo)
    await ledger.put("b", 2)
    assert await ledger.entries() == {"a": 1, "b": 2}
    with pytest.raises(SwapFailed, match="the state is of version 2, LedgerOne has version 1: give its restore"):
        await kernel.swap("ledger", LedgerOne)
    await ledger.put("c", 3)
    assert await ledger.entries() == {"a": 1, "b": 2, "c": 3}


async def test_a_version_without_state_takes_over_from_one_with_it_and_back(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", config={"start_at": 9})
    counter = kernel.get(Counter)
    await kernel.swap("counter", Stateless, config={})
    assert await counter.version() == "stateless"
    await kernel.swap("counter", Tally)
    assert await counter.value() == 0
