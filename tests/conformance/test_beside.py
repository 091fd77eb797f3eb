"""What calls that are being run need, to go on and to end, comes past those that wait."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from conformance_actor import Actor, Behaviour
from conformance_wires import Peer, pair
from conformance_worlds import World, between_processes, isolated

from mukernel import Interface, Kernel, Plugin, PluginCrashed, RestartPolicy
from mukernel.kernel import ipc
from mukernel.transports.calling import STREAM_CREDIT
from mukernel.transports.carriers import ledger
from mukernel.transports.kind import Kind

if ipc.ring is not None:
    from mukernel.transports.ring import BlockingRingWire

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


# -- and what they are answered, whoever goes meanwhile ------------------------------------------------------------


class Large(Interface):
    async def large(self, size: int) -> bytes: ...


class Maker(Plugin, Large):
    async def large(self, size: int) -> bytes:
        return bytes(size)


@isolated
async def test_replies_that_wait_for_room_are_sent_before_a_swap(world: World, kernel: Kernel) -> None:
    """More of them than a channel holds."""
    await kernel.load(Maker, name="maker", placement=world.placement)
    maker, stop, answered = kernel.get(Large), False, 0

    async def caller() -> None:
        nonlocal answered
        while not stop:
            assert len(await maker.large(30_000)) == 30_000
            answered += 1

    callers = [asyncio.create_task(caller()) for _ in range(32)]
    for _ in range(10):
        before = answered
        report = await kernel.swap("maker", Maker)
        assert report.ledger.lost == 0
        while answered < before + 32:  # noqa: ASYNC110 - they do it
            await asyncio.sleep(0)
    stop = True
    await asyncio.gather(*callers)


@between_processes
async def test_no_caller_hangs_whose_reply_had_no_room_when_the_process_died(world: World, kernel: Kernel) -> None:
    await kernel.load(Maker, name="maker", placement=world.placement)
    maker = kernel.get(Large)
    assert await maker.large(1) == b"\0"
    (channel,) = kernel.registry.entry("maker").replicas[0].port.channels.values()
    calls = [asyncio.create_task(maker.large(30_000)) for _ in range(40)]
    await asyncio.sleep(0)
    while ledger(channel)[1] < 1 + len(calls):  # until it has begun them all; our loop stands still, and reads nothing
        os.sched_yield()
    await world.kill(kernel, "maker")
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in ended} <= {bytes, PluginCrashed}
    assert await maker.large(2) == b"\0\0"


async def test_a_cancellation_does_not_overtake_its_call(tmp_path: Path) -> None:
    """It comes beside while a burst is over, its call not looked at yet; or while its call waits to be sent again."""
    pytest.importorskip("mukernel.kernel.ring")
    async with pair("ring", tmp_path) as wires:
        peer = Peer(wires)
        assert await peer.call("add", 1) == 1
        peer.server.burst.over = True  # the loop's turn
        waiting = asyncio.ensure_future(peer.call("hold_call", "x"))
        await asyncio.sleep(0)
        assert not peer.server.running
        (number,) = peer.caller.pending
        assert wires.caller.beside.beside.send(Kind.CANCEL, number, b"")  # type: ignore[attr-defined]
        beside = wires.server.receivers[1].owner  # type: ignore[attr-defined]
        beside.receiver(beside)
        assert wires.server.ledger() == (2, 2, 1, 1)  # it is not begun
        peer.server.burst.turn()
        assert await peer.call("add", 1) == 2
        assert not peer.server.running and not wires.server.overtaken
        assert wires.server.ledger() == (3, 3, 2, 1)
        waiting.cancel()

        wires.caller.outbox.append(((Kind.CALL, 77, b""), lambda: None))  # as after an interruption, without room
        wires.caller.post(Kind.CANCEL, 77, b"")
        assert not wires.caller.outbox
        assert await peer.call("add", 1) == 3


@between_processes
async def test_a_thread_hears_that_a_process_died_for_good_which_had_no_room_for_its_input(
    world: World, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kernel.load(Actor, name="actor", placement=world.placement, restart=RestartPolicy(intensity=0))
    actor, ended = kernel.get(Behaviour, blocking=True), kernel.loop.create_future()
    given = 0
    no_room = threading.Event()
    if ipc.ring is not None:  # else credit alone sets bounds to it
        wait_for_room = BlockingRingWire.wait_for_room
        monkeypatch.setattr(BlockingRingWire, "wait_for_room", lambda *a: (no_room.set(), wait_for_room(*a)))

    def words() -> Iterator[str]:
        nonlocal given
        world.stop(kernel, "actor")  # it has given credit, and takes nothing
        while True:
            given += 1
            yield LARGE

    def send() -> None:
        try:
            outcome: object = list(actor.upper(words()))
        except BaseException as error:
            outcome = error
        kernel.loop.call_soon_threadsafe(ended.set_result, outcome)

    threading.Thread(target=send, daemon=True).start()
    async with asyncio.timeout(60):
        while not no_room.is_set() and given < STREAM_CREDIT:  # noqa: ASYNC110 - the thread tells nobody
            await asyncio.sleep(0)
        await world.kill(kernel, "actor")
        outcome = await ended
    assert isinstance(outcome, PluginCrashed) and "while it ran this call" in str(outcome)
