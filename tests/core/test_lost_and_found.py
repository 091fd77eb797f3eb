"""What was lost once: wake-ups of threads, calls that waited behind a rolled-back swap, channels of an old instance."""

import asyncio
import gc
import os
import signal
import threading
from typing import Any

import pytest
from core_samples import Counter, Sum, Summing, Tally
from killing import pid_of
from waiting import until, until_waiting

from mukernel import (
    DeadlineExceeded,
    Interface,
    Kernel,
    Plugin,
    PluginCrashed,
    RestartPolicy,
    SwapFailed,
    deadline,
)
from mukernel.core.place import RemotePlace
from mukernel.testing import TestKernel


class Box(Interface):
    async def add(self, number: int) -> int: ...
    async def slow(self) -> int: ...
    async def opened(self) -> int: ...


class Holder(Plugin, Box):
    def __init__(self, *, file: str = "") -> None:
        self.file = file

    async def add(self, number: int) -> int:
        return number

    async def slow(self) -> int:
        await asyncio.sleep(0.001)
        return 1

    async def opened(self) -> int:
        await until(lambda: os.path.exists(self.file))
        return 2

    def save(self) -> int:
        return 1

    def restore(self, state: int) -> None: ...


class Broken(Holder):
    def restore(self, state: int) -> None:
        raise ValueError("no")


class Front(Interface):
    async def add(self, number: int) -> int: ...
    async def opened(self) -> int: ...
    async def pid(self) -> int: ...


class Through(Plugin, Front):
    def __init__(self, box: Box) -> None:
        self.box = box

    async def add(self, number: int) -> int:
        return await self.box.add(number)

    async def opened(self) -> int:
        return await self.box.opened()

    async def pid(self) -> int:
        return os.getpid()


async def test_a_thread_is_woken_though_many_of_its_waits_ended_at_a_deadline(kernel: Kernel) -> None:
    """Its ring goes cold; a late reply rings it, and is taken by the next call before the bell is heard."""
    await kernel.load(Holder, name="box", placement="process")
    box = kernel.get(Box, blocking=True)
    ended = threading.Event()

    def work() -> None:
        for number in range(150):
            with pytest.raises(DeadlineExceeded), deadline(0.0005):
                box.slow()  # type: ignore[unused-coroutine]
            threading.Event().wait(0.005)  # until the late reply is there
            assert box.add(number) == number  # type: ignore[comparison-overlap]
        ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    await asyncio.to_thread(thread.join, 60)
    assert ended.is_set(), "a call waits though its reply is there"


async def rolled_back_behind_a_call(kernel: Kernel, file: Any, placement: str) -> list[int]:
    await kernel.load(Holder, name="box", placement=placement, concurrency=1, config={"file": str(file)})
    box = kernel.get(Box)
    first = asyncio.ensure_future(box.opened())
    await until_waiting(kernel, "box", 0)
    rest = [asyncio.ensure_future(box.add(number)) for number in range(3)]
    while (await kernel.ledger("box")).accepted < 4:  # noqa: ASYNC110
        await asyncio.sleep(0)
    swap = asyncio.ensure_future(kernel.swap("box", Broken))
    await until(lambda: kernel.registry.entry("box").state.value == "quiescing")
    rest += [asyncio.ensure_future(box.add(number)) for number in range(3, 6)]
    with open(file, "w"):
        pass
    with pytest.raises(SwapFailed):
        await swap
    answers = await asyncio.gather(first, *rest)
    assert (await kernel.ledger("box")).lost == 0
    return answers


@pytest.mark.parametrize("placement", ["process", "process:shared"])
@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_calls_that_wait_behind_a_swap_that_is_rolled_back_are_run(
    tmp_path: Any, placement: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    async with Kernel() as kernel:
        assert await rolled_back_behind_a_call(kernel, tmp_path / "open", placement) == [2, 0, 1, 2, 3, 4, 5]


def test_calls_that_wait_behind_a_swap_that_is_rolled_back_are_run_in_simulation(tmp_path: Any) -> None:
    async def story(kernel: TestKernel) -> list[int]:
        return await rolled_back_behind_a_call(kernel, tmp_path / "open", "process")

    assert TestKernel().run(story) == [2, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("placement", ["inline", "process:shared"])
async def test_a_caller_that_dies_after_a_rolled_back_swap_is_let_go_of(
    kernel: Kernel, tmp_path: Any, placement: str
) -> None:
    """Its calls are cancelled, and the ledger is right."""
    await kernel.load(Holder, name="box", placement=placement, config={"file": str(tmp_path / "never")})
    await kernel.load(Through, name="front", placement="process")
    front = kernel.get(Front)
    assert [await front.add(number) for number in range(10)] == list(range(10))
    with pytest.raises(SwapFailed):
        await kernel.swap("box", Broken)
    pid = await front.pid()
    call = asyncio.ensure_future(front.opened())
    while (await kernel.ledger("box")).running != 1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    await asyncio.gather(call, return_exceptions=True)
    while (await kernel.ledger("box")).running:  # noqa: ASYNC110
        await asyncio.sleep(0)
    account = await kernel.ledger("box")
    assert (account.accepted, account.replied, account.waiting, account.lost) == (11, 10, 0, 0)
    assert (await kernel.swap("box", Holder)).ledger.lost == 0


async def test_a_kernel_whose_close_is_cancelled_ends_everything(tmp_path: Any) -> None:
    kernel = Kernel()
    async with kernel:
        await kernel.load(Holder, name="box", placement="process", config={"file": str(tmp_path / "open")}, drain=1000)
        await kernel.load(Through, name="front", placement="process")
        call = asyncio.ensure_future(kernel.get(Box).opened())
        while (await kernel.ledger("box")).running != 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        processes = [place.process for place in kernel.places.values()]
        closing = asyncio.ensure_future(kernel.close())
        await until(lambda: kernel.closed is True)
        closing.cancel()
        with open(tmp_path / "open", "w"):
            pass
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.gather(call, return_exceptions=True)
    assert [process.alive for process in processes] == [False, False]


async def test_calls_that_are_cut_off_while_they_wait_for_room_leave_no_error_that_nobody_reads(
    kernel: Kernel, whistle: Any
) -> None:
    """Their deadline ends task and reply in the same turn of the loop, in either order."""
    await kernel.load(Tally, name="counter", placement="process", concurrency=1)
    counter = kernel.get(Counter, when_full="wait")
    warned: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: warned.append(context))
    holds = asyncio.create_task(counter.hold(whistle.path))  # type: ignore[arg-type]
    await whistle.heard()

    async def late() -> None:
        with pytest.raises(DeadlineExceeded), deadline(0.1):
            await counter.add(1)

    await asyncio.gather(*(late() for _ in range(3000)))
    holds.cancel()
    gc.collect()
    assert not warned


async def test_a_wire_that_breaks_while_it_is_being_left_leaves_no_channel(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    (replica,) = kernel.registry.entry("counter").replicas
    held = asyncio.ensure_future(counter.hold(whistle.path))
    await whistle.heard()
    (route,) = kernel.space.routes_to("counter")
    (left,) = route.callers
    await kernel.scale("counter", 2)
    assert left not in route.callers and len(replica.port.channels) == 2
    left.wire.fail("it wrote what no sender writes")
    with pytest.raises(PluginCrashed):
        await held
    assert len(replica.port.channels) == 1


class Untidy(Plugin, Front):
    async def pid(self) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("cleaning up failed")

    async def add(self, number: int) -> int:
        return number

    async def opened(self) -> int:
        return 0


async def test_what_a_call_raises_that_a_thread_has_given_up_is_no_error_that_nobody_reads(kernel: Kernel) -> None:
    await kernel.load(Untidy, name="untidy")
    front = kernel.get(Front, blocking=True)
    warned: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: warned.append(context))

    def late() -> None:
        with pytest.raises(DeadlineExceeded), deadline(0.05):
            front.pid()

    await asyncio.to_thread(late)
    assert await asyncio.to_thread(front.add, 1) == 1  # after what was cancelled has ended
    gc.collect()
    assert not warned


@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_a_restart_goes_on_though_a_caller_dies_at_that_moment(
    monkeypatch: pytest.MonkeyPatch, whistle: Any, transport: str
) -> None:
    """Its channel is at its end when the new instance looks there for what was being run. Others' calls are run
    again."""
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    async with Kernel() as kernel:
        await kernel.load(Tally, name="counter", placement="process")
        await kernel.load(Sum, name="sum", placement="process", restart=RestartPolicy(intensity=0))
        counter, activate = kernel.get(Counter), RemotePlace.activate
        held = asyncio.create_task(counter.hold_again(whistle.path))
        pid, _ = await whistle.heard()
        await kernel.get(Summing).where()

        async def as_a_caller_dies(place: RemotePlace, *given: Any) -> int:
            channels = kernel.registry.entry("counter").replicas[0].port.channels
            before = len(channels)
            os.kill(pid_of(kernel, "sum"), signal.SIGKILL)
            await until(lambda: len(channels) < before)
            return await activate(place, *given)

        monkeypatch.setattr(RemotePlace, "activate", as_a_caller_dies)
        os.kill(pid, signal.SIGKILL)
        heard = asyncio.create_task(whistle.heard())
        await asyncio.wait({heard, held}, return_when=asyncio.FIRST_COMPLETED)
        assert heard.done() and heard.result()[0] != pid
        await counter.release()
        assert await held == "one"
        assert [each.what for each in kernel.events if each.plugin == "counter"] == ["load", "crash", "restart"]
