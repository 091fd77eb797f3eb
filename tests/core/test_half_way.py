"""What is interrupted half-way: cancelled unloads and scales, processes that are shared while one builds, replicas of
which some are given up, hooks that raise what is no Exception."""

import asyncio
import os
import signal
from collections.abc import Awaitable
from typing import Any

import pytest
from waiting import until, until_event, until_state, until_waiting

from mukernel import Interface, Kernel, Plugin, PluginCrashed, RemoteError, RestartPolicy, SwapFailed, Unavailable
from mukernel.core.lifecycle import State
from mukernel.core.registry import Replica


class Gate(Interface):
    async def opened(self) -> int: ...
    async def pid(self) -> int: ...


class Waits(Plugin, Gate):
    """`opened` returns when the file is there."""

    def __init__(self, *, file: str = "") -> None:
        self.file = file

    async def opened(self) -> int:
        await until(lambda: os.path.exists(self.file))
        return os.getpid()

    async def pid(self) -> int:
        return os.getpid()


class Other(Interface):
    async def where(self) -> int: ...


class SlowStart(Plugin, Other):
    def __init__(self, *, file: str = "") -> None:
        self.file = file

    async def start(self) -> None:
        with open(self.file + ".begun", "w"):
            pass
        self.background = asyncio.create_task(self.work())
        await until(lambda: os.path.exists(self.file))

    async def work(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.background.cancel()
        with open(self.file + ".stopped", "w"):
            pass

    async def where(self) -> int:
        return os.getpid()


class NeverStarts(Waits):
    async def start(self) -> None:
        open_it(self.file + ".begun")
        await asyncio.Event().wait()


class FailsToStart(SlowStart):
    async def start(self) -> None:
        raise RuntimeError("not today")


def open_it(path: os.PathLike[str]) -> str:
    with open(path, "w"):
        return str(path)


def pid_of(replica: Replica) -> int:
    assert replica.instance is not None
    return replica.instance.place.pid


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


# -- cancelled ----------------------------------------------------------------------------------------------------


async def test_an_unload_that_is_cancelled_runs_to_its_end(kernel: Kernel, tmp_path: Any) -> None:
    await kernel.load(
        Waits, name="gate", placement="process", concurrency=1, drain=0.2, config={"file": str(tmp_path / "never")}
    )
    gate = kernel.get(Gate)
    calls = [asyncio.ensure_future(gate.opened()) for _ in range(3)]
    await until_waiting(kernel, "gate", 2)
    unload = asyncio.create_task(kernel.unload("gate"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    unload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unload
    assert [type(each) for each in await outcomes(*calls)] == [Unavailable] * 3
    assert kernel.places == {} and "gate" not in kernel.registry.entries


async def test_a_scale_that_is_cancelled_runs_to_its_end(kernel: Kernel, tmp_path: Any) -> None:
    file = tmp_path / "opened"
    await kernel.load(
        Waits, name="gate", placement="process", replicas=2, concurrency=1, config={"file": str(file)}
    )  # fmt: skip
    gate = kernel.get(Gate)
    calls = [asyncio.ensure_future(gate.opened()) for _ in range(2)]
    scale = asyncio.create_task(kernel.scale("gate", 1))
    await until(lambda: len(kernel.registry.entry("gate").staying) == 1)
    scale.cancel()
    open_it(file)
    with pytest.raises(asyncio.CancelledError):
        await scale
    assert len(set(await asyncio.gather(*calls))) == 2, "what leaves serves what it had been sent"
    assert len(kernel.places) == 1
    assert (await kernel.scale("gate", 2)).before == "1 replicas"
    assert len(set(await asyncio.gather(*(gate.pid() for _ in range(8))))) == 2


async def test_a_load_that_is_cancelled_leaves_nothing(kernel: Kernel, tmp_path: Any) -> None:
    file = tmp_path / "never"
    load = asyncio.create_task(kernel.load(SlowStart, name="slow", placement="process", config={"file": str(file)}))
    await until(lambda: os.path.exists(f"{file}.begun"))
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert kernel.places == {} and "slow" not in kernel.registry.entries


# -- a shared process ---------------------------------------------------------------------------------------------


async def test_a_process_is_not_ended_while_another_plugin_is_built_in_it(kernel: Kernel, tmp_path: Any) -> None:
    file = tmp_path / "opened"
    await kernel.load(Waits, name="gate", placement="process:shared")
    load = asyncio.create_task(
        kernel.load(SlowStart, name="slow", placement="process:shared", config={"file": str(file)})
    )
    await until(lambda: os.path.exists(f"{file}.begun"))
    pid = await kernel.get(Gate).pid()
    await kernel.unload("gate")
    with pytest.raises(RemoteError, match="RuntimeError: not today"):
        await kernel.load(
            FailsToStart, name="fails", placement="process:shared", config={"file": str(tmp_path / "failed")}
        )
    open_it(file)
    await load
    assert await kernel.get(Other, plugin="slow").where() == pid
    await kernel.unload("slow")
    assert kernel.places == {}


async def test_what_was_half_built_in_a_shared_process_is_stopped_there(kernel: Kernel, tmp_path: Any) -> None:
    file = tmp_path / "never"
    await kernel.load(Waits, name="gate", placement="process:shared")
    load = asyncio.create_task(
        kernel.load(SlowStart, name="slow", placement="process:shared", config={"file": str(file)})
    )
    await until(lambda: os.path.exists(f"{file}.begun"))
    load.cancel()
    await outcomes(load)
    await until(lambda: os.path.exists(f"{file}.stopped"))
    assert await kernel.get(Gate).pid() in {place.pid for place in kernel.places.values()}


# -- some replicas ------------------------------------------------------------------------------------------------


async def test_a_replica_that_is_given_up_leaves_the_others_serving(kernel: Kernel) -> None:
    await kernel.load(
        Waits, name="gate", placement="process", replicas=2, restart=RestartPolicy(intensity=1, period=1000)
    )  # fmt: skip
    gate, blocking = kernel.get(Gate), kernel.get(Gate, blocking=True)
    await gate.pid()
    entry = kernel.registry.entry("gate")
    lost, kept = entry.replicas
    os.kill(pid_of(lost), signal.SIGKILL)
    await until_event(kernel, "gate", "restart")
    await until_state(kernel, "gate", State.SERVING)
    os.kill(pid_of(lost), signal.SIGKILL)
    await until_event(kernel, "gate", "given up")
    await until(lambda: lost.failure is not None and not lost.port.channels)
    assert {await gate.pid() for _ in range(6)} == {pid_of(kept)}
    assert {await asyncio.to_thread(blocking.pid) for _ in range(6)} == {pid_of(kept)}  # type: ignore[arg-type]
    assert entry.failure is None
    await kernel.scale("gate", 3)
    assert len({await gate.pid() for _ in range(12)}) == 2
    await kernel.restart("gate")
    assert len({await gate.pid() for _ in range(12)}) == 3


async def test_replicas_that_die_during_a_scale_are_restarted_and_serve_what_waits(
    kernel: Kernel, tmp_path: Any
) -> None:
    """Those that leave, and those that stay."""
    file = tmp_path / "opened"
    await kernel.load(
        Waits, name="gate", placement="process", replicas=2, concurrency=1, drain=1000, config={"file": str(file)}
    )  # fmt: skip
    gate, entry = kernel.get(Gate), kernel.registry.entry("gate")
    calls = [asyncio.ensure_future(gate.opened()) for _ in range(8)]
    while (await kernel.ledger("gate")).running != 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    stays, leaves = entry.replicas
    scale = asyncio.create_task(kernel.scale("gate", 1))
    await until(lambda: leaves.leaving)
    for replica in (leaves, stays):
        os.kill(pid_of(replica), signal.SIGKILL)
    await until_event(kernel, "gate", "restart", times=2)
    open_it(file)
    report = await scale
    done = await outcomes(*calls)
    assert sorted(type(each).__name__ for each in done) == ["PluginCrashed"] * 2 + ["int"] * 6
    assert report.ledger.lost == 0 and len(entry.replicas) == 1


async def test_what_a_scale_reports_of_a_crashed_replica_is_not_lost(kernel: Kernel, tmp_path: Any) -> None:
    await kernel.load(Waits, name="gate", placement="process", config={"file": str(tmp_path / "never")}, drain=0)
    call = asyncio.ensure_future(kernel.get(Gate).opened())
    await until(lambda: bool(kernel.registry.entry("gate").replicas[0].port.channels))
    while (await kernel.ledger("gate")).running != 1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    os.kill(pid_of(kernel.registry.entry("gate").replicas[0]), signal.SIGKILL)
    while not call.done():
        assert (await kernel.ledger("gate")).lost == 0
        await asyncio.sleep(0)
    assert isinstance(call.exception(), PluginCrashed)


# -- roll-backs ---------------------------------------------------------------------------------------------------


class Chosen(Plugin, Gate):
    """Was bound to one of two plug-ins when there was only one."""

    def __init__(self, other: Other) -> None:
        self.other = other

    async def opened(self) -> int:
        return await self.other.where()

    async def pid(self) -> int:
        return os.getpid()


class Elsewhere(Plugin, Other):
    async def where(self) -> int:
        return os.getpid()


async def test_a_swap_that_was_rolled_back_leaves_the_bindings_of_before(kernel: Kernel) -> None:
    await kernel.load(Elsewhere, name="first", placement="process")
    await kernel.load(Chosen, name="chosen", placement="process")
    await kernel.load(Elsewhere, name="second", placement="process")
    gate = kernel.get(Gate)
    served_by = await gate.opened()
    with pytest.raises(SwapFailed, match="the new version does not serve Gate"):
        await kernel.swap("chosen", Elsewhere)
    os.kill(await gate.pid(), signal.SIGKILL)
    await until_event(kernel, "chosen", "restart")
    assert await gate.opened() == served_by


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_crash_does_not_wait_for_a_version_that_is_being_started(
    kernel: Kernel, tmp_path: Any, replicas: int
) -> None:
    file = str(tmp_path / "file")
    await kernel.load(Waits, name="gate", placement="process", replicas=replicas, config={"file": file})
    gate, old = kernel.get(Gate), {pid_of(each) for each in kernel.registry.entry("gate").replicas}
    swap = asyncio.create_task(kernel.swap("gate", NeverStarts))
    await until(lambda: os.path.exists(file + ".begun"))
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(SwapFailed, match="is started again as before: it crashed while its successor was built"):
        await swap
    assert await gate.pid() not in old
    await until_event(kernel, "gate", "restart", times=replicas)
    assert not (await kernel.swap("gate", Waits)).rolled_back


async def test_what_is_given_up_with_one_of_its_replicas_is_swapped_with_all(kernel: Kernel) -> None:
    await kernel.load(Waits, name="gate", placement="process", replicas=2, restart=RestartPolicy(intensity=0))
    os.kill(pid_of(kernel.registry.entry("gate").replicas[0]), signal.SIGKILL)
    await until_state(kernel, "gate", State.FAILED)
    gate = kernel.get(Gate)
    assert len({await gate.pid() for _ in range(4)}) == 1
    report = await kernel.swap("gate", Waits)
    assert (report.given_up, report.crashed) == (False, False)
    assert len({await gate.pid() for _ in range(4)}) == 2


class Panic(BaseException):
    """As of an extension that is not written in Python."""


class Panics(Plugin, Gate):
    def __init__(self, *, hook: str = "") -> None:
        self.hook = hook

    def panic(self, hook: str) -> None:
        if hook == self.hook:
            raise Panic("stop it")

    def start(self) -> None:
        self.panic("start")

    def health(self) -> None:
        self.panic("health")

    def save(self) -> int:
        self.panic("save")
        return 1

    def restore(self, state: int) -> None:
        self.panic("restore")

    async def opened(self) -> int:
        self.panic("opened")
        return 0

    async def pid(self) -> int:
        return os.getpid()


@pytest.mark.parametrize("placement", ["inline", "process"])
@pytest.mark.parametrize("hook", ["start", "health", "restore"])
async def test_a_hook_that_raises_what_is_no_exception_fails_the_swap(
    kernel: Kernel, placement: str, hook: str
) -> None:
    await kernel.load(Panics, name="gate", placement=placement)
    pid = await kernel.get(Gate).pid()
    with pytest.raises(SwapFailed, match="plug-in 'gate' raised Panic: stop it, which is no Exception, while it was"):
        await kernel.swap("gate", Panics, config={"hook": hook})
    assert await kernel.get(Gate).pid() == pid


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_save_or_a_method_that_raises_what_is_no_exception_is_answered(kernel: Kernel, placement: str) -> None:
    await kernel.load(Panics, name="gate", placement=placement, config={"hook": "save"})
    with pytest.raises(SwapFailed, match="raised Panic"):
        await kernel.restart("gate")
    await kernel.unload("gate")
    await kernel.load(Panics, name="gate", placement=placement, config={"hook": "opened"})
    with pytest.raises(BaseException, match="stop it"):
        await kernel.get(Gate).opened()
    assert await kernel.get(Gate).pid() > 0
