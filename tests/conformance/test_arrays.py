"""Large values arrive whole, whatever way they go; and between processes they go as handles."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import numpy
import pytest
from conformance_arrays import Arrays, First, Holder, Once, Relay, Waiting, frames
from conformance_worlds import World, between_processes, everywhere, threaded

from mukernel import Buffer, Kernel, MukernelError, Overloaded, deadline, shared
from mukernel.core.status import Status
from mukernel.core.stopped import StoppedPlugins
from mukernel.transports.calling import STREAM_CREDIT
from mukernel.transports.segment import account, address_of, segment_at

LARGE = 1 << 20  # bytes


async def arrays(world: World, kernel: Kernel) -> Arrays:
    await kernel.load(Holder, name="holder", placement=world.placement)
    return kernel.get(Arrays)


def lies_in_shared_memory(array: numpy.ndarray) -> bool:
    return segment_at(array.__array_interface__["data"][0], array.nbytes) is not None


@everywhere
async def test_large_values_arrive_as_they_were(world: World, kernel: Kernel) -> None:
    holder = await arrays(world, kernel)
    plain = numpy.arange(LARGE // 8, dtype="f8").reshape(256, -1)
    for sent in (
        plain,
        plain.T,
        plain[::2],
        plain[:, 3:9000:7],
        plain[10:],
        plain.astype("M8[us]"),
        plain.astype("U4"),
    ):
        got = await holder.echo(sent)
        assert got.dtype == sent.dtype and got.shape == sent.shape
        assert (got == sent).all()
    content = Buffer(bytes(range(256)) * 4096)
    assert await holder.buffer(content) == content
    several = await holder.many([plain, plain[:1], plain.T])
    assert [(several[str(n)] == each).all() for n, each in enumerate((plain, plain[:1], plain.T))] == [True] * 3
    assert (await holder.anything({"deep": [plain]}))["deep"][0].sum() == plain.sum()
    assert kernel.get(Arrays).total(plain) == plain.sum()


@everywhere
async def test_streams_and_channels_carry_them(world: World, kernel: Kernel) -> None:
    holder = await arrays(world, kernel)
    assert [int(item[-1]) async for item in holder.items(200, LARGE // 8)] == list(range(200))

    async def given() -> AsyncIterator[numpy.ndarray]:
        for frame in frames(200, LARGE // 8):
            yield frame

    assert [int(item[-1]) async for item in holder.each(given())] == list(range(200))


@threaded
async def test_threads_send_and_receive_them(world: World, kernel: Kernel) -> None:
    await arrays(world, kernel)
    holder = kernel.get(Arrays, blocking=True)

    def work() -> None:
        frame = numpy.arange(LARGE, dtype="u1")
        assert (holder.echo(frame) == frame).all()
        assert [int(item[-1]) for item in holder.items(150, LARGE // 8)] == list(range(150))
        assert [int(item[-1]) for item in holder.each(frames(150, LARGE // 8))] == list(range(150))
        for item in holder.items(150, LARGE // 8):  # and the rest is let go of
            assert item.sum() == 0
            break

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(2)))


@everywhere
async def test_more_than_a_message_has_room_for(world: World, kernel: Kernel) -> None:
    """Of segments: what is beyond them travels as bytes."""
    holder = await arrays(world, kernel)
    several = await holder.many([numpy.full(1 << 16, number % 251, "u1") for number in range(300)])
    assert [int(several[str(number)][-1]) for number in range(300)] == [number % 251 for number in range(300)]


@everywhere
async def test_more_messages_wait_than_a_lane_has_room_for(world: World, kernel: Kernel) -> None:
    holder = await arrays(world, kernel)
    got = await asyncio.gather(*(holder.echo(numpy.full(1 << 16, number % 251, "u1")) for number in range(900)))
    assert [int(each[-1]) for each in got] == [number % 251 for number in range(900)]


@everywhere
async def test_a_swap_and_a_move_leave_them_to_the_successor(world: World, kernel: Kernel) -> None:
    holder = await arrays(world, kernel)
    calls = [asyncio.ensure_future(holder.echo(numpy.full(1 << 17, number, "u1"))) for number in range(100)]
    await asyncio.sleep(0)
    await kernel.swap("holder", Holder)
    assert [int((await call)[-1]) for call in calls] == list(range(100))


@between_processes
async def test_between_processes_nothing_is_copied(world: World, kernel: Kernel) -> None:
    """The pages that a receiver looks into are those that the maker wrote."""
    holder = await arrays(world, kernel)
    mine = shared.empty(LARGE, "u1")
    early = mine[:]
    mine[:] = 1
    got = await holder.echo(mine)
    assert lies_in_shared_memory(got)
    early[5] = 99  # not to be done; it shows that the memory is one and the same
    assert got[5] == 99
    assert not mine.flags.writeable and not got.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        mine[0] = 3
    with pytest.raises(ValueError):
        got.flags.writeable = True


@between_processes
async def test_passing_on_through_three_plugins_copies_nothing(world: World, kernel: Kernel) -> None:
    """Nor does a slice of what has come."""
    await kernel.load(Holder, name="holder", placement=world.placement)
    await kernel.load(First, name="first", placement="process")
    mine = shared.empty(LARGE, "u1")
    early = mine[:]
    got = await kernel.get(Relay).on(mine)
    again = await kernel.get(Relay).on(got[100:-100])
    early[1000] = 42
    assert got[1000] == again[900] == 42


@between_processes
async def test_what_a_plugin_makes_in_place_arrives_without_a_copy(world: World, kernel: Kernel) -> None:
    got = await (await arrays(world, kernel)).made(LARGE)
    assert lies_in_shared_memory(got) and got.sum() == 7 * LARGE


@between_processes
async def test_a_buffer_and_a_slice_of_it_are_passed_on_by_handle(world: World, kernel: Kernel) -> None:
    holder = await arrays(world, kernel)
    mine = shared.buffer(LARGE)
    mine.view[:] = b"\x05" * LARGE
    got = await holder.buffer(mine)
    part = await holder.buffer(Buffer(got.view[10:-10]))
    assert segment_at(address_of(part.view), len(part)) is not None
    mine.view[20] = 6
    assert got.view[20] == part.view[10] == 6


@between_processes
async def test_memory_is_free_when_the_last_holder_lets_go(world: World, kernel: Kernel) -> None:
    holder = await arrays(world, kernel)
    before = shared.held()
    got = [await holder.echo(numpy.full(LARGE, number, "u1")) for number in range(5)]
    assert shared.held() - before == 5 * LARGE
    assert await holder.held() == 0  # the results were sent and let go of
    part = got[3][10:20]
    del got
    gc.collect()
    assert shared.held() - before == LARGE  # a slice keeps the whole of its segment
    assert part.sum() == 30
    del part
    assert shared.held() == before


@between_processes
async def test_what_nobody_reads_is_let_go_of(world: World, kernel: Kernel) -> None:
    """A call that is cancelled, a stream that is left."""
    holder = await arrays(world, kernel)
    before = shared.held()
    for _ in range(20):
        call = asyncio.ensure_future(holder.echo(numpy.zeros(LARGE, "u1")))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    stream = holder.items(60, LARGE // 8)
    async for item in stream:
        assert item.sum() == 0
        break
    await stream.aclose()
    del call, item, stream
    await holder.echo(numpy.zeros(LARGE, "u1"))
    while shared.held() > before:  # the loop has a turn or two to take; else this never ends
        gc.collect()
        await holder.held()


@between_processes
async def test_what_waits_in_the_mailbox_of_a_killed_process_arrives(world: World, kernel: Kernel) -> None:
    """Calls that were not started are run by the successor, with their memory; one-way calls, too."""
    holder = await arrays(world, kernel)
    world.stop(kernel, "holder")
    for _ in range(3):
        await holder.keep(numpy.full(LARGE, 2, "u1"))
    kept = asyncio.ensure_future(holder.kept())
    await asyncio.sleep(0)
    await world.kill(kernel, "holder")
    assert await kept == 2.0 * LARGE


@between_processes
async def test_the_quota_is_an_answer(world: World, kernel: Kernel) -> None:
    await kernel.load(Holder, name="holder", placement=world.placement, shared_memory=3 * LARGE)
    holder = kernel.get(Arrays)
    with pytest.raises(Overloaded, match=r"shared_memory\) is 3,145,728"):
        await holder.made(4 * LARGE)
    with pytest.raises(Overloaded, match=r"no room for 4,194,304 bytes more"):
        await holder.echo(numpy.zeros(4 * LARGE, "u1"))
    await holder.keep(numpy.ones(2 * LARGE, "u1"))
    assert await holder.kept() == 2 * LARGE
    with pytest.raises(Overloaded, match=r"process \d+ holds 2,097,152"):
        await holder.echo(numpy.zeros(2 * LARGE, "u1"))
    assert (await holder.echo(numpy.ones(LARGE, "u1"))).sum() == LARGE  # and it goes on


@between_processes
async def test_a_call_that_failed_holds_nothing(world: World, kernel: Kernel) -> None:
    """Not until the collector comes: the errors do not lead back to what was sent."""
    await kernel.load(Holder, name="holder", placement=world.placement, shared_memory=3 * LARGE)
    holder = kernel.get(Arrays)
    before = shared.held()
    gc.disable()
    try:
        for failing in (
            lambda: holder.many([numpy.zeros(LARGE, "u1") for _ in range(4)]),
            lambda: anext(holder.refused(numpy.zeros(LARGE, "u1"))),
        ):
            with pytest.raises(MukernelError):
                await failing()
            await asyncio.sleep(0)  # the loop itself has the error until its step has ended
            assert shared.held() == before
            assert await holder.held() == 0
            with deadline(60), pytest.raises(MukernelError):
                await failing()
            await asyncio.sleep(0)
            assert shared.held() == before
    finally:
        gc.enable()


@between_processes
async def test_a_stream_is_held_back_by_the_quota(world: World, kernel: Kernel) -> None:
    await kernel.load(Holder, name="holder", placement=world.placement, shared_memory=3 * LARGE)
    holder = kernel.get(Arrays)
    count = 0
    async for item in holder.items(40, LARGE):
        assert item[-1] == count
        count += 1
        sum(range(50_000))  # what keeps the loop keeps the items on their way
        del item
    assert count == 40


@between_processes
async def test_streams_share_a_quota(world: World, kernel: Kernel) -> None:
    """More streams than the quota has room for items: those that wait to be read on keep nothing from the others."""
    await kernel.load(Holder, name="holder", placement=world.placement, shared_memory=LARGE)
    holder = kernel.get(Arrays)
    streams = [holder.items(STREAM_CREDIT + 10, LARGE // 4) for _ in range(6)]
    for stream in streams:
        assert (await anext(stream))[-1] == 0
    for stream in streams:
        assert [int(item[-1]) async for item in stream] == list(range(1, STREAM_CREDIT + 10))


@between_processes
async def test_an_item_beyond_the_quota_ends_its_stream(world: World, kernel: Kernel) -> None:
    await kernel.load(Holder, name="holder", placement=world.placement, shared_memory=3 * LARGE)
    with pytest.raises(Overloaded, match="its quota"):
        async for _ in kernel.get(Arrays).items(4, 4 * LARGE):
            pass


@between_processes
async def test_what_goes_into_a_stream_is_held_back_by_the_quota(
    world: World, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = await arrays(world, kernel)
    await holder.echo(numpy.zeros(LARGE, "u1"))
    gc.collect()
    monkeypatch.setattr(account, "limit", account.held + 3 * LARGE)

    async def given() -> AsyncIterator[numpy.ndarray]:
        for frame in frames(40, LARGE):
            yield frame

    assert [last async for last in holder.lasts(given())] == list(range(40))


@threaded
async def test_what_a_thread_puts_into_a_stream_is_held_back_by_the_quota(
    world: World, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await arrays(world, kernel)
    holder = kernel.get(Arrays, blocking=True)
    gc.collect()
    monkeypatch.setattr(account, "limit", account.held + 3 * LARGE)
    assert await asyncio.to_thread(lambda: [*holder.lasts(frames(40, LARGE))]) == list(range(40))


@between_processes
async def test_what_replicas_in_one_process_hold_counts_once(world: World, kernel: Kernel) -> None:
    placement = f"{world.placement.partition(':')[0]}:shared"
    await kernel.load(Holder, name="holder", placement=placement, replicas=2)
    await kernel.get(Arrays).keep(numpy.ones(LARGE, "u1"))
    look = Status(kernel, StoppedPlugins(kernel))
    while not (status := await look.named("holder")).segments:  # it is one-way
        pass
    assert len(status.pids) == 1 and (status.segments, status.shared_memory) == (1, LARGE)


@between_processes
async def test_a_process_with_little_memory_of_its_own_receives_large_arrays(world: World, kernel: Kernel) -> None:
    """What is mapped read-only is not its private memory, which `memory` bounds."""
    placement = "process"  # each has its own limit
    await kernel.load(Holder, name="holder", placement=placement, memory=256 << 20)
    large = numpy.ones(300 << 20, "u1")
    got = await kernel.get(Arrays).echo(large)
    assert got.nbytes == large.nbytes and got[-1] == 1


@between_processes
async def test_an_interrupted_idempotent_call_is_sent_again_with_its_memory(world: World, kernel: Kernel) -> None:
    await kernel.load(Holder, name="holder", placement=world.placement)
    await kernel.load(Waiting, name="waiting", placement="process")
    waiting = kernel.get(Once)
    call = asyncio.ensure_future(waiting.sum_once_killed(numpy.ones(LARGE, "u1")))
    while await kernel.get(Arrays).kept() < 0:  # it has begun
        pass
    await world.kill(kernel, "waiting")
    assert await call == LARGE
