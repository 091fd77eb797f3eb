"""Nobody waits for ever for a plug-in that does not end what it was told to, nor for a process that leaves unanswered
what the kernel tells it to do. (In virtual time, but for the last.)"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from core_stubborn import Caller, Calling, Named, Naming, leave_unanswered, place_of
from waiting import is_running, until, until_event

from mukernel import Kernel, PermissionDenied, SwapFailed, Unavailable
from mukernel.core import hooks, messages, overdue
from mukernel.core.instances import Instances
from mukernel.core.overdue import SLACK, ended_if_overdue, time_for
from mukernel.kernel.clock import VirtualClock
from mukernel.testing import TestKernel

IN_ALL = pytest.approx(hooks.PATIENCE + hooks.CLEAN_UP, abs=0.1)  # seconds that a hook takes up
WAYS = ["heedless", "deaf"]
PLACEMENTS = ["inline", "process", "process:shared"]


# -- a plug-in ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what is deaf says so in the end
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("how", WAYS)
def test_a_stop_that_takes_no_cancellation_is_given_up(
    placement: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Named, name="named", placement=placement, config={"waits": "stop", "how": how})
        await kernel.load(Caller, placement=placement)
        began = kernel.clock.now()
        await kernel.unload("named")
        assert kernel.clock.now() - began == IN_ALL
        with pytest.raises(Unavailable, match="was unloaded"):
            await kernel.get(Calling).call()

    TestKernel().run(main)  # which nothing that goes on for ever keeps from returning
    assert "plug-in 'named' takes no cancellation while it is being stopped: it is given up" in caplog.text


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_kernel_closes_beside_a_stop_that_takes_no_cancellation(placement: str) -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Named, name="named", placement=placement, config={"waits": "stop"})
        began = kernel.clock.now()
        await kernel.close()
        assert kernel.clock.now() - began == IN_ALL

    TestKernel().run(main)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("hook", ["save", "restore"])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swap_whose_state_does_not_come_across_is_rolled_back(
    placement: str, hook: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(kernel: TestKernel) -> None:
        stubborn = {"waits": hook, "how": how}
        await kernel.load(Named, name="named", placement=placement, config=stubborn if hook == "save" else {})
        before = place_of(kernel, "named")
        served = await kernel.get(Naming).name()
        began = kernel.clock.now()
        swapping = asyncio.ensure_future(kernel.swap("named", Named, config=stubborn if hook == "restore" else {}))
        await kernel.clock.sleep(1)
        assert await kernel.get(Naming).name() == served, "the call that came meanwhile"
        with pytest.raises(SwapFailed, match=rf"rolled back.*Named\.{hook} did not return within 30 s"):
            await swapping
        assert kernel.clock.now() - began == IN_ALL
        assert place_of(kernel, "named") is before
        assert await kernel.get(Naming).name() == served

    TestKernel().run(main)
    doing = "saving" if hook == "save" else "restoring"
    assert f"plug-in 'named' takes no cancellation while it is {doing} its state: it is given up" in caplog.text


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("hook", ["start", "health"])
def test_a_load_whose_hook_takes_no_cancellation_ends(placement: str, hook: str) -> None:
    async def main(kernel: TestKernel) -> None:
        with pytest.raises(Unavailable, match="'named' was not there after 35 s"):
            await kernel.load(Named, name="named", placement=placement, config={"waits": hook})
        assert not kernel.registry.entries and not kernel.here.keys
        await kernel.load(Named, name="named", placement=placement)
        assert await kernel.get(Naming).name() == "waits in nothing"

    TestKernel().run(main)


def test_a_checkpoint_that_takes_no_cancellation_keeps_nobody() -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Named, name="named", placement="process", checkpoint=1.0, config={"waits": "save"})
        await kernel.clock.sleep(5)
        began = kernel.clock.now()
        await kernel.unload("named")
        assert kernel.clock.now() - began < SLACK

    TestKernel().run(main)


async def test_what_a_hook_does_is_told_as_it_was() -> None:
    """In a task of its own or not."""

    async def late(error: BaseException | None) -> int:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return 1

    assert await hooks.outcome(1, "named", "being stopped") == 1
    assert await hooks.outcome(late(None), "named", "being stopped") == 1
    with pytest.raises(TimeoutError, match="its own"):
        await hooks.outcome(late(TimeoutError("its own")), "named", "being stopped", 10.0)
    with pytest.raises(Exception, match=r"plug-in 'named' called sys\.exit\(3\) while it was being stopped"):
        await hooks.outcome(late(SystemExit(3)), "named", "being stopped")
    with pytest.raises(Exception, match="'named' raised CancelledError while it was being stopped"):
        await hooks.outcome(late(asyncio.CancelledError()), "named", "being stopped")


# -- a process ---------------------------------------------------------------------------------------------------


async def swap(kernel: TestKernel) -> None:
    with pytest.raises(SwapFailed, match="rolled back"):
        await kernel.swap("named", Named)


async def unload(kernel: TestKernel) -> None:
    await kernel.unload("named")


async def close(kernel: TestKernel) -> None:
    await kernel.close()


async def revoke(kernel: TestKernel) -> None:
    assert await kernel.revoke("caller", "Naming") == 1
    with pytest.raises(PermissionDenied):
        await kernel.get(Calling).call()


async def ledger(kernel: TestKernel) -> None:
    await kernel.ledger("named")


def longest(command: messages.Message) -> float:
    seconds = time_for(command)
    assert seconds is not None
    return seconds + SLACK


AT_ONCE = longest(messages.Resume(""))
STOP, SHORT_DRAIN = longest(messages.Stop("", 30.0, "")), longest(messages.Stop("", 0.0, ""))
UNANSWERED: list[tuple[str, Callable[[TestKernel], Awaitable[None]], float, bool]] = [
    ("Stop", unload, STOP, False),
    ("Stop", close, STOP, False),
    ("Quiesce", swap, longest(messages.Quiesce("", 30.0, True)), True),
    ("Detach", revoke, AT_ONCE, True),
    ("Count", ledger, AT_ONCE, True),
]


@pytest.mark.parametrize("command, change, seconds, serves", UNANSWERED)  # type: ignore[misc]
def test_a_process_that_leaves_a_command_unanswered_is_ended(
    command: str, change: Callable[[TestKernel], Awaitable[None]], seconds: float, serves: bool
) -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Named, name="named", placement="process")
        await kernel.load(Caller, name="caller", placement="process")
        assert await kernel.get(Calling).call()
        place = leave_unanswered(place_of(kernel, "named"), command)
        began = kernel.clock.now()
        await change(kernel)
        assert kernel.clock.now() - began == pytest.approx(seconds, abs=1.1)
        assert place.verdict is not None
        assert place.verdict.startswith(f"gave no answer to {command} within ")
        assert not place.process.alive
        if serves:
            await until_event(kernel, "named", "restart")
            assert place_of(kernel, "named") is not place
            assert await kernel.get(Naming).name()

    TestKernel().run(main)


def test_a_successor_that_never_takes_over_is_ended_and_the_swap_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Named, name="named", placement="process")
        before = place_of(kernel, "named")
        built = Instances.build

        async def build(instances: Instances, *given: Any) -> Any:
            instance = await built(instances, *given)
            leave_unanswered(instance.place, "Activate", "Stop")
            return instance

        monkeypatch.setattr(Instances, "build", build)
        swapping = asyncio.ensure_future(kernel.swap("named", Named))
        await kernel.clock.sleep(1)
        assert await kernel.get(Naming).name() == "waits in nothing"
        told = "rolled back.*its process gave no answer to Activate within 36 s and was ended while it was taking over"
        with pytest.raises(SwapFailed, match=told):
            await swapping
        assert place_of(kernel, "named") is before
        assert list(kernel.places.values()) == [before]

    TestKernel().run(main)


@pytest.mark.parametrize("command", ["Resume", "Rerouted"])
def test_a_swap_that_can_not_be_taken_back_in_time_ends_all_the_same(command: str) -> None:
    """To resume after the successor has failed, and to gate a neighbour's direct calls, wait for the old process."""

    async def main(kernel: TestKernel) -> None:
        placement = "process" if command == "Resume" else "process:shared"
        await kernel.load(Named, name="named", placement=placement)
        await kernel.load(Caller, name="caller", placement=placement)
        place = leave_unanswered(place_of(kernel, "named"), command)
        began = kernel.clock.now()
        with pytest.raises(SwapFailed):
            await kernel.swap("named", Named, config={"waits": "restore"})
        took = AT_ONCE + (hooks.PATIENCE + hooks.CLEAN_UP if command == "Resume" else 0.0)
        assert kernel.clock.now() - began == pytest.approx(took, abs=2.1)
        assert place.verdict.startswith(f"gave no answer to {command} within 10 s")
        await until_event(kernel, "named", "restart")
        assert await kernel.get(Naming).name()

    TestKernel().run(main)


def test_neighbours_of_what_is_ended_are_started_again() -> None:
    async def main(kernel: TestKernel) -> None:
        await kernel.load(Named, name="named", placement="process:shared")
        await kernel.load(Named, name="other", placement="process:shared")
        leave_unanswered(place_of(kernel, "named"), "Stop")
        await kernel.unload("named")
        assert await kernel.get(Naming, plugin="other").name()
        assert ("crash", "other") in [(event.what, event.plugin) for event in kernel.events]

    TestKernel().run(main)


@pytest.mark.parametrize("silence", [None, 30.0])
def test_only_time_in_which_a_process_is_there_counts(silence: float | None) -> None:
    """It may be busy with a method, for as long as its policy lets it; but one that does not answer the one ping that
    counts, and the others, is not waited for longer than that."""
    clock = VirtualClock()

    async def main() -> None:
        ended: list[str] = []
        free = asyncio.Event()

        async def ping() -> None:
            await free.wait()

        with ended_if_overdue(messages.Resume("named#0.1"), ping, silence, ended.append):
            await clock.sleep(SLACK + 29)
            assert not ended
            free.set()
            await clock.sleep(SLACK - 1)
            assert not ended
            await clock.sleep(2)
            assert ended
        ended.clear()
        free.clear()
        with ended_if_overdue(messages.Resume("named#0.1"), ping, silence, ended.append):
            await clock.sleep(SLACK + 30 + SLACK + 1)
            assert bool(ended) == (silence is not None)
        ended.clear()
        free.set()
        with ended_if_overdue(messages.Resume("named#0.1"), ping, silence, ended.append):
            await clock.sleep(SLACK + 1)
        await clock.sleep(1000)
        assert not ended, "it had answered"

    clock.run(main())


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_a_real_process_is_ended_when_its_stop_does_not(placement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own end of the link would give up after 30 s, and the kernel does sooner."""
    monkeypatch.setattr(overdue, "SLACK", 0.05)
    monkeypatch.setattr(hooks, "PATIENCE", 0.05)
    monkeypatch.setattr(hooks, "CLEAN_UP", 0.05)
    async with Kernel() as kernel:
        await kernel.load(Named, name="named", placement=placement, drain=0.05, config={"waits": "stop"})
        place = place_of(kernel, "named")
        pid = place.pid
        await kernel.unload("named")
        assert "gave no answer to Stop within" in place.verdict
        await until(lambda: not is_running(pid))
    assert pid != os.getpid()
