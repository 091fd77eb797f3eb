"""What ends a plug-in ends its calls, too: those that outlast the drain are told that it was stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from core_samples import Arithmetic, Counter, Plain, Sum, Summing, Tally, blow
from waiting import until_state

from mukernel import Blocking, ContractError, Interface, Kernel, Plugin, RestartPolicy, SwapFailed, Unavailable, oneway
from mukernel.core.lifecycle import State

LIMIT = 20.0  # seconds within which all must be over
STOPPED = r"it was stopped while it ran this call: plug-in '\w+' was unloaded"
PLACEMENTS = ("inline", "process", "process:shared")


class Waiting(Interface):
    """Every model of a call, none of which ends by itself."""

    async def call(self) -> None: ...
    async def nested(self) -> None: ...
    def stream(self) -> AsyncIterator[int]: ...
    @oneway
    async def forget(self) -> None: ...


class Waiter(Plugin, Waiting):
    def __init__(self, *, whistle: str) -> None:
        self.whistle = whistle
        self.cleaned_up: list[str] = []

    async def wait(self, what: str) -> None:
        blow(self.whistle, what)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cleaned_up.append(what)

    async def call(self) -> None:
        await self.wait("call")

    async def nested(self) -> None:
        await asyncio.gather(self.wait("nested"))

    async def stream(self) -> AsyncIterator[int]:
        yield 0
        await self.wait("stream")

    async def forget(self) -> None:
        await self.wait("forget")

    def stop(self) -> None:
        blow(self.whistle, "stop after " + ",".join(sorted(self.cleaned_up)))


async def end_by_unload(kernel: Kernel) -> None:
    await kernel.unload("waiter")


async def end_by_close(kernel: Kernel) -> None:
    await kernel.close()


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("end", [end_by_unload, end_by_close])
async def test_calls_that_outlast_the_drain_are_told_that_the_plugin_was_stopped(
    kernel: Kernel, whistle: Any, placement: str, end: Callable[[Kernel], Awaitable[None]]
) -> None:
    await kernel.load(Waiter, name="waiter", placement=placement, drain=0.05, config={"whistle": whistle.path})
    waiting, blocking = kernel.get(Waiting), kernel.get(Waiting, blocking=True)

    async def whole_stream() -> list[int]:
        return [item async for item in waiting.stream()]

    calls: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(work)
        for work in (
            waiting.call(), asyncio.wait_for(waiting.nested(), LIMIT), whole_stream(), asyncio.to_thread(blocking.call),  # type: ignore[arg-type]
        )
    ]  # fmt: skip
    await waiting.forget()
    started = {(await whistle.heard())[1] for _ in range(5)}
    assert started == {"call", "nested", "stream", "forget"}
    async with asyncio.timeout(LIMIT):
        await end(kernel)
        for call in calls:
            with pytest.raises(Unavailable, match=STOPPED):
                await call
            assert not call.cancelled()
    assert (await whistle.heard())[1] == "stop after call,call,forget,nested,stream", "it was stopped before its calls"


async def test_an_unload_has_the_drain_that_it_is_given(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Waiter, name="waiter", placement="process", drain=10 * LIMIT, config={"whistle": whistle.path})
    call = asyncio.ensure_future(kernel.get(Waiting).call())
    await whistle.heard()
    with pytest.raises(ContractError, match="drain: got -1, wanted a number of seconds"):
        await kernel.unload("waiter", drain=-1)
    async with asyncio.timeout(LIMIT):
        await kernel.unload("waiter", drain=0.05)
        with pytest.raises(Unavailable, match=STOPPED):
            await call


async def test_who_was_cut_off_is_not_left_cancelled(kernel: Kernel, whistle: Any) -> None:
    """The task that made the call goes on: nobody cancelled it."""
    await kernel.load(Waiter, name="waiter", drain=0.05, config={"whistle": whistle.path})
    waiting = kernel.get(Waiting)

    async def caller() -> int:
        async with asyncio.timeout(LIMIT):
            with pytest.raises(Unavailable):
                await waiting.call()
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    calling = asyncio.create_task(caller())
    await whistle.heard()
    await kernel.unload("waiter")
    assert await calling == 0


async def test_a_caller_that_gives_up_itself_is_cancelled_as_ever(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Waiter, name="waiter", drain=0.05, config={"whistle": whistle.path})
    calling = asyncio.create_task(kernel.get(Waiting).call())  # type: ignore[arg-type]
    await whistle.heard()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await kernel.unload("waiter")
    assert (await whistle.heard())[1] == "stop after call"


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_who_calls_through_another_plugin_learns_which_was_stopped(
    kernel: Kernel, whistle: Any, placement: str
) -> None:
    await kernel.load(Tally, name="counter", placement=placement, drain=0.05)
    await kernel.load(Sum, name="sum", placement=placement)
    held = asyncio.create_task(kernel.get(Summing).hold(whistle.path))
    await whistle.heard()
    async with asyncio.timeout(LIMIT):
        await kernel.unload("counter")
        with pytest.raises(Unavailable, match="stopped while it ran this call: plug-in 'counter' was unloaded"):
            await held


async def test_scaling_down_cuts_off_what_outlasts_the_drain(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=2, drain=0.05)
    counter = kernel.get(Counter)
    held = [asyncio.create_task(counter.hold(whistle.path)) for _ in range(2)]
    pids = {(await whistle.heard())[0] for _ in held}
    assert len(pids) == 2
    async with asyncio.timeout(LIMIT):
        await kernel.scale("counter", 1)
        done, left = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(Unavailable, match="it was stopped while it ran this call: plug-in 'counter' has fewer"):
            await done.pop()
        await counter.release()
        assert await left.pop() == "one"


class Stuck(Plugin, Plain):
    """`plus` keeps the loop of its process for ever."""

    def __init__(self, *, whistle: str) -> None:
        self.whistle = whistle

    def plus(self, a: int, b: int = 1) -> int:
        blow(self.whistle, "stuck")
        while True:
            pass

    def thread(self) -> str:
        return threading.current_thread().name

    def most_at_once(self, others: int) -> int:
        return others


@pytest.mark.parametrize("hang", [1.5, 0.0])
async def test_a_process_that_hangs_does_not_keep_its_kernel_from_closing(
    whistle: Any, hang: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mukernel.core.place.LONGEST_SILENCE", 0.3)
    async with asyncio.timeout(LIMIT):
        async with Kernel(heartbeat=0.05) as kernel:
            placed = {"placement": "process", "drain": 0.05, "restart": RestartPolicy(hang=hang)}
            await kernel.load(Stuck, name="stuck", config={"whistle": whistle.path}, **placed)  # type: ignore[arg-type]
            stuck = asyncio.create_task(asyncio.to_thread(kernel.get(Plain).plus, 1))
            await whistle.heard()
        with pytest.raises(Unavailable, match=STOPPED):
            await stuck


class Slow(Interface):
    async def wait(self, whistle: str) -> None: ...


class Pooled(Plugin, Slow):
    """A pool's thread that can't be cancelled runs until the test lets it go."""

    def __init__(self, counter: Blocking[Counter]) -> None:
        self.counter = counter

    def wait(self, whistle: str) -> None:
        self.counter.hold(whistle)  # type: ignore[unused-coroutine]


async def test_a_swap_waits_for_the_thread_of_a_call_that_was_cancelled(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(Pooled, name="pooled", placement="process", threads=1)
    waiting = asyncio.create_task(kernel.get(Slow).wait(whistle.path))  # type: ignore[arg-type]
    await whistle.heard()
    waiting.cancel()
    (old,) = [place for place in kernel.places.values() if any(key.startswith("pooled") for key in place.keys)]
    swapping = asyncio.create_task(kernel.swap("pooled", Pooled))
    await until_state(kernel, "pooled", State.QUIESCING)
    await old.ping()  # it has heard that it is to quiesce
    await kernel.get(Counter).release()
    async with asyncio.timeout(LIMIT):
        assert not (await swapping).rolled_back


async def test_arithmetic_goes_on_while_another_is_stopped(kernel: Kernel, whistle: Any) -> None:
    """Of two in one process, only the one that is stopped loses its calls."""
    await kernel.load(Waiter, name="waiter", placement="process:shared", drain=0.05, config={"whistle": whistle.path})
    await kernel.load(Arithmetic, name="plain", placement="process:shared")
    await kernel.load(Tally, name="counter", placement="process:shared")
    plain, counter = kernel.get(Plain), kernel.get(Counter)
    held = asyncio.create_task(counter.hold(whistle.path))
    calling = asyncio.create_task(kernel.get(Waiting).call())  # type: ignore[arg-type]
    for _ in range(2):
        await whistle.heard()
    await kernel.unload("waiter")
    with pytest.raises(Unavailable, match=STOPPED):
        await calling
    assert plain.plus(1) == 2
    await counter.release()
    assert await held == "one"


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_swap_under_way_when_its_kernel_closes_is_not_cancelled(
    kernel: Kernel, whistle: Any, placement: str
) -> None:
    """Nobody cancelled who asked for it: it is done, or rolled back, and the kernel closes after that."""
    await kernel.load(Tally, name="counter", placement=placement, drain=0.05)
    held = asyncio.create_task(kernel.get(Counter).hold(whistle.path))
    await whistle.heard()
    swapping = asyncio.create_task(kernel.swap("counter", Tally, drain=0.2))
    await until_state(kernel, "counter", State.QUIESCING)
    async with asyncio.timeout(LIMIT):
        await kernel.close()
        with pytest.raises(SwapFailed, match="calls were still running"):
            await swapping
        with pytest.raises(Unavailable):
            await held


@pytest.mark.parametrize("change", ["swap", "move", "scale", "restart", "unload"])
async def test_what_waits_for_its_turn_while_a_plugin_is_unloaded_finds_it_gone(kernel: Kernel, change: str) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    changes: dict[str, Callable[[], Awaitable[Any]]] = {
        "swap": lambda: kernel.swap("counter", Tally),
        "move": lambda: kernel.move("counter", "inline"),
        "scale": lambda: kernel.scale("counter", 2),
        "restart": lambda: kernel.restart("counter"),
        "unload": lambda: kernel.unload("counter"),
    }
    unloading = asyncio.create_task(kernel.unload("counter"))
    late = asyncio.ensure_future(changes[change]())
    with pytest.raises(Unavailable, match="plug-in 'counter' was unloaded while this waited for its turn"):
        await late
    await unloading
    assert not kernel.registry.entries
    assert not kernel.places
    await kernel.load(Tally, name="counter")


# -- and what comes after it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", PLACEMENTS)
@pytest.mark.parametrize("after", PLACEMENTS)
async def test_proxies_lead_to_the_next_plugin_of_that_name(kernel: Kernel, before: str, after: str) -> None:
    """Those of this process and of another, ordinary, blocking and kept methods."""
    await kernel.load(Tally, name="counter", placement=before)
    await kernel.load(Sum, name="sum", placement="process:shared")
    counter, blocking, summing = kernel.get(Counter), kernel.get(Counter, blocking=True), kernel.get(Summing)
    kept = counter.add
    assert (await kept(1), await summing.add_twice(1)) == (1, 3)
    await kernel.unload("counter")
    with pytest.raises(Unavailable, match="plug-in 'counter' was unloaded"):
        await kept(1)
    await kernel.load(Arithmetic, name="counter", placement=after)
    with pytest.raises(Unavailable, match="plug-in 'counter' does not serve Counter; it serves: Plain"):
        await counter.add(1)
    await kernel.unload("counter")
    await kernel.load(Tally, name="counter", placement=after)
    assert await kept(1) == 1
    assert await counter.add(1) == 2
    assert await asyncio.to_thread(blocking.add, 1) == 3  # type: ignore[arg-type]
    assert await summing.add_twice(1) == 5


async def test_a_load_that_fails_leaves_closed_routes_as_they_were(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    await kernel.unload("counter", "it is being mended")
    with pytest.raises(ContractError):
        await kernel.load(Tally, name="counter", config={"unknown": 1})
    with pytest.raises(Unavailable, match="it is being mended"):
        await counter.add(1)


async def test_a_reason_that_is_no_text_is_refused_before_anything_is_stopped(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    with pytest.raises(ContractError, match="reason: got 5, wanted a str"):
        await kernel.unload("counter", 5)  # type: ignore[arg-type]
    assert await counter.add(1) == 1
    await kernel.unload("counter", "no \udc80 UTF-8")
    with pytest.raises(Unavailable, match=r"no \\udc80 UTF-8"):
        await counter.add(1)
