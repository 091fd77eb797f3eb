"""Which call is run first: order of one caller, priority, deadline, fairness, concurrency, priority inheritance."""

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from core_samples import Counter, Diary, Plain, Scribe, Tally, blow
from waiting import until_event, until_state, until_waiting

import mukernel
from mukernel import DeadlineExceeded, Interface, Kernel, Plugin, RestartPolicy, oneway
from mukernel.core.lifecycle import State
from mukernel.transports.context import CallContext, current


async def busy_scribe(kernel: Kernel, whistle: Any) -> tuple[Diary, Callable[[], Any]]:
    """A Scribe whose only place is taken, and what sets it free."""
    await kernel.load(Scribe, placement="process", concurrency=1)
    diary = kernel.get(Diary)
    os.mkfifo(whistle.path + ".open")
    gate = asyncio.create_task(diary.gate(whistle.path))
    await whistle.heard()

    async def set_free() -> None:
        blow(whistle.path + ".open")
        await gate

    return diary, set_free


def within(context: CallContext, call: Callable[[], Any]) -> asyncio.Task[Any]:
    """Begin a call under circumstances of its own."""
    token = current.set(context)
    try:
        return asyncio.create_task(call())
    finally:
        current.reset(token)


async def test_the_calls_of_one_caller_arrive_as_sent(kernel: Kernel, whistle: Any) -> None:
    diary, set_free = await busy_scribe(kernel, whistle)
    calls = [asyncio.create_task(diary.enter(str(number))) for number in range(100)]
    await asyncio.sleep(0)
    await set_free()
    await asyncio.gather(*calls)
    assert await diary.entries() == [str(number) for number in range(100)]


async def test_oneway_calls_and_calls_keep_their_order(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    for number in range(1, 201):
        await counter.note(1)
        assert await counter.value() == number


class Numbers(Interface):
    @oneway
    async def write(self, number: int) -> None: ...
    async def read(self) -> list[int]: ...


class Slate(Plugin, Numbers):
    """Notes what is written in the order in which that is begun; each takes some turns of the loop."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def save(self) -> list[int]:
        return self.numbers

    def restore(self, numbers: list[int]) -> None:
        self.numbers = numbers

    async def write(self, number: int) -> None:
        self.numbers.append(number)
        for _ in range(20):
            await asyncio.sleep(0)

    async def read(self) -> list[int]:
        return self.numbers


class Writing(Interface):
    async def write(self, first: int, end: int) -> None: ...


class Writer(Plugin, Writing):
    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    async def write(self, first: int, end: int) -> None:
        for number in range(first, end):
            await self.numbers.write(number)


@pytest.mark.parametrize("caller", ["here", "a thread", "a neighbour"])
async def test_what_was_sent_before_a_move_is_begun_first(kernel: Kernel, caller: str) -> None:
    """The plug-in moves to its caller, and is called directly from then on."""
    await kernel.load(Slate, placement="process", concurrency=1)
    await kernel.load(Writer, placement="process:shared" if caller == "a neighbour" else "inline")
    numbers, blocking, writing = kernel.get(Numbers), kernel.get(Numbers, blocking=True), kernel.get(Writing)

    def write_here(first: int, end: int) -> None:
        for number in range(first, end):
            blocking.write(number)  # type: ignore[unused-coroutine]

    async def write(first: int, end: int) -> None:
        if caller == "a thread":
            await kernel.loop.run_in_executor(thread, write_here, first, end)
        else:
            await writing.write(first, end)

    pid = kernel.registry.entry("slate").replicas[0].instance.place.pid  # type: ignore[union-attr]
    with ThreadPoolExecutor(1) as thread:
        os.kill(pid, signal.SIGSTOP)  # so that not all is run by the time that it moves
        await write(0, 600)
        move = asyncio.create_task(
            kernel.move("slate", "process:shared" if caller == "a neighbour" else "inline")
        )  # fmt: skip
        await until_state(kernel, "slate", State.QUIESCING)
        os.kill(pid, signal.SIGCONT)
        report = await move
        assert report.carried_over, "all was run before the move: nothing was shown"
        await write(600, 610)
        while len(written := await numbers.read()) < 610:  # noqa: ASYNC110 - nothing tells when the last is begun
            await asyncio.sleep(0)
    assert written == list(range(610))


@pytest.mark.parametrize("after", ["inline", "process"])
@pytest.mark.parametrize("before", ["inline", "process"])
async def test_tasks_that_wait_for_a_replacement_are_not_overtaken_by_later_ones(
    kernel: Kernel, before: str, after: str
) -> None:
    await kernel.load(Slate, placement=before)
    numbers = kernel.get(Numbers, when_full="wait")
    change = asyncio.create_task(kernel.restart("slate") if before == after else kernel.move("slate", after))
    calls = []
    while not change.done():  # a call in each turn of the loop, also in that in which the gate is opened
        calls.append(asyncio.create_task(numbers.write(len(calls))))
        await asyncio.sleep(0)
    calls += [asyncio.create_task(numbers.write(len(calls) + more)) for more in range(10)]
    await asyncio.gather(change, *calls)
    while len(written := await numbers.read()) < len(calls):  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    assert written == list(range(len(calls)))


async def test_what_was_sent_to_a_crashed_plugin_is_begun_first_after_a_restart(kernel: Kernel) -> None:
    """While its supervisor waits for the back-off to pass."""
    patient = RestartPolicy(backoff=3600, longest_backoff=3600)
    await kernel.load(Slate, placement="process", concurrency=1, restart=patient)
    numbers = kernel.get(Numbers)
    os.kill((await kernel.stack("slate"))[0].pid, signal.SIGKILL)  # the first restart is at once
    await until_event(kernel, "slate", "restart")
    os.kill((await kernel.stack("slate"))[0].pid, signal.SIGKILL)
    await until_event(kernel, "slate", "crash", times=2)
    for number in range(300):
        await numbers.write(number)
    await kernel.restart("slate")
    for number in range(300, 600):
        await numbers.write(number)
    while len(written := await numbers.read()) < 600:  # noqa: ASYNC110 - nothing tells when the last is begun
        await asyncio.sleep(0)
    assert written == list(range(600))


async def test_a_call_that_is_cancelled_at_the_gate_is_not_run(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter")
    counter = kernel.get(Counter)
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    change = asyncio.create_task(kernel.restart("counter"))
    await until_state(kernel, "counter", State.QUIESCING)
    waiting = [asyncio.create_task(counter.add(1)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    held.cancel()
    await change
    assert await asyncio.gather(waiting[0], waiting[2]) == [1, 2]
    assert waiting[1].cancelled()
    assert await counter.value() == 2


async def test_a_higher_priority_goes_first(kernel: Kernel, whistle: Any) -> None:
    diary, set_free = await busy_scribe(kernel, whistle)
    calls = []
    for priority in (0, -5, 3, 0, 9, -5):
        calls.append(within(CallContext(priority=priority), lambda p=priority: diary.enter(str(p))))  # type: ignore[misc]
        await asyncio.sleep(0)
    await set_free()
    await asyncio.gather(*calls)
    assert await diary.entries() == ["9", "3", "0", "0", "-5", "-5"]


async def test_between_callers_the_earlier_deadline_goes_first(kernel: Kernel, whistle: Any) -> None:
    """Each thread is a caller; within one caller the order of sending is kept."""
    diary, set_free = await busy_scribe(kernel, whistle)
    blocking: Any = kernel.get(Diary, blocking=True)
    now = kernel.clock.now_ns()

    def enter(text: str, deadline: int) -> None:
        current.set(CallContext(deadline))
        blocking.enter(text)

    calls = []
    for waiting, (text, hours) in enumerate([("late", 3), ("soon", 1), ("never", 0), ("middle", 2)], 1):
        deadline = now + hours * 3600 * 10**9 if hours else 0
        calls.append(asyncio.create_task(asyncio.to_thread(enter, text, deadline)))
        await until_waiting(kernel, "scribe", waiting)
    await set_free()
    await asyncio.gather(*calls)
    assert await diary.entries() == ["soon", "middle", "late", "never"]


async def test_a_caller_with_many_calls_does_not_starve_one_with_few(kernel: Kernel, whistle: Any) -> None:
    diary, set_free = await busy_scribe(kernel, whistle)
    blocking: Any = kernel.get(Diary, blocking=True)
    many = [asyncio.create_task(diary.enter("many")) for _ in range(200)]
    await until_waiting(kernel, "scribe", 200)
    few = asyncio.create_task(asyncio.to_thread(blocking.enter, "few"))
    await until_waiting(kernel, "scribe", 201)
    await set_free()
    await asyncio.gather(few, *many)
    assert (await diary.entries()).index("few") <= 2


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_run_at_once_than_the_limit_says(kernel: Kernel, whistle: Any, limit: int) -> None:
    await kernel.load(Tally, name="counter", placement="process", concurrency=limit)
    counter = kernel.get(Counter)
    held = [asyncio.create_task(counter.hold(whistle.path)) for _ in range(limit + 2)]
    for _ in range(limit):
        await whistle.heard()
    assert await until_waiting(kernel, "counter", 2) == (limit, 2)
    assert not whistle.lines
    for call in held[:limit]:  # a place is free: those that waited get it
        call.cancel()
    for _ in range(min(limit, 2)):
        await whistle.heard()
    for call in held:
        call.cancel()


async def test_a_deadline_ends_a_call_that_runs_and_one_that_waits(kernel: Kernel, whistle: Any) -> None:
    diary, set_free = await busy_scribe(kernel, whistle)
    soon = kernel.clock.now_ns() + 30_000_000
    waiting = within(CallContext(soon), lambda: diary.enter("too late"))
    with pytest.raises(DeadlineExceeded, match=r"Diary.enter|enter: no reply before the deadline"):
        await waiting
    with pytest.raises(DeadlineExceeded, match="the deadline had passed before the call was sent"):
        await within(CallContext(soon), lambda: diary.enter("much too late"))
    await set_free()
    assert await diary.entries() == [], "a call whose deadline had passed was run"
    gate = within(CallContext(kernel.clock.now_ns() + 30_000_000), lambda: diary.gate(whistle.path))
    await whistle.heard()
    with pytest.raises(DeadlineExceeded):
        await gate
    await diary.enter("free again")  # the only place was given back
    assert await diary.entries() == ["free again"]


# -- circumstances travel -----------------------------------------------------------------------------------------


class Asked(Interface):
    async def circumstances(self) -> tuple[int, int]: ...


class Relayed(Interface):
    async def relay(self, whistle: str) -> tuple[int, int]: ...
    async def nothing(self) -> None: ...


class Last(Plugin, Asked):
    async def circumstances(self) -> tuple[int, int]:
        context = current.get()
        return (context.priority, context.deadline) if context is not None else (0, 0)


class Relay(Plugin, Relayed):
    """Holds until the pipe is written to (if there is one), then calls on."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    async def relay(self, whistle: str) -> tuple[int, int]:
        if whistle:
            await Scribe.gate(self, whistle)  # type: ignore[arg-type]
        return await self.asked.circumstances()

    async def nothing(self) -> None: ...


@pytest.mark.parametrize("relay", ["inline", "process", "process:shared"])
@pytest.mark.parametrize("last", ["inline", "process", "process:shared"])
async def test_priority_and_deadline_travel_through_every_hop(kernel: Kernel, relay: str, last: str) -> None:
    await kernel.load(Last, placement=last)
    await kernel.load(Relay, placement=relay)
    relayed = kernel.get(Relayed)
    assert await relayed.relay("") == (0, 0)
    deadline = kernel.clock.now_ns() + 3600 * 10**9
    assert await within(CallContext(deadline, 7), lambda: relayed.relay("")) == (7, deadline)
    assert await relayed.relay("") == (0, 0), "the circumstances of one call stayed for the next"


async def test_a_call_inherits_the_priority_of_what_it_keeps_waiting(kernel: Kernel, whistle: Any) -> None:
    """An unimportant call holds the place that an important one waits for: from then on its own calls are important."""
    await kernel.load(Last, placement="process")
    await kernel.load(Relay, placement="process", concurrency=1)
    relayed = kernel.get(Relayed)
    os.mkfifo(whistle.path + ".open")
    holder = within(CallContext(priority=-3), lambda: relayed.relay(whistle.path))
    await whistle.heard()
    important = within(CallContext(priority=8), relayed.nothing)
    await until_waiting(kernel, "relay", 1)
    blow(whistle.path + ".open")
    assert (await holder)[0] == 8
    await important


def test_the_public_ways_to_set_them_exist() -> None:
    assert mukernel.deadline is not None
    assert mukernel.priority is not None
    assert Plain.__contract__.methods["plus"].blocking
