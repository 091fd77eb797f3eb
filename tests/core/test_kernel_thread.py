"""KernelThread: a kernel for programs that have no event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from core_samples import Counter, Tally, Tally2
from waiting import is_running

from mukernel import (
    Interface,
    Kernel,
    KernelThread,
    MukernelError,
    NotFound,
    Plugin,
    SwapFailed,
    Unavailable,
    deadline,
)


class PriceList(Interface, version="1.0"):
    """A stream for code without an event loop."""

    def all(self, upto: int) -> Iterator[int]: ...


class Prices(Plugin, PriceList):
    def all(self, upto: int) -> Iterator[int]:
        yield from range(upto)


FOREVER = 30  # seconds; nothing here takes as long


@pytest.fixture
def kernel() -> Iterator[KernelThread]:
    with KernelThread() as running:
        yield running


def counter_of(kernel: KernelThread) -> Any:
    return kernel.get(Counter)


@pytest.mark.parametrize("placement", ["inline", "process"])
def test_everything_blocks_and_returns(kernel: KernelThread, placement: str) -> None:
    kernel.load(Tally, name="counter", placement=placement)
    counter = counter_of(kernel)
    assert counter.add(2) == 2
    assert list(counter.numbers(3)) == [0, 1, 2]
    report = kernel.swap("counter", Tally2)
    assert not report.rolled_back
    assert (counter.value(), counter.version()) == (2, "two")
    kernel.move("counter", "process")
    assert counter.value() == 2
    assert kernel.ledger("counter").lost == 0
    kernel.scale("counter", 2)
    kernel.restart("counter")
    kernel.unload("counter")
    with pytest.raises(Unavailable, match="unloaded"):
        counter.value()


def test_streams_that_block_go_on_wherever_the_plugin_goes(kernel: KernelThread) -> None:
    kernel.load(Prices, name="prices", placement="process")
    prices = kernel.get(PriceList)
    for change in (
        lambda: None,
        lambda: kernel.move("prices", "inline"),
        lambda: kernel.restart("prices"),
        lambda: kernel.move("prices", "process"),
        lambda: kernel.move("prices", "inline"),
    ):
        change()
        assert list(prices.all(3)) == [0, 1, 2]


def test_an_error_that_was_handled_holds_nothing_of_its_callers(kernel: KernelThread) -> None:
    """Else it is the collector that finds it, in any thread, the loop's own too, and runs the finalizers there."""
    kernel.load(Tally, name="counter")
    counter, held = counter_of(kernel), Held()
    gone = weakref.ref(held)

    def call(_: Held) -> None:
        with pytest.raises(TypeError):
            counter.add("two")

    gc.disable()
    try:
        call(held)
        del held
        assert gone() is None
    finally:
        gc.enable()


class Held:
    """What a caller has in its hands."""


def test_errors_are_the_kernels_own(kernel: KernelThread) -> None:
    with pytest.raises(NotFound, match="no plug-in is named 'nobody'"):
        kernel.unload("nobody")
    kernel.load(Tally, name="counter")
    with pytest.raises(SwapFailed):
        kernel.swap("counter", "core_samples:Scribe")
    assert counter_of(kernel).value() == 0


def test_any_thread_may_call_and_command(kernel: KernelThread) -> None:
    kernel.load(Tally, name="counter", placement="process")
    counter = counter_of(kernel)
    threads = [threading.Thread(target=lambda: [counter.add(1) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    kernel.swap("counter", Tally2)
    for thread in threads:
        thread.join()
    assert counter.value() == 400


def test_the_end_ends_its_processes_and_its_thread() -> None:
    with KernelThread(Kernel("brief")) as kernel:
        kernel.load(Tally, placement="process")
        pid = counter_of(kernel).where()
    assert not is_running(pid)
    assert not kernel.thread.is_alive()
    kernel.close()  # a second time: nothing
    for again in (kernel.start, lambda: kernel.load(Tally)):
        with pytest.raises(
            Unavailable, match=r"^this KernelThread has ended, and does not start again: make another one"
        ):
            again()


def test_one_that_runs_does_not_start_again(kernel: KernelThread) -> None:
    with pytest.raises(Unavailable, match=r"^this KernelThread runs already$"):
        kernel.start()
    kernel.load(Tally, name="counter")
    assert counter_of(kernel).add(1) == 1


def test_one_that_was_not_started_says_so() -> None:
    with pytest.raises(Unavailable, match="is not running: call start"):
        KernelThread().load(Tally)


def test_a_kernel_that_cannot_be_opened_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()

    async def fail(self: Kernel) -> Kernel:
        raise OSError("no file descriptor left")

    monkeypatch.setattr(Kernel, "__aenter__", fail)
    with pytest.raises(OSError, match="no file descriptor left"):
        KernelThread(kernel).start()


def test_its_own_thread_cannot_wait_for_itself(kernel: KernelThread) -> None:
    async def ask() -> None:
        kernel.load(Tally)

    with pytest.raises(RuntimeError, match="event loop's own thread"):
        kernel.run(ask())


def test_a_process_that_was_forked_is_told(kernel: KernelThread) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel.load(Tally)
        except Unavailable as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert "start one here, after the fork" in pipe.read()


PROGRAM = """
    import os, sys
    from core_samples import Counter, Tally
    from mukernel import KernelThread

    if __name__ == "__main__":
        kernel = KernelThread().start()
        kernel.load(Tally, name="counter", placement="process")
        counter = kernel.get(Counter)
        print(counter.where(), flush=True)
        {rest}
"""


@pytest.fixture
def program() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(rest: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        text = textwrap.dedent(PROGRAM).format(rest=rest)
        process = subprocess.Popen(
            [sys.executable, "-c", text], env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("rest", ["counter.add(1)", "items = counter.numbers(1_000_000); next(items)"])
def test_a_program_that_does_not_close_it_ends_all_the_same(program: Any, rest: str) -> None:
    """Nor waits for a stream that it leaves half-read, whose plug-in would go on with it."""
    process = program(rest)
    out, err = process.communicate(timeout=FOREVER)
    assert (process.returncode, err) == (0, "")
    assert not is_running(int(out))


def test_ctrl_c_ends_a_call_that_waits(program: Any, tmp_path: Path) -> None:
    whistle = tmp_path / "whistle"
    os.mkfifo(whistle)
    process = program(f"counter.hold({str(whistle)!r})")
    pid = int(process.stdout.readline())
    assert "holding" in whistle.read_text()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=FOREVER)
    assert "KeyboardInterrupt" in err
    assert not is_running(pid)


class Leaving(Interface):
    async def leave(self) -> None: ...


class Holding(Interface):
    async def hold(self) -> None: ...
    async def holds(self) -> None: ...


class Holder(Plugin, Holding):
    def __init__(self) -> None:
        self.held = asyncio.Event()

    async def hold(self) -> None:
        self.held.set()
        await asyncio.Event().wait()

    async def holds(self) -> None:
        await self.held.wait()


class Leaver(Plugin, Leaving):
    """Ends the program twice: when it is called, and once more while the kernel closes for that."""

    async def leave(self) -> None:
        sys.exit(3)

    async def stop(self) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 4)
        await asyncio.sleep(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_ever_when_a_plugin_ends_the_program_twice() -> None:
    kernel = KernelThread().start()
    kernel.load(Holder, name="holder", placement="process", drain=0.02)
    kernel.load(Leaver, name="leaver")
    holder: Any = kernel.get(Holding)
    ends: list[MukernelError] = []

    def wait() -> None:
        with pytest.raises(MukernelError) as raised, deadline(FOREVER):
            holder.hold()
        ends.append(raised.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    holder.holds()
    with pytest.raises((SystemExit, Unavailable)):
        kernel.get(Leaving).leave()  # type: ignore[unused-coroutine]
    waiting.join()
    assert isinstance(ends[0], Unavailable)
    kernel.close()
    assert isinstance(kernel.problem, SystemExit) and kernel.problem.code == 3
