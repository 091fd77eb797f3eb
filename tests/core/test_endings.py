"""A process that ends, or hangs, while its plug-in is built: the error names the plug-in, the step and the ending."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import select
import signal
import sys
from pathlib import Path

import core_faulty as faulty
import pytest
from core_samples import Counter, Tally, Tally2
from waiting import until, until_event

from mukernel import ContractError, Interface, Kernel, Plugin, PluginCrashed, RestartPolicy, SwapFailed, Unavailable
from mukernel.core.ending import contained
from mukernel.kernel.process import Limits

LIMIT = 20.0  # seconds within which all must be over
PLACEMENTS = ("inline", "process")
LAST_WORDS = {
    "segfault": ("import ctypes; ctypes.string_at(0)", r"ended by signal 11 \(SIGSEGV\) while it was being imported"),
    "exit": ("import os; os._exit(3)", "exited with status 3 while it was being imported"),
}


class ExitsInConstructor(Tally):
    def __init__(self) -> None:
        os._exit(3)


class FaultsInHealth(Tally):
    def health(self) -> None:
        ctypes.string_at(0)


DEATHS = [
    (ExitsInConstructor, "exited with status 3 while it was being built"),
    (faulty.DiesInConstructor, r"ended by signal 9 \(SIGKILL\) while it was being built"),
    (faulty.DiesInStart, r"ended by signal 9 \(SIGKILL\) while it was being started"),
    (FaultsInHealth, r"ended by signal 11 \(SIGSEGV\) while it was being checked"),
]


@pytest.mark.parametrize(("dies", "how"), DEATHS)
async def test_what_dies_while_it_is_built_says_at_which_step_and_how(kernel: Kernel, dies: type, how: str) -> None:
    with pytest.raises(Unavailable, match=f"^plug-in 'bad': its process {how}$"):
        await kernel.load(dies, name="bad", placement="process")
    assert "bad" not in kernel.registry.entries
    await until(lambda: not kernel.places)


@pytest.mark.parametrize("death", LAST_WORDS)
async def test_a_module_that_takes_its_process_with_it(kernel: Kernel, tmp_path: Path, death: str) -> None:
    code, how = LAST_WORDS[death]
    (tmp_path / "deadly.py").write_text(code)
    await kernel.load(Tally, name="counter", placement="process")
    with pytest.raises(Unavailable, match=f"^plug-in 'bad': its process {how}$"):
        await kernel.load("deadly.py:Any", name="bad", placement="process", folder=str(tmp_path))
    with pytest.raises(SwapFailed, match=f"the old version serves on: plug-in 'counter': its process {how}$"):
        await kernel.swap("counter", "deadly.py:Any", folder=str(tmp_path))
    assert await kernel.get(Counter).add(1) == 1


async def test_a_restart_that_fails_is_recorded_with_its_cause(kernel: Kernel, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    policy = RestartPolicy(intensity=1, period=3600.0)
    await kernel.load(
        faulty.DiesAtOnce, name="counter", placement="process", config={"file": str(broken)}, restart=policy
    )
    pid = await kernel.get(Counter).where()
    broken.touch()
    os.kill(pid, signal.SIGKILL)
    await until_event(kernel, "counter", "restart failed")
    details = [event.detail for event in kernel.events if event.plugin == "counter"]
    assert details[1] == "ended by signal 9 (SIGKILL)"
    assert details[2] == "plug-in 'counter': its process exited with status 3 while it was being built"


# -- sys.exit: from code of a plug-in it is an error, wherever it runs -------------------------------------------------


class LeavesInConstructor(Tally):
    def __init__(self) -> None:
        sys.exit(3)


class LeavesInStart(Tally):
    async def start(self) -> None:
        sys.exit("no licence")


class LeavesInSave(Tally):
    def save(self) -> int:
        sys.exit(3)


class LeavesInRestore(Tally):
    def restore(self, state: int) -> None:
        sys.exit(3)


class LeavesInStop(Tally):
    def stop(self) -> None:
        sys.exit(3)


LEAVERS: list[tuple[type | str, str]] = [
    ("leaver.py:Any", r"sys.exit\(3\) while it was being imported"),
    (LeavesInConstructor, r"sys.exit\(3\) while it was being built"),
    (LeavesInStart, r"sys.exit\('no licence'\) while it was being started"),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("leaver", "how"), LEAVERS)
async def test_a_plugin_that_exits_is_refused_and_the_old_one_serves_on(
    kernel: Kernel, tmp_path: Path, placement: str, leaver: type | str, how: str
) -> None:
    (tmp_path / "leaver.py").write_text("import sys; sys.exit(3)")
    with pytest.raises(ContractError, match=f"^plug-in 'bad' called {how}"):
        await kernel.load(leaver, name="bad", placement=placement, folder=str(tmp_path))
    assert "bad" not in kernel.registry.entries
    await kernel.load(Tally, name="counter", placement=placement)
    counter = kernel.get(Counter)
    assert await counter.add(1) == 1
    with pytest.raises(SwapFailed, match=f"the old version serves on: plug-in 'counter' called {how}"):
        await kernel.swap("counter", leaver, folder=str(tmp_path))
    assert await counter.add(1) == 2


class InterruptsInStart(Tally):
    async def start(self) -> None:
        raise KeyboardInterrupt


async def test_what_ctrl_c_raises_is_an_error_of_a_plugin_where_it_can_not_be_ctrl_c(kernel: Kernel) -> None:
    with pytest.raises(ContractError, match=r"^plug-in 'bad' raised KeyboardInterrupt, which is no Exception, while"):
        await kernel.load(InterruptsInStart, name="bad", placement="process")
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    try:
        with pytest.raises(
            ContractError, match=r"^plug-in 'bad' raised KeyboardInterrupt, which is no Exception, while"
        ):
            await kernel.load(InterruptsInStart, name="bad")
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def test_what_may_be_ctrl_c_says_where_it_came() -> None:
    with pytest.raises(KeyboardInterrupt) as interrupted, contained("bad", "being started"):
        raise KeyboardInterrupt
    assert interrupted.value.__notes__ == ["It came while plug-in 'bad' was being started."]


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_plugin_that_exits_while_it_is_replaced(kernel: Kernel, placement: str) -> None:
    await kernel.load(Tally, name="counter", placement=placement)
    counter = kernel.get(Counter)
    with pytest.raises(SwapFailed, match=r"called sys.exit\(3\) while it was restoring its state"):
        await kernel.swap("counter", LeavesInRestore)
    assert await counter.add(1) == 1
    await kernel.swap("counter", LeavesInSave)
    with pytest.raises(SwapFailed, match=r"called sys.exit\(3\) while it was saving its state"):
        await kernel.swap("counter", Tally)
    assert await counter.add(1) == 2
    await kernel.unload("counter")


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_plugin_that_exits_in_stop_is_unloaded_all_the_same(
    kernel: Kernel, caplog: pytest.LogCaptureFixture, placement: str
) -> None:
    await kernel.load(LeavesInStop, name="counter", placement=placement)
    await kernel.unload("counter")
    assert "called sys.exit(3) while it was being stopped" in caplog.text
    await kernel.load(Tally, name="counter", placement=placement)
    assert await kernel.get(Counter).add(1) == 1


# -- what never returns, and what dies in the midst of a rollback -----------------------------------------------------


class NeverStarts(Tally):
    """Keeps the loop of its process for ever."""

    def start(self) -> None:
        while True:  # every signal ends it, also the one that asks for a stack
            signal.pause()


async def test_a_start_that_never_returns_is_a_hang() -> None:
    policy = RestartPolicy(hang=2.0)  # its module takes a while to import, on a machine that is busy
    silent = "plug-in '{}': its process gave no sign of life for 2 s and was ended; .* while it was being started$"
    async with asyncio.timeout(LIMIT), Kernel(heartbeat=0.05) as kernel:
        with pytest.raises(Unavailable, match=silent.format("bad")):
            await kernel.load(NeverStarts, name="bad", placement="process", restart=policy)
        assert "bad" not in kernel.registry.entries
        await kernel.load(Tally, name="counter", placement="process", restart=policy)
        counter = kernel.get(Counter)
        assert await counter.add(1) == 1
        with pytest.raises(SwapFailed, match="the old version serves on: " + silent.format("counter")):
            await kernel.swap("counter", NeverStarts)
        assert await counter.add(1) == 2
        assert await counter.version() == "one"
        assert [event.plugin for event in kernel.events if event.what == "hang"] == ["bad", "counter"]


class KillsTheOld(Tally):
    """Kills the process of the version before, which has handed over its state, and then fails to take it over."""

    def __init__(self, *, victim: int) -> None:
        super().__init__()
        self.victim = victim

    def restore(self, state: int) -> None:
        old = os.pidfd_open(self.victim)
        os.kill(self.victim, signal.SIGKILL)
        select.select([old], [], [])  # it has ended
        raise LookupError("no such table")


@pytest.mark.parametrize("placement", ["process", "process:shared"])
async def test_the_old_process_dies_while_a_swap_is_rolled_back(kernel: Kernel, placement: str) -> None:
    """Nobody is left who could take over again: the old version is restarted, and what waited is served by it."""
    await kernel.load(Tally, name="counter", placement=placement)
    counter = kernel.get(Counter)
    pid = await counter.where()
    async with asyncio.timeout(LIMIT):
        # In a shared process the new version is where the old one is, and dies with it.
        why = "no such table" if placement == "process" else r"ended by signal 9 \(SIGKILL\) while it was taking over"
        with pytest.raises(SwapFailed, match=why):
            await kernel.swap("counter", KillsTheOld, config={"victim": pid})
        assert await counter.add(1) == 1
        assert await counter.where() != pid
        assert await counter.version() == "one"
        await until_event(kernel, "counter", "restart")
        assert not (await kernel.swap("counter", Tally2, config={})).rolled_back
        assert (await counter.version(), await counter.value()) == ("two", 1)
    assert (await kernel.ledger("counter")).lost == 0


class Allowance(Interface):
    async def seconds(self) -> list[int]: ...
    async def use_up(self) -> None: ...


class Spender(Plugin, Allowance):
    async def seconds(self) -> list[int]:
        return list(resource.getrlimit(resource.RLIMIT_CPU))

    async def use_up(self) -> None:
        """As the system does when it has."""
        signal.raise_signal(signal.SIGXCPU)


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_what_has_used_up_its_processor_time_is_told_so(kernel: Kernel, placement: str) -> None:
    await kernel.load(Spender, placement=placement, limits=Limits(cpu_seconds=100))
    spender = kernel.get(Allowance)
    assert await spender.seconds() == [100, 101]  # the signal that says so comes first
    with pytest.raises(PluginCrashed, match=r"SIGXCPU: it had used up the processor time that its `cpu` allows"):
        await spender.use_up()
