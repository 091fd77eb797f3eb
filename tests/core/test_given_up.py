"""What is given up can be brought back at any moment, also while those who called it are still being told of that."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from core_samples import Counter, Sum, Tally, Tally2
from killing import kill, pid_of
from waiting import until, until_event, until_state

from mukernel import Kernel, RestartPolicy, SwapFailed, Unavailable
from mukernel.core.instances import Instances
from mukernel.core.lifecycle import State
from mukernel.core.registry import Replica
from mukernel.testing import TestKernel

AT_ONCE = RestartPolicy(intensity=0)
IN_AN_HOUR = RestartPolicy(backoff=3600.0, longest_backoff=3600.0)  # but for the first restart, which is immediate


@asynccontextmanager
async def revived_while_a_caller_is_silent(kernel: Kernel) -> AsyncIterator[tuple[Replica, asyncio.Task[Any]]]:
    """A plug-in that serves again, and the task that has given it up and waits for a caller: that is stopped as long
    as this lasts."""
    await kernel.load(Tally, name="counter", placement="process", restart=AT_ONCE)
    await kernel.load(Sum, name="sum", placement="process")
    silent, replica = pid_of(kernel, "sum"), kernel.registry.entry("counter").replicas[0]
    os.kill(silent, signal.SIGSTOP)
    os.kill(pid_of(kernel, "counter"), signal.SIGKILL)
    await until_event(kernel, "counter", "given up")
    restart = asyncio.create_task(kernel.restart("counter"))
    await until_state(kernel, "counter", State.SERVING)
    assert replica.restarting is not None
    try:
        yield replica, replica.restarting
    finally:
        os.kill(silent, signal.SIGCONT)
        await restart


async def test_what_is_revived_at_once_answers_what_it_runs(kernel: Kernel, whistle: Any) -> None:
    async with revived_while_a_caller_is_silent(kernel) as (_, giving_up):
        counter = kernel.get(Counter)
        held = asyncio.create_task(counter.hold(whistle.path))
        await whistle.heard()
    await giving_up
    await counter.release()
    assert await held == "one"
    ledger = await kernel.ledger("counter")
    assert (ledger.lost, ledger.waiting, ledger.running) == (0, 0, 0)


async def test_what_is_revived_at_once_and_crashes_again_is_looked_after(kernel: Kernel) -> None:
    async with revived_while_a_caller_is_silent(kernel) as (replica, _):
        os.kill(pid_of(kernel, "counter"), signal.SIGKILL)
        await until_event(kernel, "counter", "crash", times=2)
    async with asyncio.timeout(20):
        await until_event(kernel, "counter", "given up", times=2)
    assert replica.failure is not None


async def given_up(kernel: Kernel, **options: Any) -> Counter:
    """A plug-in that nobody restarts, with a state of 3 to begin with."""
    await kernel.load(Tally, name="counter", placement="process", restart=AT_ONCE, config={"start_at": 3}, **options)
    counter = kernel.get(Counter)
    await crash(kernel)
    return counter


async def crash(kernel: Kernel) -> None:
    """Kill all its processes, until it is given up."""
    for replica in kernel.registry.entry("counter").replicas:
        assert replica.instance is not None
        os.kill(replica.instance.place.pid, signal.SIGKILL)
    await until(lambda: kernel.registry.entry("counter").failure is not None)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_what_is_given_up_is_swapped_to_a_mended_version_and_taken_back(kernel: Kernel, replicas: int) -> None:
    counter = await given_up(kernel, replicas=replicas)
    report = await kernel.swap("counter", Tally2)
    assert (report.given_up, report.rolled_back, report.after) == (True, False, "Tally2 process")
    assert {await counter.version() for _ in range(4)} == {"two"}
    assert await counter.value() == 3
    await crash(kernel)
    assert (await kernel.rollback("counter")).given_up
    assert {await counter.version() for _ in range(4)} == {"one"}
    assert (await kernel.ledger("counter")).lost == 0


async def test_what_is_given_up_is_moved(kernel: Kernel) -> None:
    counter = await given_up(kernel)
    await kernel.move("counter", "inline")
    assert await counter.where() == os.getpid()
    assert await counter.value() == 3


async def test_what_is_given_up_begins_with_its_last_checkpoint_as_another_version(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", restart=AT_ONCE, checkpoint=0.01)
    counter, replica = kernel.get(Counter), kernel.registry.entry("counter").replicas[0]
    await counter.add(41)
    await until(lambda: replica.checkpoint == (b"\x29", 1))  # 41
    os.kill(pid_of(kernel, "counter"), signal.SIGKILL)
    await until_event(kernel, "counter", "given up")
    await kernel.swap("counter", Tally2)
    assert (await counter.version(), await counter.add(1)) == ("two", 42)


@pytest.mark.parametrize("failing", [1, 2])
async def test_what_could_not_be_swapped_is_given_up_as_before(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Though some of its replicas served already."""
    counter = await given_up(kernel, replicas=2)
    before, activate, begun = kernel.registry.entry("counter").failure, Instances.activate, []

    async def fails(instances: Instances, *given: Any, **named: Any) -> None:
        begun.append(given)
        if len(begun) == failing:
            raise RuntimeError("the state is not what it was")
        await activate(instances, *given, **named)

    with monkeypatch.context() as patched, pytest.raises(SwapFailed, match=r"given up as before: .*not what it was"):
        patched.setattr(Instances, "activate", fails)
        await kernel.swap("counter", Tally2)
    entry = kernel.registry.entry("counter")
    assert (entry.state, entry.failure, kernel.places) == (State.FAILED, before, {})
    with pytest.raises(Unavailable, match="counter is given up"):
        await counter.value()
    await kernel.restart("counter")
    assert {await counter.version() for _ in range(4)} == {"one"}
    assert (await kernel.ledger("counter")).lost == 0


@pytest.mark.parametrize("what", ["swap", "rollback", "move"])
async def test_what_waits_to_be_started_again_is_replaced_at_once(kernel: Kernel, whistle: Any, what: str) -> None:
    """A version that crashes in a loop is no reason to wait for the mended one."""
    await kernel.load(Tally2, name="counter", placement="process", restart=IN_AN_HOUR)
    await kernel.swap("counter", Tally)
    counter, entry = kernel.get(Counter), kernel.registry.entry("counter")
    await kill(kernel, "counter")
    interrupted = asyncio.create_task(counter.hold_again(whistle.path))
    os.kill((await whistle.heard())[0], signal.SIGKILL)
    await until_state(kernel, "counter", State.CRASHED)
    waits = asyncio.create_task(counter.add(1))
    replaces = {"swap": ("counter", Tally2), "rollback": ("counter",), "move": ("counter", "inline")}
    report = await getattr(kernel, what)(*replaces[what])
    assert (report.crashed, report.given_up, report.rolled_back) == (True, False, False)
    assert (await waits, await counter.version()) == (1, "one" if what == "move" else "two")
    await whistle.heard()
    await counter.release()
    await interrupted
    assert (entry.restarts, (await kernel.ledger("counter")).lost) == (1, 0)
    if what != "move":
        await kill(kernel, "counter")  # its supervisor has forgotten the crashes of the version before


@pytest.mark.parametrize("failing", [1, 2])
def test_what_could_not_be_swapped_while_it_was_crashed_is_started_again_as_before(
    monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    activate, begun = Instances.activate, []

    async def fails(instances: Instances, *given: Any, **named: Any) -> None:
        begun.append(given)
        if len(begun) == failing:
            raise RuntimeError("the state is not what it was")
        await activate(instances, *given, **named)

    async def main(kernel: TestKernel) -> None:
        await kernel.load(Tally, name="counter", placement="process", restart=IN_AN_HOUR, replicas=2)
        counter, entry = kernel.get(Counter), kernel.registry.entry("counter")
        await kernel.kill("counter")
        await until(lambda: entry.restarts == 2)  # at once
        await kernel.kill("counter")
        await until(lambda: not any(replica.serves for replica in entry.replicas))
        waits = asyncio.create_task(counter.add(1))
        with monkeypatch.context() as patched:
            patched.setattr(Instances, "activate", fails)
            with pytest.raises(SwapFailed, match=r"what crashed is started again as before: .*not what it was"):
                await kernel.swap("counter", Tally2)
        assert (entry.state, entry.failure, kernel.places) == (State.CRASHED, None, {})
        await kernel.clock.sleep(3601.0)
        assert await waits == 1
        assert {await counter.version() for _ in range(4)} == {"one"}
        assert (entry.restarts, (await kernel.ledger("counter")).lost) == (4, 0)

    TestKernel().run(main)


async def test_what_does_not_serve_leaves_first(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=3, restart=AT_ONCE)
    first, second, third = kernel.registry.entry("counter").replicas
    os.kill(pid_of(kernel, "counter"), signal.SIGKILL)  # the first
    await until(lambda: first.failure is not None)
    await kernel.scale("counter", 2)
    assert kernel.registry.entry("counter").replicas == [second, third]
    await kernel.scale("counter", 1)
    assert kernel.registry.entry("counter").replicas == [second]
    assert await kernel.get(Counter).add(1) == 1


async def test_a_replica_that_was_revived_is_led_to_though_another_could_not_be(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = await given_up(kernel, replicas=2)
    with pytest.raises(Unavailable, match=r"^Counter: counter is given up: crashed more than 0 times"):
        await counter.add(1)
    start = Instances.start_replica

    async def fails(instances: Instances, entry: Any, replica: Replica, *more: Any, **named: Any) -> None:
        if replica.number == 1:
            raise Unavailable("no licence for a second one")
        await start(instances, entry, replica, *more, **named)

    monkeypatch.setattr(Instances, "start_replica", fails)
    with pytest.raises(Unavailable, match="no licence"):
        await kernel.restart("counter")
    assert [await counter.add(1), await counter.add(1)] == [4, 5]
