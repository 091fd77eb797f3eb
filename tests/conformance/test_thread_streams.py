"""Streams that threads read: whichever of them does, and whichever lets go."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conformance_actor import Actor, Behaviour
from conformance_worlds import World, over, threaded

import mukernel
from mukernel import ContractError, Interface, Kernel, Plugin, SwapFailed
from mukernel.transports.context import current

FOREVER = 30  # seconds; nothing here takes as long


class Taking(Interface):
    """A `def` stream over a state."""

    def take(self, upto: int) -> Iterator[int]: ...
    async def taken(self) -> int: ...
    async def thread(self) -> int: ...


class Stateless(Plugin, Taking):
    """It hands nothing over: inline it is called directly, and not counted."""

    def __init__(self) -> None:
        self.total = self.ran_in = 0

    def take(self, upto: int) -> Iterator[int]:
        for _ in range(upto):
            self.ran_in = threading.get_ident()
            self.total += 1
            yield self.total

    async def taken(self) -> int:
        return self.total

    async def thread(self) -> int:
        return self.ran_in


class Taker(Stateless):
    def save(self) -> int:
        return self.total

    def restore(self, total: int) -> None:
        self.total = total


@threaded
async def test_a_stream_is_handed_from_thread_to_thread_while_all_of_them_call(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor: Any = kernel.get(Behaviour, blocking=True)
    loop, readers = asyncio.get_running_loop(), [ThreadPoolExecutor(1) for _ in range(3)]

    def call(number: int) -> None:
        with mukernel.deadline(FOREVER):
            actor.counted_to(number)  # whose answer comes while another thread reads what this one has begun

    def read(items: Iterator[int], count: int) -> list[int]:
        with mukernel.deadline(FOREVER):
            return [next(items) for _ in range(count)]

    try:
        for turn in range(5):
            streams = [actor.count(300) for _ in readers]
            got = [await loop.run_in_executor(readers[n], read, items, 1) for n, items in enumerate(streams)]
            calls = [loop.run_in_executor(reader, call, turn * 900 + 700) for reader in readers]
            rest = await asyncio.gather(*(asyncio.to_thread(read, items, 299) for items in streams))
            await asyncio.gather(*calls)
            assert [a + b for a, b in zip(got, rest, strict=True)] == [list(range(300))] * 3
    finally:
        for reader in readers:
            reader.shutdown(wait=False)


@threaded
@pytest.mark.parametrize("where", ["here", "there"])
@pytest.mark.parametrize("way", ["closed", "collected"])
async def test_any_thread_lets_go_of_a_stream_and_waits_for_nothing(
    world: World, kernel: Kernel, where: str, way: str
) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor: Any = kernel.get(Behaviour, blocking=True)
    held: list[Any] = []

    def begin() -> None:
        held.append(actor.hold())
        next(held[0])
        held.append(held)  # a cycle: only the collector finds it

    def let_go() -> None:
        nonlocal held
        with mukernel.deadline(FOREVER):
            if way == "closed":
                held[0].close()
            else:
                held = []
                gc.collect()
            context = current.get()
            assert context is not None and kernel.clock.now_ns() < context.deadline

    await asyncio.to_thread(begin)
    if where == "here":
        let_go()
    else:
        await asyncio.to_thread(let_go)
    await kernel.get(Behaviour).cancelled("hold")
    assert await asyncio.to_thread(actor.add, 1) == 1


@threaded
async def test_the_input_of_a_channel_is_iterated_by_the_thread_that_reads_it(world: World, kernel: Kernel) -> None:
    await kernel.load(Actor, placement=world.placement)
    actor: Any = kernel.get(Behaviour, blocking=True)

    def work() -> None:
        own = threading.get_ident()

        def words(count: int) -> Iterator[str]:
            for number in range(count):
                assert threading.get_ident() == own
                assert next(actor.count(1)) == 0  # it may block, and call
                yield f"word {actor.add(1) - number}"
            if count == 2:
                raise LookupError("no more words")

        with mukernel.deadline(FOREVER):
            assert list(actor.upper(words(100))) == ["WORD 1"] * 100
            assert list(actor.upper([])) == []
            assert list(actor.sum_first(3, iter(range(5)))) == [3]
            with pytest.raises(LookupError, match="no more words"):
                list(actor.upper(words(2)))
            for no_input in (7, None):
                with pytest.raises(ContractError, match=r"upper: parameter 'words': expected an iterator.*, got"):
                    list(actor.upper(no_input))

    await asyncio.to_thread(work)


@threaded
async def test_a_swap_waits_for_a_def_stream_that_a_thread_reads(world: World, kernel: Kernel) -> None:
    await kernel.load(Taker, name="taker", placement=world.placement, drain=0.02)
    taker: Any = kernel.get(Taking, blocking=True)
    items = taker.take(10_000)
    assert await asyncio.to_thread(next, items) == 1
    with pytest.raises(SwapFailed, match="still running"):
        await kernel.swap("taker", Taker)
    with pytest.raises(SwapFailed, match="still running"):
        await kernel.move("taker", "process:elsewhere")
    assert await asyncio.to_thread(list, items) == list(range(2, 10_001))
    if world.placement == "inline":
        assert await asyncio.to_thread(taker.thread) == threading.get_ident()
    await kernel.swap("taker", Taker)
    assert await asyncio.to_thread(taker.taken) == 10_000
    assert await asyncio.to_thread(next, items, None) is None


def inline(test: Callable[..., Any]) -> Callable[..., None]:
    return over([World("inline", "inline"), World("inline-strict", "inline", strict=True)], test)


@inline
async def test_a_swap_waits_for_a_def_stream_that_is_read_on_the_loops_own_thread(world: World, kernel: Kernel) -> None:
    await kernel.load(Taker, name="taker")
    taker = kernel.get(Taking)
    kept, items = taker.take, taker.take(3)
    assert next(items) == 1
    with pytest.raises(SwapFailed, match="still running"):
        await kernel.swap("taker", Taker, drain=0.02)
    assert list(items) == [2, 3]
    for let_go in (lambda each: each.close(), lambda each: None):
        items = taker.take(3)
        next(items)
        await asyncio.to_thread(let_go, items)  # in another thread: the loop is told
        del items
        gc.collect()
        await kernel.swap("taker", Taker)
    assert list(kept(2)) == [6, 7] and await taker.taken() == 7
    await kernel.move("taker", "process")
    assert list(kept(2)) == [8, 9]


@inline
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("kind", [Taker, Stateless])
async def test_a_def_stream_runs_on_the_loop_whoever_reads_it(
    world: World, kernel: Kernel, kind: type[Stateless], threads: int
) -> None:
    await kernel.load(kind, name="taker", threads=threads)
    taker: Any = kernel.get(Taking, blocking=True)
    items = taker.take(4)
    for reads in (asyncio.to_thread(next, items), asyncio.sleep(0, None)):
        await reads  # type: ignore[arg-type]
    assert next(items) == 2  # on its own thread at once
    assert await asyncio.to_thread(list, items) == [3, 4]
    assert await asyncio.to_thread(taker.thread) == threading.get_ident()
    before = taker.take(1)  # it begins when it is first read, wherever the plug-in is then
    await kernel.move("taker", "process")
    assert len(await asyncio.to_thread(list, before)) == 1


@threaded
async def test_a_def_stream_is_read_on_the_loops_own_thread(world: World, kernel: Kernel) -> None:
    await kernel.load(Taker, name="taker", placement=world.placement)
    assert list(kernel.get(Taking).take(200)) == list(range(1, 201))
