"""Code without an event loop: `def` methods and blocking proxies, in threads, on the loop's own, across processes."""

import asyncio
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from core_faulty import Cancelling, Cancels
from core_samples import (
    Arithmetic,
    BlockingUser,
    Counter,
    Plain,
    Reading,
    StreamUser,
    Tally,
    Tally2,
    Through,
)
from waiting import until_state

from mukernel import DeadlineExceeded, Kernel, RemoteError, deadline
from mukernel.core.lifecycle import State
from mukernel.mesh.route import MOST_IDLE

PLACEMENTS = ("inline", "process")


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_def_methods_block_on_the_loops_thread_and_in_others(kernel: Kernel, placement: str) -> None:
    await kernel.load(Arithmetic, placement=placement)
    plain = kernel.get(Plain)
    assert plain.plus(1) == 2
    assert plain.plus(1, b=5) == 6
    results = await asyncio.gather(*(asyncio.to_thread(plain.plus, number, 10) for number in range(20)))
    assert results == [number + 10 for number in range(20)]


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_blocking_proxy_makes_async_methods_and_streams_block(kernel: Kernel, placement: str) -> None:
    await kernel.load(Tally, name="counter", placement=placement)
    counter: Any = kernel.get(Counter, blocking=True)

    def work() -> list[Any]:
        counter.note(3)
        with pytest.raises(RemoteError if placement == "process" else LookupError, match="lost"):
            counter.fail("lost")
        return [counter.add(1), list(counter.numbers(200))[-1], list(counter.doubled([1, 2, 3])), counter.where()]

    *results, where = await asyncio.to_thread(work)
    assert results == [4, 199, [2, 4, 6]]
    assert (where == os.getpid()) == (placement == "inline")


async def test_a_blocking_call_that_could_never_end_is_refused(kernel: Kernel) -> None:
    """An async method in this very process, called from the thread that would have to run it."""
    await kernel.load(Tally, name="counter")
    with pytest.raises(RuntimeError, match=r"on the event loop's own thread.*await it, or call from another thread"):
        kernel.get(Counter, blocking=True).value()  # type: ignore[unused-coroutine]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_blocking_call_while_the_loop_does_not_run_is_refused_on_its_own_thread(placement: str) -> None:
    """A program that drives its loop itself. Another thread waits until the loop runs again."""
    with asyncio.Runner() as runner:
        kernel = runner.run(opened())
        runner.run(kernel.load(Arithmetic, placement=placement))
        plain: Any = kernel.get(Plain, blocking=True)
        with pytest.raises(RuntimeError, match="the kernel's event loop does not run"):
            plain.plus(1)
        with ThreadPoolExecutor(1) as threads:
            elsewhere = threads.submit(plain.plus, 1)
            assert runner.run(ended(elsewhere)) == 2
        runner.run(kernel.close())


async def opened() -> Kernel:
    return await Kernel().__aenter__()


async def ended(future: Future[int]) -> int:
    return await asyncio.wrap_future(future)


async def test_a_thread_with_a_deadline_does_not_wait_for_a_loop_that_stands_still(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter")
    counter: Any = kernel.get(Counter, blocking=True)
    ended = threading.Event()

    def late() -> None:
        try:
            with pytest.raises(DeadlineExceeded), deadline(0.02):
                counter.add(1)
        finally:
            ended.set()

    call = asyncio.create_task(asyncio.to_thread(late))
    await asyncio.sleep(0)
    assert ended.wait(10)  # the loop has no turn until then
    await call
    assert await asyncio.to_thread(counter.value) == 0  # nobody waited for it any more: it was not begun


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_method_that_awaits_what_was_cancelled_fails_and_nothing_else_ends(
    kernel: Kernel, placement: str
) -> None:
    await kernel.load(Cancels, name="cancels", placement=placement)
    cancels: Any = kernel.get(Cancelling, blocking=True)

    def work() -> None:
        for _ in range(2):
            with pytest.raises(RemoteError) as raised:
                cancels.once()
            assert raised.value.type_name == "CancelledError"
            assert "core_faulty.py" in raised.value.traceback
            items = cancels.items()
            assert next(items) == 1
            with pytest.raises(RemoteError, match="CancelledError"):
                next(items)

    await asyncio.to_thread(work)


async def test_def_methods_run_one_at_a_time_and_in_a_pool_as_many_as_it_has(kernel: Kernel) -> None:
    await kernel.load(Arithmetic, name="actor", placement="process")
    plain, loop = kernel.get(Plain), asyncio.get_running_loop()
    with ThreadPoolExecutor(4) as pool:
        assert set(await asyncio.gather(*(loop.run_in_executor(pool, plain.most_at_once, 0) for _ in range(50)))) == {1}
    assert plain.thread() == "MainThread"
    await kernel.unload("actor")
    await kernel.load(Arithmetic, name="pooled", placement="process", threads=4)
    plain = kernel.get(Plain)
    with ThreadPoolExecutor(4) as pool:  # each of the four waits until all of them are inside
        assert await asyncio.gather(*(loop.run_in_executor(pool, plain.most_at_once, 4) for _ in range(4))) == [4] * 4
        assert (await loop.run_in_executor(pool, plain.thread)).startswith("mukernel-method")


@pytest.mark.parametrize("threads", [0, 3])
async def test_a_blocked_kernel_keeps_no_thread_of_a_plugin_from_its_first_call(kernel: Kernel, threads: int) -> None:
    """The kernel's own thread waits for a call that makes blocking calls in turn: nobody can be connected meanwhile."""
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(Arithmetic, name="plain", placement="process")
    await kernel.load(BlockingUser, name="through", placement="process", threads=threads)
    through = kernel.get(Through)

    def call() -> None:
        with deadline(10):
            assert through.plus_two(1) == 3

    call()
    for change in (
        kernel.move("plain", "process:shared"), kernel.swap("plain", Arithmetic), kernel.swap("through", BlockingUser),
    ):  # fmt: skip
        await change
        call()
    for replicas in (2, 1) * 5:
        scaling = asyncio.create_task(kernel.scale("plain", replicas))
        while not scaling.done():  # whatever it is doing, the kernel stands still now
            call()
            await asyncio.sleep(0)
        await scaling


async def test_a_blocked_kernel_keeps_no_thread_of_a_plugin_from_its_first_stream(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(StreamUser, name="reader", placement="process")
    reader = kernel.get(Reading)
    for change in (kernel.move("counter", "process:shared"), kernel.swap("reader", StreamUser)):
        with deadline(10):
            assert reader.of_numbers(4) == 6
        await change


async def test_a_thread_that_sends_to_a_mailbox_which_was_just_closed_is_sent_on(kernel: Kernel) -> None:
    """It had looked up its channel, and was overtaken by a scale before it sent."""
    await kernel.load(Arithmetic, name="plain", placement="process", replicas=2)
    plain: Any = kernel.get(Plain)

    def callers() -> list[Any]:
        return [plain._mukernel_route.surroundings.connect_thread(plain._mukernel_route, turn) for turn in range(2)]

    stale = await asyncio.to_thread(callers)
    await kernel.scale("plain", 1)

    def call() -> int:
        answers = 0
        for caller in stale:
            plain._mukernel_route.thread.caller = caller
            with deadline(10):
                answers += plain.plus(1)
        return answers

    assert await asyncio.to_thread(call) == 4


async def test_a_stream_of_a_mailbox_which_was_just_closed_is_begun_elsewhere(kernel: Kernel) -> None:
    """Its caller had been kept from a stream before, and was overtaken by a scale."""
    await kernel.load(Tally, name="counter", placement="process", replicas=2)
    counter: Any = kernel.get(Counter, blocking=True)
    route = counter._mukernel_route
    stale = await asyncio.to_thread(lambda: [route.surroundings.connect_thread(route, turn) for turn in range(2)])
    await kernel.scale("counter", 1)
    route.thread.idle += stale
    streams = [counter.numbers(3), counter.doubled([1, 2])]
    first = await asyncio.to_thread(lambda: [next(each) for each in streams])
    assert (first, [list(each) for each in streams]) == ([0, 2], [[1, 2], [4]])


async def test_streams_keep_few_channels_when_they_end_and_none_that_is_in_use(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter: Any = kernel.get(Counter, blocking=True)
    channels = kernel.registry.entry("counter").replicas[0].port.channels

    def work() -> int:
        for _ in range(5):
            assert list(counter.numbers(2)) == [0, 1]
        one_after_the_other = len(channels)
        streams = [counter.numbers(1000) for _ in range(20)]
        assert [next(each) for each in streams] == [0] * 20
        assert len(channels) == one_after_the_other + 19
        assert [sum(1 for _ in each) for each in streams] == [999] * 20
        return one_after_the_other

    assert await asyncio.to_thread(work) == 3  # the loop's own, the spare one, and that of the streams
    await asyncio.sleep(0)  # what their end has asked of the loop
    assert len(channels) == 2 + MOST_IDLE


async def test_threads_call_through_swaps_moves_and_scales(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter: Any = kernel.get(Counter, blocking=True)
    stop = threading.Event()

    def call() -> list[int]:
        answers = []
        while not stop.is_set():
            answers.append(counter.add(1))
        return answers

    threads = [asyncio.create_task(asyncio.to_thread(call)) for _ in range(3)]
    for placement in ("process:a", "inline", "process", "inline", "process"):
        await kernel.move("counter", placement)
        await kernel.swap("counter", Tally2)
    stop.set()
    answers = [answer for answers in await asyncio.gather(*threads) for answer in answers]
    assert sorted(answers) == list(range(1, len(answers) + 1))


async def test_a_thread_waits_at_the_gate_and_the_loops_own_thread_is_told(kernel: Kernel, whistle: Any) -> None:
    """While an inline plug-in is drained, a thread waits; the loop's thread can't, since it is the one that drains."""
    await kernel.load(Tally, name="counter")
    await kernel.load(Arithmetic, name="plain")
    counter, blocking = kernel.get(Counter), kernel.get(Counter, blocking=True)
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    instance: Any = kernel.space.instances["counter#0.1"]
    swapping = asyncio.create_task(kernel.swap("counter", Tally2))
    await until_state(kernel, "counter", State.QUIESCING)
    waiting = asyncio.create_task(asyncio.to_thread(blocking.version))  # type: ignore[arg-type]
    instance.plugin.released.set()
    await swapping
    assert (await held, await waiting) == ("one", "two")


async def test_threads_that_end_give_their_channels_back(kernel: Kernel) -> None:
    await kernel.load(Arithmetic, placement="process")
    plain = kernel.get(Plain)
    channels = kernel.registry.entry("arithmetic").replicas[0].port.channels
    for number in range(20):
        thread = threading.Thread(target=plain.plus, args=(number,))
        thread.start()
        await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)  # what a thread's end has asked of the loop
    assert len(channels) <= 3, f"{len(channels)} channels are kept for threads that have ended"


def test_a_script_without_a_loop_of_its_own_runs_the_kernel_in_a_thread() -> None:
    """Flask, Django, a script: the kernel's loop in one thread, blocking calls from any other."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def on_kernel(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    kernel = Kernel()
    try:
        on_kernel(kernel.__aenter__())
        on_kernel(kernel.load(Tally, name="counter", placement="process"))
        counter: Any = kernel.get(Counter, blocking=True)
        assert counter.add(2) == 2
        assert counter.where() != os.getpid()
        on_kernel(kernel.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
