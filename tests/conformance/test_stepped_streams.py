"""`def` streams of plug-ins with threads: each step in one of them, the event loop free, nobody kept waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from conformance_worlds import World, between_processes

from mukernel import DeadlineExceeded, Interface, Kernel, Plugin, RemoteError, SwapFailed, deadline

POOL = "mukernel-method"  # what its threads are called
variable: ContextVar[int] = ContextVar("variable", default=0)


class Stepping(Interface, version="1.0"):
    """Streams that block, and what is known of them."""

    def blocked(self, items: int) -> Iterator[str]: ...
    def endless(self) -> Iterator[int]: ...
    def shout(self, words: AsyncIterator[str]) -> Iterator[str]: ...
    def given(self, what: str) -> Iterator[str]: ...
    def counted(self) -> Iterator[int]: ...
    def work(self) -> str: ...
    async def inside(self, streams: int) -> None: ...
    async def begun(self) -> int: ...
    async def let_go(self) -> None: ...
    async def closed(self, streams: int) -> list[str]: ...
    async def at_once(self) -> int: ...


class Closable:
    """An iterator that is no generator."""

    def __init__(self, closed: Callable[[], None]) -> None:
        self.left, self.close = 2, closed

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return threading.current_thread().name


class Steps(Plugin, Stepping):
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.free, self.changed = threading.Event(), asyncio.Condition()
        self.blocking, self.ended = 0, list[str]()

    def tell(self, change: Callable[[], object]) -> None:
        async def told() -> None:
            async with self.changed:
                change()
                self.changed.notify_all()

        asyncio.run_coroutine_threadsafe(told(), self.loop)

    def was_closed(self) -> None:
        name = threading.current_thread().name
        self.tell(lambda: self.ended.append(name))

    def one_more(self) -> None:
        self.blocking += 1

    def blocked(self, items: int) -> Iterator[str]:
        """The first item at once; each other one when it is let go on."""
        try:
            for number in range(items):
                if number:
                    self.tell(self.one_more)
                    assert self.free.wait(60)
                yield threading.current_thread().name
        finally:
            self.was_closed()

    def endless(self) -> Iterator[int]:
        number = 0
        try:
            while True:
                yield (number := number + 1)
        finally:
            self.was_closed()

    def shout(self, words: AsyncIterator[str]) -> Iterator[str]:
        yield threading.current_thread().name

    def given(self, what: str) -> Iterator[str]:
        """No generator."""
        if what == "asynchronous":
            return self.asynchronous()  # type: ignore[return-value]
        if what == "wrong":
            raise LookupError(threading.current_thread().name)
        if what == "blocked":
            self.tell(self.one_more)
            assert self.free.wait(60)
        return Closable(self.was_closed)

    async def asynchronous(self) -> AsyncIterator[str]:
        assert asyncio.get_running_loop() is self.loop
        for _ in range(2):
            yield threading.current_thread().name

    def counted(self) -> Iterator[int]:
        """A variable of its own, which it sets and resets in several steps."""
        token = variable.set(1)
        try:
            for _ in range(999):
                yield variable.get()
                variable.set(variable.get() + 1)
        finally:
            variable.reset(token)
            yield variable.get()

    def work(self) -> str:
        return threading.current_thread().name

    async def inside(self, streams: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.blocking >= streams)

    async def begun(self) -> int:
        return self.blocking

    async def let_go(self) -> None:
        self.free.set()

    async def closed(self, streams: int) -> list[str]:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.ended) >= streams)
        return self.ended

    async def at_once(self) -> int:
        return 1

    def save(self) -> list[str]:
        return self.ended

    def restore(self, ended: list[str]) -> None:
        self.ended = [*ended, "handed over"]


async def loaded(world: World, kernel: Kernel, threads: int) -> tuple[Stepping, Any]:
    """The plug-in, to be awaited, and for threads."""
    await kernel.load(Steps, name="steps", placement=world.placement, threads=threads)
    return kernel.get(Stepping), kernel.get(Stepping, blocking=True)


@between_processes
async def test_the_loop_is_free_while_steps_block(world: World, kernel: Kernel) -> None:
    steps, blocking = await loaded(world, kernel, 3)
    reading = [asyncio.create_task(asyncio.to_thread(list, blocking.blocked(3))) for _ in range(3)]
    await steps.inside(3)  # all at once
    await steps.let_go()
    found = await asyncio.gather(*reading)
    assert all(name.startswith(POOL) for names in found for name in names)
    assert [name[: len(POOL)] for name in await steps.closed(3)] == [POOL] * 3


@between_processes
async def test_a_channel_is_run_the_same(world: World, kernel: Kernel) -> None:
    _, blocking = await loaded(world, kernel, 1)
    (name,) = await asyncio.to_thread(lambda: list(blocking.shout(iter(()))))
    assert name.startswith(POOL)


@between_processes
async def test_every_step_has_the_same_context(world: World, kernel: Kernel) -> None:
    _, blocking = await loaded(world, kernel, 4)
    found = await asyncio.gather(*(asyncio.to_thread(list, blocking.counted()) for _ in range(3)))
    assert found == [[*range(1, 1000), 0]] * 3


@between_processes
async def test_what_waits_for_credit_holds_no_thread(world: World, kernel: Kernel) -> None:
    steps, blocking = await loaded(world, kernel, 1)
    streams = [blocking.endless() for _ in range(5)]
    for stream in streams:
        assert await asyncio.to_thread(next, stream) == 1
    assert (await asyncio.to_thread(blocking.work)).startswith(POOL)
    for stream in streams:
        assert await asyncio.to_thread(lambda each: [next(each) for _ in range(200)], stream) == [*range(2, 202)]
        await asyncio.to_thread(stream.close)
    assert [name[: len(POOL)] for name in await steps.closed(5)] == [POOL] * 5
    assert (await kernel.swap("steps", Steps)).ledger.running == 0


@between_processes
async def test_what_is_let_go_of_in_a_step_is_closed_after_it_and_a_swap_waits_for_that(
    world: World, kernel: Kernel
) -> None:
    steps, blocking = await loaded(world, kernel, 1)
    stream = blocking.blocked(2)
    assert (await asyncio.to_thread(next, stream)).startswith(POOL)
    await steps.inside(1)
    await asyncio.to_thread(stream.close)
    assert await steps.at_once() == 1
    with pytest.raises(SwapFailed, match="1 threads were still running"):
        await kernel.swap("steps", Steps, drain=0.02)
    swap = asyncio.create_task(kernel.swap("steps", Steps))
    await steps.let_go()
    await swap
    before, after = await steps.closed(1)
    assert before.startswith(POOL) and after == "handed over"
    assert (await asyncio.to_thread(blocking.work)).startswith(POOL)


@between_processes
async def test_a_step_that_blocks_outlives_no_deadline(world: World, kernel: Kernel) -> None:
    steps, blocking = await loaded(world, kernel, 2)
    await past_its_deadline(steps, lambda: list(blocking.blocked(2)))
    assert await steps.closed(0) == []
    await steps.let_go()
    assert (await steps.closed(1))[0].startswith(POOL)


async def past_its_deadline(steps: Stepping, read: Callable[[], object]) -> None:
    """Read what blocks until its deadline, which it had time to begin before."""

    def within(seconds: float) -> None:
        with deadline(seconds):
            read()

    for seconds in (0.2, 2, 20):
        with pytest.raises(DeadlineExceeded):
            await asyncio.to_thread(within, seconds)
        if await steps.begun():
            return
    raise AssertionError("it never began")


@between_processes
async def test_streams_and_calls_take_turns(world: World, kernel: Kernel) -> None:
    """One thread for all: of each there is always more than it can do."""
    steps, blocking = await loaded(world, kernel, 1)
    over, counts = threading.Event(), {"steps": 0, "calls": 0}
    enough = threading.Event()

    def count(what: str) -> None:
        counts[what] += 1
        if min(counts.values()) >= 300:
            enough.set()

    def read() -> None:
        for _ in blocking.endless():
            count("steps")
            if over.is_set():
                return

    def call() -> None:
        while not over.is_set():
            blocking.work()
            count("calls")

    working = [asyncio.create_task(asyncio.to_thread(each)) for each in (read, call) * 3]
    await asyncio.to_thread(enough.wait, 20)
    over.set()
    await asyncio.gather(*working)
    assert enough.is_set(), counts
    assert len(await steps.closed(3)) == 3


@between_processes
async def test_a_def_that_gives_an_iterator_runs_in_a_thread_itself(world: World, kernel: Kernel) -> None:
    steps, blocking = await loaded(world, kernel, 1)
    for what, closed in (("iterator", 1), ("asynchronous", 1), ("iterator", 2)):
        names = await asyncio.to_thread(lambda what: list(blocking.given(what)), what)
        assert [name.startswith(POOL) for name in names] == [what == "iterator"] * 2
        assert len(await steps.closed(closed)) == closed
    with pytest.raises(RemoteError, match=POOL):
        await asyncio.to_thread(lambda: list(blocking.given("wrong")))
    await past_its_deadline(steps, lambda: list(blocking.given("blocked")))
    await steps.let_go()
    assert (await steps.closed(3))[-1].startswith(POOL)
