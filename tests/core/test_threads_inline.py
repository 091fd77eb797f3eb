"""Inline plug-ins with threads: what a hand-over waits for."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import pytest
from waiting import until

from mukernel import Interface, Kernel, Plugin, SwapFailed, priority
from mukernel.core.lifecycle import State
from mukernel.transports.context import current


class Slow(Interface):
    async def work(self) -> int: ...
    async def priority(self) -> int: ...


class Worker(Plugin, Slow):
    """Its threads work until they are let go; what happens is written down in order."""

    order: ClassVar[list[str]] = []
    began: ClassVar[threading.Semaphore]
    let_go: ClassVar[threading.Event]

    def work(self) -> int:  # type: ignore[override]
        Worker.began.release()
        assert Worker.let_go.wait(30)
        Worker.order.append("ended")
        return len(Worker.order)

    def priority(self) -> int:  # type: ignore[override]
        context = current.get()
        return context.priority if context is not None else 0

    def save(self) -> int:
        Worker.order.append("saved")
        return 1

    def restore(self, state: int) -> None:
        Worker.order.append("restored")


@pytest.fixture(autouse=True)
def afresh() -> None:
    Worker.order.clear()
    Worker.began, Worker.let_go = threading.Semaphore(0), threading.Event()


async def cancelled_call(slow: Slow) -> None:
    """A call whose caller has gone, and whose thread works on."""
    call = asyncio.ensure_future(slow.work())
    assert await asyncio.to_thread(Worker.began.acquire, timeout=10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_state_is_saved_when_no_thread_of_a_cancelled_call_changes_it_any_more(kernel: Kernel) -> None:
    await kernel.load(Worker, name="worker", threads=2)
    slow = kernel.get(Slow)
    await cancelled_call(slow)
    swap = asyncio.ensure_future(kernel.swap("worker", Worker))
    await until(lambda: swap.done() or kernel.registry.entry("worker").state is State.QUIESCING)
    for _ in range(20):
        await asyncio.sleep(0)
    assert Worker.order == []
    Worker.let_go.set()
    await swap
    assert Worker.order == ["ended", "saved", "restored"]
    assert await slow.work() == 4


async def test_a_swap_waits_for_such_a_thread_no_longer_than_its_drain(kernel: Kernel) -> None:
    await kernel.load(Worker, name="worker", threads=1)
    slow = kernel.get(Slow)
    await cancelled_call(slow)
    with pytest.raises(SwapFailed, match=r"after 0.02 s 1 threads were still running"):
        await kernel.swap("worker", Worker, drain=0.02)
    assert Worker.order == []
    Worker.let_go.set()
    assert await slow.work() == 2


async def test_a_call_that_waits_for_a_thread_and_is_cancelled_is_not_run(kernel: Kernel) -> None:
    await kernel.load(Worker, name="worker", threads=1)
    slow = kernel.get(Slow)
    await cancelled_call(slow)
    second = asyncio.ensure_future(slow.work())
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    Worker.let_go.set()
    await kernel.swap("worker", Worker)
    assert Worker.order == ["ended", "saved", "restored"]


async def test_what_travels_with_a_call_is_there_in_its_thread(kernel: Kernel) -> None:
    await kernel.load(Worker, name="worker", threads=1)
    with priority(7):
        assert await kernel.get(Slow).priority() == 7
