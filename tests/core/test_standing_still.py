"""The kernel's own thread makes blocking calls: what only its loop could mend ends them."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from waiting import until

from mukernel import Interface, Kernel, Plugin, PluginCrashed, Unavailable
from mukernel.core.registry import Entry


class Slow(Interface):
    def pid(self) -> int: ...
    def work(self, seconds: float) -> int: ...
    def steps(self, seconds: float) -> Iterator[int]: ...


class Worker(Plugin, Slow):
    def __init__(self) -> None:
        self.done = 0

    def pid(self) -> int:
        return os.getpid()

    def work(self, seconds: float) -> int:
        threading.Event().wait(seconds)  # work that takes so long
        self.done += 1
        return self.done

    def steps(self, seconds: float) -> Iterator[int]:
        yield 1
        threading.Event().wait(seconds)  # work that takes so long
        yield 2

    def save(self) -> int:
        return self.done

    def restore(self, state: int) -> None:
        self.done = state


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Ends a test that hangs. No deadline does: a call without one is what is tested."""

    def ring(number: int, frame: object) -> None:
        pytest.fail("a blocking call is waited for that can't end")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def serving(entry: Entry) -> str:
    instance = entry.replicas[0].instance
    return instance.life.state.value if instance is not None else "nothing"


def killed_soon(pid: int) -> None:
    timer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    timer.daemon = True
    timer.start()


async def test_a_process_that_dies_under_a_call_ends_it(kernel: Kernel) -> None:
    await kernel.load(Worker, name="worker", placement="process")
    slow = kernel.get(Slow)
    killed_soon(slow.pid())
    with pytest.raises(PluginCrashed, match=r"process of 'worker' died while it ran this call; this blocking call"):
        slow.work(60)
    killed_soon(await asyncio.to_thread(kernel.get(Slow, blocking=True).pid))
    with pytest.raises(PluginCrashed):
        list(slow.steps(60))
    assert await asyncio.to_thread(kernel.get(Slow, blocking=True).work, 0) == 1, "it was restarted when the loop ran"
    assert slow.work(0) == 2, "the thread has a new channel"


async def test_a_process_that_was_dead_already_did_not_run_the_call(kernel: Kernel) -> None:
    await kernel.load(Worker, name="worker", placement="process")
    slow = kernel.get(Slow)
    os.kill(slow.pid(), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(Unavailable, match="'worker' died before it ran this call"):
            slow.work(0)
    assert await asyncio.to_thread(kernel.get(Slow, blocking=True).work, 0) == 1, "neither was run later"


async def test_a_call_into_what_is_being_replaced_ends_and_is_not_run(kernel: Kernel) -> None:
    """A swap is begun, and then the loop stands still for a call that comes too late for the old instance."""
    await kernel.load(Worker, name="worker", placement="process")
    slow = kernel.get(Slow)
    slow.pid()
    entry = kernel.registry.entry("worker")
    swap = asyncio.create_task(kernel.swap("worker", Worker))
    await until(lambda: swap.done() or serving(entry) != "serving")
    try:
        done = slow.work(0)  # it may have been taken before
    except Unavailable as error:
        assert "is being replaced" in str(error)
        done = 0
    assert (await swap).ledger.lost == 0
    assert await asyncio.to_thread(kernel.get(Slow, blocking=True).work, 0) == done + 1


async def test_a_long_call_is_waited_for(kernel: Kernel) -> None:
    await kernel.load(Worker, name="worker", placement="process")
    assert kernel.get(Slow).work(0.35) == 1
    assert list(kernel.get(Slow).steps(0.35)) == [1, 2]
