"""What is under way when its kernel closes ends in Unavailable, and nothing of it is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from core_stubborn import Named, Naming
from waiting import until

from mukernel import Kernel, MukernelError, Plugin, Unavailable
from mukernel.core.sandboxed import enclosed
from mukernel.testing import TestKernel

WAITING = {"waits": "start"}
CHANGES: dict[str, Callable[[Kernel], Awaitable[object]]] = {
    "load": lambda kernel: kernel.load(Named, name="another", placement="process", config=WAITING),
    "swap": lambda kernel: kernel.swap("named", Named, config=WAITING),
    "rollback": lambda kernel: kernel.rollback("named"),
    "move": lambda kernel: kernel.move("named", "inline"),
    "scale": lambda kernel: kernel.scale("named", 2),
    "restart": lambda kernel: kernel.restart("named"),
}


ENDS = list[str]()


class Slow(Plugin, Naming):
    """It takes a second to end."""

    def __init__(self, *, name: str) -> None:
        self.known = name

    async def name(self) -> str:
        return self.known

    async def stop(self) -> None:
        ENDS.append(f"{self.known} begins")
        await asyncio.sleep(1)
        ENDS.append(f"{self.known} ends")


class SlowCaller(Slow):
    def __init__(self, naming: Naming, *, name: str) -> None:
        super().__init__(name=name)


def test_what_is_being_unloaded_when_the_kernel_closes_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main(kernel: TestKernel) -> None:
        ENDS.clear()
        await kernel.load(Slow, name="slow", placement="process", config={"name": "slow"})
        unloading = asyncio.create_task(kernel.unload("slow"))
        await until(lambda: bool(ENDS))
        await kernel.close()
        await unloading
        assert ENDS == ["slow begins", "slow ends"]

    TestKernel().run(main)
    assert "did not stop cleanly" not in caplog.text


@pytest.mark.parametrize("placement", ["process", "inline"])
def test_what_does_not_call_each_other_ends_at_the_same_time(placement: str) -> None:
    async def main(kernel: TestKernel) -> None:
        ENDS.clear()
        for name, use in (("base", Slow), ("alone", Slow), ("caller", SlowCaller), ("late", Slow)):
            bind = {"Naming": "base"} if use is SlowCaller else {}
            await kernel.load(use, name=name, placement=placement, config={"name": name}, bind=bind)
        await kernel.close()
        first = ["late begins", "caller begins", "alone begins"]
        assert ENDS[:3] == first and sorted(ENDS[3:6]) == ["alone ends", "caller ends", "late ends"]
        assert ENDS[6:] == ["base begins", "base ends"]

    TestKernel().run(main)


def test_a_broker_ends_after_those_who_call_what_it_stands_for() -> None:
    async def main(kernel: TestKernel) -> None:
        ENDS.clear()
        for name, use in (("base", Slow), ("broker", Slow), ("caller", SlowCaller)):
            bind = {"Naming": "base"} if use is SlowCaller else {}
            await kernel.load(use, name=name, placement="process", config={"name": name}, bind=bind)
        kernel.registry.brokers["Naming", "base"] = "broker"
        await kernel.close()
        assert ENDS[:3] == ["caller begins", "caller ends", "broker begins"]

    TestKernel().run(main)


@pytest.mark.parametrize("how", ["close", "scale", "swap"])
def test_replicas_end_at_the_same_time(how: str) -> None:
    async def main(kernel: TestKernel) -> None:
        ENDS.clear()
        await kernel.load(Slow, name="slow", placement="process", replicas=3, config={"name": "slow"})
        match how:
            case "close":
                await kernel.close()
            case "scale":
                await kernel.scale("slow", 1)
            case "swap":
                await kernel.swap("slow", Slow)
        count = 2 if how == "scale" else 3
        assert ENDS[: 2 * count] == ["slow begins"] * count + ["slow ends"] * count

    TestKernel().run(main)


@pytest.fixture
def starts_late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once it is called nothing comes to the end of its start; in simulated processes, too: they have our modules."""

    async def start(self: Named) -> None:
        await asyncio.get_running_loop().create_future()

    return lambda: monkeypatch.setattr(Named, "start", start)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_that_is_under_way_ends_with_its_kernel(what: str, starts_late: Callable[[], None]) -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Named, name="named", placement="process")
        if what == "rollback":
            await kernel.swap("named", Named, config={"waits": "nothing"})
        starts_late()
        began = kernel.clock.now()
        change = asyncio.ensure_future(CHANGES[what](kernel))
        calling = kernel.get(Naming)
        await kernel.clock.sleep(1)
        assert await calling.name() and not change.done()
        await kernel.close()
        assert change.done(), "nobody waited for it"
        with pytest.raises(Unavailable, match=f"this kernel was closed while the {what} was under way"):
            await change
        assert not kernel.registry.entries and not kernel.places and not kernel.here.keys
        assert kernel.clock.now() - began < 10
        with pytest.raises(Unavailable, match="has been closed"):
            await CHANGES[what](kernel)

    TestKernel().run(main)


def test_who_asked_for_it_is_not_left_cancelled(starts_late: Callable[[], None]) -> None:
    async def main(kernel: TestKernel) -> None:
        starts_late()

        async def loads() -> int:
            with pytest.raises(Unavailable):
                await kernel.load(Named)
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        loading = asyncio.ensure_future(loads())
        await kernel.clock.sleep(1)
        await kernel.close()
        assert await loading == 0

    TestKernel().run(main)


def test_who_is_cancelled_is_told_that(starts_late: Callable[[], None]) -> None:
    async def main(kernel: TestKernel) -> None:
        starts_late()
        loading = asyncio.ensure_future(kernel.load(Named))
        await kernel.clock.sleep(1)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await kernel.load(Named)
        assert not kernel.registry.entries

    TestKernel().run(main)


def test_a_kernel_is_opened_again_after_changes_ended_with_it(starts_late: Callable[[], None]) -> None:
    async def main(kernel: TestKernel) -> None:
        starts_late()
        loading = asyncio.ensure_future(kernel.load(Named))
        await kernel.clock.sleep(1)
        await kernel.close()
        async with kernel:
            again = asyncio.ensure_future(kernel.load(Named))
            await kernel.clock.sleep(1)
            assert kernel.registry.entries
        for each in (loading, again):
            assert isinstance(each.exception(), MukernelError)

    TestKernel().run(main)


async def test_a_process_that_is_being_started_is_gone_too() -> None:
    async with Kernel() as kernel:
        loading = asyncio.ensure_future(kernel.load(Named, placement="process", config=WAITING))
        await until(lambda: any(place.doing for place in kernel.places.values()))
        (place,) = kernel.places.values()
    with pytest.raises(Unavailable, match="this kernel was closed while the load was under way"):
        await loading
    assert place.has_ended


async def test_a_sandbox_that_is_not_wanted_any_more_when_it_is_set_up() -> None:
    loop, killed = asyncio.get_running_loop(), list[bool]()
    failed: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))
    report, writer = os.pipe()
    process: Any = SimpleNamespace(kill=lambda: killed.append(True))
    starting = asyncio.ensure_future(enclosed(loop, report, "named", process))
    await asyncio.sleep(0)
    os.write(writer, b"ready")
    loop.call_soon(starting.cancel)  # before the loop looks what has come, and in the same turn
    with pytest.raises(asyncio.CancelledError):
        await starting
    os.close(report)
    os.close(writer)
    assert killed and not failed
