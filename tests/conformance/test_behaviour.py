"""The four interaction models, their limits and their ends mean the same wherever the plug-in runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conformance_actor import Actor, Behaviour, Refused, Relay, Relaying
from conformance_worlds import World, everywhere, isolated, threaded

import mukernel
from mukernel import ContractError, DeadlineExceeded, Kernel, Overloaded, PluginCrashed, RemoteError, Unavailable
from mukernel.transports.calling import STREAM_CREDIT


async def numbers(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


async def words(*some: str) -> AsyncIterator[str]:
    for word in some:
        yield word


@everywhere
async def test_request_and_response(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    assert [await actor.add(2) for _ in range(3)] == [2, 4, 6]
    assert sorted(await asyncio.gather(*(actor.add(1) for _ in range(200)))) == list(range(7, 207))


@everywhere
async def test_one_way_calls_arrive_in_order(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour, when_full="wait")
    for number in range(500):
        await actor.note(str(number))
    assert await actor.notes(at_least=500) == [str(number) for number in range(500)]


@everywhere
async def test_calls_of_one_caller_are_started_in_order(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour, when_full="wait")
    totals = await asyncio.gather(*(actor.add(1) for _ in range(400)))
    assert totals == list(range(1, 401))


@everywhere
async def test_streams(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    assert [number async for number in actor.count(1000)] == list(range(1000))
    assert [number async for number in actor.count(0)] == []
    several = await asyncio.gather(*(collect(actor.count(200)) for _ in range(5)))
    assert several == [list(range(200))] * 5


@everywhere
async def test_channels(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    assert await collect(actor.upper(words(*("abc" * 300)))) == [*("ABC" * 300)]
    assert await collect(actor.upper(words())) == []
    assert await collect(actor.sum_first(10, numbers(10**9))) == [45]


@everywhere
async def test_an_input_that_is_not_read_to_its_end_is_closed(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            for number in range(10**9):
                yield number
        finally:
            closed.set()

    gc.disable()  # what only the collector finds would be closed late
    try:
        assert await collect(actor.sum_first(3, endless())) == [3]
        await closed.wait()
    finally:
        gc.enable()
    closed.clear()
    kept = endless()  # which somebody holds, is theirs
    assert await collect(actor.sum_first(3, kept)) == [3]
    await anext(kept)
    assert not closed.is_set()
    await kept.aclose()


@everywhere
async def test_a_channel_whose_input_is_none_is_refused(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor: Any = kernel.get(Behaviour)
    for no_input in (None, 3):
        with pytest.raises(
            ContractError, match=r"Behaviour\.upper: parameter 'words': expected an.*iterator, got \w+$"
        ):
            await collect(actor.upper(no_input))
    with pytest.raises(ContractError, match="parameter 'words'"):
        await collect(actor.upper(words=None))
    assert await collect(actor.upper(words("a"))) == ["A"]


@everywhere
async def test_a_sender_runs_no_further_ahead_than_its_credit(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    stream = actor.count(10_000)
    assert await anext(stream) == 0
    if world.isolated:
        await actor.counted_to(STREAM_CREDIT)  # it does run ahead, up to there
    for _ in range(20):  # and no further, however often it is given the chance
        assert await actor.counted() <= STREAM_CREDIT + 1
    for number in range(1, 100):
        assert await anext(stream) == number
    for _ in range(20):
        assert await actor.counted() <= 100 + STREAM_CREDIT + 1
    await stream.aclose()  # type: ignore[attr-defined]


@everywhere
async def test_a_sender_of_inputs_runs_no_further_ahead_than_its_credit(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor, sent = kernel.get(Behaviour), 0

    async def endless() -> AsyncIterator[int]:
        nonlocal sent
        while True:
            sent += 1
            yield sent

    assert await collect(actor.sum_first(3, endless())) == [6]
    assert sent <= 3 + STREAM_CREDIT + 1


@everywhere
async def test_a_stream_that_is_left_is_cancelled(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    stream = actor.hold()
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await actor.cancelled("hold")


@everywhere
async def test_cancelling_a_call_cancels_the_method(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    call = asyncio.ensure_future(actor.hold_call("a"))
    await actor.held("a")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await actor.cancelled("a cancelled")
    assert await actor.add(1) == 1


@everywhere
async def test_a_deadline_ends_the_call_and_the_method(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    with pytest.raises(DeadlineExceeded):
        async with mukernel.deadline(0.3):
            await actor.hold_call("late")
    await actor.cancelled("late cancelled")
    with pytest.raises(DeadlineExceeded):
        async with mukernel.deadline(0.3):
            async for _ in actor.hold():
                pass
    await actor.cancelled("hold")
    with pytest.raises(DeadlineExceeded):
        async with mukernel.deadline(0):
            await actor.add(1)
            await asyncio.Event().wait()


@everywhere
async def test_a_deadline_that_is_set_by_with_means_the_same(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    with pytest.raises(DeadlineExceeded), mukernel.deadline(0.3):
        await actor.hold_call("late")
    await actor.cancelled("late cancelled")
    with pytest.raises(DeadlineExceeded), mukernel.deadline(0.3):
        async for _ in actor.hold():
            pass
    await actor.cancelled("hold")
    with pytest.raises(DeadlineExceeded), mukernel.deadline(0.3):
        await asyncio.gather(actor.hold_call("one"), actor.hold_call("two"))
    await asyncio.gather(actor.cancelled("one cancelled"), actor.cancelled("two cancelled"))
    with mukernel.deadline(60):
        assert await actor.add(1) == 1


@everywhere
async def test_a_deadline_holds_for_what_a_callee_calls(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement)
    await kernel.load(Relaying, placement=world.placement, grants=["Behaviour"])
    actor, relay = kernel.get(Behaviour), kernel.get(Relay)
    with pytest.raises(DeadlineExceeded), mukernel.deadline(0.5):
        async for _ in relay.hold():
            pass
    await actor.cancelled("hold")


@threaded
async def test_a_deadline_ends_a_call_that_blocks_a_thread(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor: Any = kernel.get(Behaviour, blocking=True)

    def work() -> None:
        assert actor.add(0) == 0  # there is a channel by now, so what follows is begun well before it is late
        with mukernel.deadline(0.3):
            with pytest.raises(DeadlineExceeded):
                actor.hold_call("late")
            with pytest.raises(DeadlineExceeded):
                actor.add(1)
        with pytest.raises(DeadlineExceeded), mukernel.deadline(0.3):
            list(actor.hold())
        with pytest.raises(DeadlineExceeded), mukernel.deadline(0):
            actor.add(1)
        with mukernel.deadline(60):
            assert list(actor.count(3)) == [0, 1, 2]
            assert actor.add(1) == 1  # those before were not begun

    await asyncio.to_thread(work)
    await kernel.get(Behaviour).cancelled("late cancelled")
    await kernel.get(Behaviour).cancelled("hold")


@everywhere
async def test_deadline_and_priority_travel(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    assert await actor.circumstances() == (False, 0)
    async with mukernel.deadline(60), mukernel.priority(-5):
        assert await actor.circumstances() == (True, -5)
    with mukernel.priority(100):
        assert await actor.circumstances() == (False, 100)
    assert await actor.circumstances() == (False, 0)


@everywhere
async def test_errors_carry_the_other_sides_traceback(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    if not world.codec:
        with pytest.raises(LookupError, match="nothing here"):
            await actor.fail("nothing here")
        return
    with pytest.raises(RemoteError, match="nothing here") as caught:
        await actor.fail("nothing here")
    assert caught.value.type_name == "LookupError"
    assert "conformance_actor.py" in caught.value.traceback and "raise LookupError(text)" in caught.value.traceback
    got: list[int] = []
    with pytest.raises(RemoteError, match="no more"):
        async for number in actor.fail_after(3):
            got.append(number)
    assert got == [0, 1, 2]


@everywhere
async def test_declared_exceptions_arrive_as_themselves(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    with pytest.raises(Refused, match="not today"):
        await kernel.get(Behaviour).refuse("not today")


@everywhere
async def test_a_result_of_the_wrong_type_is_the_plugins_error(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor = kernel.get(Behaviour)
    if world.codec:
        with pytest.raises(ContractError, match="wrong_result"):
            await actor.wrong_result()
    assert await actor.add(1) == 1


@isolated
async def test_a_full_mailbox_refuses_at_once_or_lets_wait(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement, concurrency=1)
    patient, actor = kernel.get(Behaviour, when_full="wait"), kernel.get(Behaviour)
    holding = actor.hold()
    await anext(holding)  # it runs, and nothing else may
    waiting = [asyncio.ensure_future(patient.add(1)) for _ in range(3000)]
    accepted, refused = [], 0
    for _ in range(3000):
        call = asyncio.ensure_future(actor.add(1))
        for _ in range(2):  # one that is refused has left the loop a turn
            await asyncio.sleep(0)
        if call.done():
            with pytest.raises(Overloaded, match="full"):
                await call
            refused += 1
        else:
            accepted.append(call)
    assert refused > 0 and len(accepted) > 50
    with pytest.raises(DeadlineExceeded):
        async with mukernel.deadline(0.02):
            await patient.add(1)
    await holding.aclose()  # type: ignore[attr-defined]
    totals = await asyncio.gather(*accepted, *waiting)
    assert sorted(totals) == list(range(1, len(totals) + 1))


@isolated
async def test_a_process_that_dies_while_it_runs_a_call(world: World, kernel: Kernel, tmp_path: Path) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement, sandbox=world.writing(tmp_path))
    actor = kernel.get(Behaviour)
    once = asyncio.ensure_future(actor.hold_call("x"))
    again = asyncio.ensure_future(actor.hold_once(str(tmp_path / "mark")))
    await asyncio.gather(actor.held("x"), actor.held("once"))
    await world.kill(kernel, "actor")
    with pytest.raises(PluginCrashed, match="hold_call"):
        await once
    assert await again == "run again"
    assert await actor.add(1) == 1


@isolated
async def test_a_process_that_dies_before_it_takes_a_call(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement, concurrency=1)
    actor = kernel.get(Behaviour)
    holding = actor.hold()
    await anext(holding)
    waiting = [asyncio.ensure_future(actor.add(1)) for _ in range(50)]
    await actor.note("kept")
    channel = asyncio.ensure_future(collect(actor.upper(words(*"abc"))))
    await asyncio.sleep(0)
    await world.kill(kernel, "actor")
    with pytest.raises(PluginCrashed):
        await anext(holding)
    assert await asyncio.gather(*waiting) == list(range(1, 51))
    assert await actor.notes() == ["kept"]
    assert await channel == ["A", "B", "C"]
    assert (await kernel.ledger("actor")).lost == 0


@isolated
async def test_a_process_that_dies_in_the_middle_of_streams(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement)
    actor = kernel.get(Behaviour)
    stream, fed = actor.count(10**9), asyncio.Event()

    async def never_ending() -> AsyncIterator[str]:
        yield "a"
        fed.set()
        await asyncio.Event().wait()

    channel = actor.upper(never_ending())
    assert await anext(stream) == 0 and await anext(channel) == "A"
    await world.kill(kernel, "actor")
    with pytest.raises(PluginCrashed):
        async for _ in stream:
            pass
    with pytest.raises(PluginCrashed):
        await anext(channel)
    assert await actor.add(1) == 1


@isolated
async def test_a_process_that_dies_after_its_reply(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement)
    actor = kernel.get(Behaviour)
    for _ in range(3):
        assert await actor.add(1) == 1
        restarted = world.expect(kernel, "restart")
        await world.kill(kernel, "actor")
        await restarted
    assert await actor.add(1) == 1
    assert (await kernel.ledger("actor")).lost == 0


@isolated
async def test_a_caller_that_dies_ends_what_it_asked_for(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement)
    await kernel.load(Relaying, name="relay", placement="process")
    actor, relay = kernel.get(Behaviour), kernel.get(Relay)
    stream = relay.hold()
    await anext(stream)
    await world.kill(kernel, "relay")
    with pytest.raises(PluginCrashed):
        await anext(stream)
    await actor.cancelled("hold")
    assert await actor.add(1) == 1


@isolated
async def test_unloading_answers_everybody(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement, concurrency=1, drain=0.02)
    actor = kernel.get(Behaviour)
    holding = actor.hold()
    await anext(holding)
    waiting = [asyncio.ensure_future(actor.add(1)) for _ in range(20)]
    await asyncio.sleep(0)
    await kernel.unload("actor")
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(end, Unavailable | PluginCrashed) for end in ends), ends
    with pytest.raises((Unavailable, PluginCrashed, StopAsyncIteration)):
        await anext(holding)
    with pytest.raises(Unavailable, match="unloaded"):
        await actor.add(1)


async def collect(stream: AsyncIterator[object]) -> list[object]:
    async with contextlib.aclosing(stream) as items:  # type: ignore[type-var]
        return [item async for item in items]
