"""A process that was forked from one with a kernel: it is refused, and its parent goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from core_samples import Counter, Tally

from mukernel import Kernel, KernelThread, Unavailable

REFUSED = "start one here, after the fork"


def in_child(work: Callable[[], Any]) -> str:
    """What `work` does in a child: what it returns, or the error that it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a call that hangs ends the child without a word
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture(params=["ring", "socket"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", request.param)
    with KernelThread() as running:
        running.load(Tally, name="counter", placement="process")
        yield running


def test_a_call_of_the_child_is_refused_and_the_parents_is_answered(kernel: KernelThread) -> None:
    counter: Any = kernel.get(Counter)
    kept = counter.add
    assert counter.add(1) == 1
    for call in (
        lambda: counter.add(10),
        lambda: kept(10),
        lambda: list(counter.numbers(3)),
        lambda: counter.note("x"),
    ):
        said = in_child(call)
        assert said.startswith("Unavailable: Counter") and REFUSED in said, said
    assert counter.add(1) == 2
    assert kernel.ledger("counter").lost == 0


def test_a_stream_under_way_is_the_parents_whatever_the_child_does_with_it(kernel: KernelThread) -> None:
    counter: Any = kernel.get(Counter)
    streams = [counter.numbers(1000) for _ in range(3)]
    assert [next(each) for each in streams] == [0, 0, 0]

    def use() -> str:
        streams[0].close()
        del streams[1]
        return str(list(streams[1]))

    assert REFUSED in in_child(use)
    assert [list(each) for each in streams] == [list(range(1, 1000))] * 3


def test_the_first_call_of_all_in_the_child(kernel: KernelThread) -> None:
    """No thread has a channel yet, and nobody turns the loop that would connect one."""
    counter: Any = kernel.get(Counter)
    assert REFUSED in in_child(lambda: counter.add(10))
    assert counter.add(1) == 1


def test_another_thread_of_the_child(kernel: KernelThread) -> None:
    counter: Any = kernel.get(Counter)

    def in_thread() -> str:
        said: list[str] = []

        def call() -> None:
            try:
                said.append(str(counter.add(10)))
            except Unavailable as error:
                said.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return said[0]

    assert REFUSED in in_child(in_thread)
    assert counter.add(1) == 1


def test_an_inline_plugin_is_its_parents_too(kernel: KernelThread) -> None:
    kernel.load(Tally, name="here")
    counter: Any = kernel.get(Counter, plugin="here")
    assert counter.add(1) == 1
    assert REFUSED in in_child(lambda: counter.add(10))
    assert counter.add(1) == 2


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_kernel_and_its_proxies_in_the_child_of_a_loops_own_thread(placement: str) -> None:
    async with Kernel() as kernel:
        await kernel.load(Tally, name="counter", placement=placement)
        counter = kernel.get(Counter)
        assert await counter.add(1) == 1

        def finished(work: Any) -> Any:
            """As far as it goes without a loop: nothing of this may wait for one, but for a turn of it."""
            try:
                while work.send(None) is None:
                    pass
            except StopIteration as returned:
                return returned.value
            return "it waits"

        for work in (lambda: counter.add(10), lambda: kernel.load(Tally, name="other"), kernel.close):
            said = in_child(lambda work=work: finished(work()))
            assert REFUSED in said or (work == kernel.close and said == "None"), said
        assert REFUSED in in_child(lambda: kernel.get(Counter))
        assert await counter.add(1) == 2


def test_a_child_may_have_a_kernel_of_its_own(kernel: KernelThread) -> None:
    async def main() -> int:
        async with Kernel() as own:
            await own.load(Tally, name="counter", placement="process")
            return await own.get(Counter).add(5)

    assert in_child(lambda: asyncio.run(main())) == "5"
    counter: Any = kernel.get(Counter)
    assert counter.add(1) == 1
