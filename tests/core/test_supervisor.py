"""What dies is started again, its mailbox as it was; what dies too often is given up, and can be revived."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import core_faulty as faulty
import pytest
from core_faulty import Parent, Parenting
from core_samples import Arithmetic, Counter, Report, Reporter, Sum, Summing, Tally, Tally2, blow
from killing import kill
from waiting import is_running, until, until_event, until_state

from mukernel import Interface, Kernel, Plugin, PluginCrashed, RestartPolicy, Unavailable, idempotent
from mukernel.core.journal import Happening
from mukernel.core.lifecycle import State
from mukernel.core.place import RemotePlace

QUICK = RestartPolicy(intensity=3, period=3600.0, backoff=0.001, longest_backoff=0.01)


def events(kernel: Kernel, plugin: str) -> list[str]:
    return [event.what for event in kernel.events if event.plugin == plugin]


async def test_a_killed_process_is_restarted_and_what_waited_is_served(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process", concurrency=1)
    counter = kernel.get(Counter)
    running = asyncio.create_task(counter.hold(whistle.path))
    pid, _ = await whistle.heard()
    waiting = [asyncio.create_task(counter.add(1)) for _ in range(20)]
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PluginCrashed, match=r"its process died while it ran this call.*not declared @idempotent"):
        await running
    assert await asyncio.gather(*waiting) == list(range(1, 21)), "a call that waited was lost, or left its order"
    assert await counter.where() != pid
    assert (await kernel.ledger("counter")).lost == 0
    assert events(kernel, "counter") == ["load", "crash", "restart"]


async def test_the_back_off_of_what_has_crashed_thousands_of_times_is_the_longest(kernel: Kernel) -> None:
    always = RestartPolicy(intensity=1_000_000, period=86_400.0, backoff=0.1, longest_backoff=0.01)
    await kernel.load(Tally, name="counter", placement="process", restart=always)
    kernel.registry.entry("counter").replicas[0].restarts = [kernel.clock.now()] * 5_000  # too many for a float of 2**n
    counter = kernel.get(Counter)
    os.kill(await counter.where(), signal.SIGKILL)
    await until_event(kernel, "counter", "restart")
    assert await counter.add(1) == 1


@pytest.mark.parametrize("raised", [ValueError("a listener's own mistake"), asyncio.CancelledError("of its future")])
async def test_a_listener_that_raises_is_logged_and_supervision_goes_on(
    kernel: Kernel, caplog: pytest.LogCaptureFixture, raised: BaseException
) -> None:
    heard: list[str] = []

    def raising(happening: Happening) -> None:
        raise raised

    def once(happening: Happening) -> None:
        kernel.listeners.remove(once)

    kernel.listeners.extend([raising, once, lambda happening: heard.append(happening.what)])
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    os.kill(await counter.where(), signal.SIGKILL)
    await until_event(kernel, "counter", "restart")
    report = await kernel.swap("counter", Tally2)
    assert not report.rolled_back
    assert await counter.version() == "two"
    assert heard == ["load", "crash", "restart", "swap"]
    logged = [record for record in caplog.records if "raising" in record.getMessage()]
    assert len(logged) == 4
    assert {(record.name, record.exc_info[1] if record.exc_info else None) for record in logged} == {
        ("mukernel", raised)
    }


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_a_listener_ends_the_program_by_sys_exit_as_all_code_in_asyncio_does(ending: type[BaseException]) -> None:
    def leave(happening: Happening) -> None:
        raise ending

    async def program() -> None:
        async with Kernel() as kernel:
            kernel.listeners.append(leave)
            await kernel.load(Tally, name="counter")

    with pytest.raises(ending):
        asyncio.run(program())


async def test_an_idempotent_call_that_a_crash_interrupted_is_run_again(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    running = asyncio.create_task(counter.hold_again(whistle.path))
    for _ in range(3):
        pid, _ = await whistle.heard()
        os.kill(pid, signal.SIGKILL)
    assert (await whistle.heard())[0] != pid
    await counter.release()
    assert await running == "one"


async def test_a_stream_that_a_crash_interrupted_ends_in_an_error(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    stream = counter.numbers(1_000_000)
    assert await anext(stream) == 0
    os.kill(await counter.where(), signal.SIGKILL)
    with pytest.raises(PluginCrashed, match="numbers"):
        async for _ in stream:
            pass
    assert [number async for number in counter.numbers(3)] == [0, 1, 2]


async def test_blocking_callers_survive_a_crash(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter, blocking=True)
    stop = False

    def call() -> set[int]:
        pids: set[int] = set()
        while not stop:
            pids.add(counter.where())  # type: ignore[arg-type]
        return pids

    callers = [asyncio.create_task(asyncio.to_thread(call)) for _ in range(2)]
    proxy = kernel.get(Counter)
    killed = []
    for number in range(1, 4):
        killed.append(await proxy.where())
        os.kill(killed[-1], signal.SIGKILL)
        await until_event(kernel, "counter", "restart", number)
    last = await proxy.where()
    stop = True
    for pids in await asyncio.gather(*callers):
        assert pids <= {*killed, last}


async def test_a_crash_in_a_group_restarts_everything_in_it(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process:shared")
    await kernel.load(Sum, name="sum", placement="process:shared")
    summing, counter = kernel.get(Summing), kernel.get(Counter)
    before = await summing.where()
    assert before[0] == before[1]
    os.kill(before[0], signal.SIGKILL)
    await until_event(kernel, "counter", "restart")
    await until_event(kernel, "sum", "restart")
    after = await summing.where()
    assert after[0] == after[1] == await counter.where()
    assert after[0] != before[0]
    assert len(kernel.places) == 1


@pytest.mark.parametrize("victim", ["caller", "callee", "both"])
async def test_a_chain_heals(kernel: Kernel, victim: str) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(Sum, name="sum", placement="process")
    await kernel.load(Reporter, name="reporter", placement="process")
    report = kernel.get(Report)
    before = await report.path()
    for number in {"caller": [1], "callee": [2], "both": [1, 2]}[victim]:
        os.kill(before[number], signal.SIGKILL)
        await until_event(kernel, ("reporter", "sum", "counter")[number], "restart")
    after = await report.path()
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert changed == [False, victim != "callee", victim != "caller"]


async def test_a_dead_caller_leaves_nothing_behind(kernel: Kernel, whistle: Any) -> None:
    """Its call is cancelled at the callee, its channel is closed, and its successor calls again."""
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(Sum, name="sum", placement="process")
    summing, counter = kernel.get(Summing), kernel.get(Counter)
    held = asyncio.create_task(summing.hold(whistle.path))
    await whistle.heard()
    pid = (await summing.where())[0]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PluginCrashed):
        await held
    await until_event(kernel, "sum", "restart")
    assert await counter.add(1) == 1
    channels = kernel.registry.entry("counter").replicas[0].port.channels.values()
    assert f"process {pid}" not in {channel.caller for channel in channels}
    await kernel.swap("counter", Tally2, drain=30.0)  # would run out if the dead caller's call were still running
    assert (await summing.versions())[1] == "two"


async def test_what_crashes_too_often_is_given_up_and_restart_revives_it(kernel: Kernel, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    await kernel.load(
        faulty.DiesAtOnce, name="counter", placement="process", config={"file": str(broken)}, restart=QUICK
    )
    counter = kernel.get(Counter)
    assert await counter.add(2) == 2
    broken.touch()
    with pytest.raises((PluginCrashed, Unavailable)):
        await counter.add(0)
    with pytest.raises(Unavailable, match="counter is given up: crashed more than 3 times within 3600 s"):
        await counter.add(1)
    with pytest.raises(Unavailable, match="given up"):
        await asyncio.to_thread(kernel.get(Counter, blocking=True).add, 1)  # type: ignore[arg-type]
    entry = kernel.registry.entry("counter")
    assert entry.state.value == "failed" and entry.failure is not None
    assert entry.failure.startswith("crashed more than 3 times within 3600 s, or could not be started again: plug-in ")
    assert events(kernel, "counter").count("restart failed") == 3
    assert not kernel.places
    broken.unlink()
    await kernel.restart("counter")
    assert (await counter.add(5), entry.state.value, entry.failure) == (5, "serving", None)


async def test_an_interrupted_call_that_nobody_will_run_again_is_told(kernel: Kernel, whistle: Any) -> None:
    """It is idempotent, so its caller sends it again, into a mailbox that nobody looks into any more."""
    await kernel.load(Tally, name="counter", placement="process", restart=RestartPolicy(intensity=0))
    counter, blocking = kernel.get(Counter), kernel.get(Counter, blocking=True)
    calls = [
        asyncio.create_task(counter.hold_again(whistle.path)),  # type: ignore[arg-type]
        asyncio.create_task(asyncio.to_thread(blocking.hold_again, whistle.path)),  # type: ignore[arg-type]
    ]
    pid = {(await whistle.heard())[0] for _ in calls}.pop()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        for call in calls:
            with pytest.raises(Unavailable, match="counter is given up"):
                await call


async def test_other_plugins_do_not_notice_a_crash(kernel: Kernel) -> None:
    await kernel.load(faulty.DiesAtOnce, name="fragile", placement="process", restart=QUICK)
    await kernel.load(Tally, name="sound", placement="process")
    sound = kernel.get(Counter, plugin="sound")
    pid = await sound.where()
    with pytest.raises(PluginCrashed):
        await kernel.get(Counter, plugin="fragile").add(0)
    assert await sound.where() == pid
    assert events(kernel, "sound") == ["load"]


async def test_rest_for_one_restarts_what_depends_on_it(kernel: Kernel) -> None:
    policy = RestartPolicy(strategy="rest-for-one")
    await kernel.load(Tally, name="counter", placement="process", restart=policy)
    await kernel.load(Sum, name="sum", placement="process")
    await kernel.load(Arithmetic, name="later", placement="process")
    summing = kernel.get(Summing)
    before, later = await summing.where(), kernel.registry.entry("later").replicas[0].instance
    os.kill(before[1], signal.SIGKILL)
    await until_event(kernel, "sum", "restart")
    after = await summing.where()
    assert (before[0] != after[0], before[1] != after[1]) == (True, True)
    assert kernel.registry.entry("later").replicas[0].instance is later, "it was loaded later, but depends on nothing"


@pytest.mark.parametrize("placement", ["inline", "process:shared"])
async def test_rest_for_one_leaves_alone_what_shares_a_process_with_who_calls_it(
    kernel: Kernel, placement: str
) -> None:
    """In the kernel's own process that is the application."""
    policy = RestartPolicy(strategy="rest-for-one")
    await kernel.load(Tally, name="counter", placement="process", restart=policy)
    await kernel.load(Arithmetic, name="neighbour", placement=placement)
    await kernel.load(Sum, name="sum", placement=placement)
    await kernel.load(Reporter, name="last", placement="process")
    os.kill(await kernel.get(Counter).where(), signal.SIGKILL)
    await until_event(kernel, "sum", "restart")
    restarting = kernel.registry.entry("counter").restarting_dependants
    assert restarting is not None
    await restarting
    assert [events(kernel, name) for name in ("neighbour", "last")] == [["load"], ["load"]]


class Ground(Interface):
    @idempotent
    async def third(self, whistle: str) -> int: ...


class Grounded(Interface):
    async def third(self, whistle: str) -> int: ...


class Slow(Plugin, Ground):
    """Only the third that runs a call ends it; the others wait to be killed."""

    async def third(self, whistle: str) -> int:
        with Path(whistle + ".runs").open("a+") as runs:
            runs.write("run\n")
            runs.flush()
            runs.seek(0)
            count = len(runs.readlines())
        blow(whistle)
        if count < 3:
            await asyncio.get_running_loop().create_future()
        return count


class OnGround(Plugin, Grounded):
    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    async def third(self, whistle: str) -> int:
        return await self.ground.third(whistle)


async def test_a_crash_while_dependants_are_restarted_is_looked_after_at_once(kernel: Kernel, whistle: Any) -> None:
    """A dependant that is replaced waits for its calls, and they for what it depends on."""
    policy = RestartPolicy(strategy="rest-for-one")
    await kernel.load(Slow, name="ground", placement="process", restart=policy)
    await kernel.load(OnGround, name="upper", placement="process", drain=3600.0)
    call = asyncio.create_task(kernel.get(Grounded).third(whistle.path))
    for restarts in range(2):
        pid, _ = await whistle.heard()
        if restarts:
            await until_state(kernel, "upper", State.QUIESCING)
        os.kill(pid, signal.SIGKILL)
    assert await call == 3
    await until_event(kernel, "upper", "restart", times=2)
    assert events(kernel, "ground") == ["load", "crash", "restart", "crash", "restart"]
    assert events(kernel, "upper") == ["load", "restart", "restart"]
    assert [(await kernel.ledger(name)).lost for name in ("ground", "upper")] == [0, 0]


async def test_a_restart_begins_with_the_last_checkpoint(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", checkpoint=0.01)
    counter = kernel.get(Counter)
    assert await counter.add(41) == 41
    replica = kernel.registry.entry("counter").replicas[0]
    await until(lambda: replica.checkpoint == (b"\x29", 1))  # 41
    os.kill(await counter.where(), signal.SIGKILL)
    assert await counter.add(1) == 42


async def test_a_plugin_takes_a_checkpoint_itself(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "careful.py").write_text(
        "from core_samples import Tally\n"
        "class Careful(Tally):\n"
        "    async def add(self, amount: int) -> int:\n"
        "        total = await super().add(amount)\n"
        "        await self.checkpoint()\n"
        "        return total\n"
    )
    await kernel.load("careful.py:Careful", name="counter", placement="process", folder=str(tmp_path))
    counter = kernel.get(Counter)
    assert await counter.add(7) == 7
    await counter.where()
    os.kill(await counter.where(), signal.SIGKILL)
    assert await counter.value() == 7


async def test_the_fork_server_is_killed(kernel: Kernel) -> None:
    """Its children die with it: they are restarted by a new one."""
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    pid = await counter.where()
    assert kernel.processes.fork_server is not None
    forker = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(forker, signal.SIGKILL)
    await until_event(kernel, "counter", "restart")
    assert await counter.where() != pid
    await kernel.load(Sum, name="sum", placement="process")
    assert await kernel.get(Summing).add_twice(1) == 2


async def test_a_crash_during_a_scale_and_a_restart_that_was_asked_for(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=3)
    counter = kernel.get(Counter)
    pids = {await counter.where() for _ in range(6)}
    os.kill(min(pids), signal.SIGKILL)
    await kernel.scale("counter", 2)
    await until_event(kernel, "counter", "crash")
    await until_state(kernel, "counter", State.SERVING)
    assert len({await counter.where() for _ in range(8)}) == 2
    report = await kernel.restart("counter")
    assert not report.rolled_back
    assert len({await counter.where() for _ in range(8)} - pids) == 2


@pytest.mark.parametrize("change", ["load", "swap"])
async def test_what_dies_before_it_is_noted_that_it_serves_is_restarted(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    if change == "swap":
        await kernel.load(Tally, name="counter", placement="process")
    activate, killed = RemotePlace.activate, []

    async def activate_and_die(place: RemotePlace, *arguments: Any) -> int:
        since = await activate(place, *arguments)
        if not killed:
            killed.append(place.pid)
            place.process.kill()
            await until(lambda: place.space not in kernel.places)  # the supervisor has seen it
        return since

    monkeypatch.setattr(RemotePlace, "activate", activate_and_die)
    async with asyncio.timeout(20):
        if change == "swap":
            await kernel.swap("counter", Tally2)
        else:
            await kernel.load(Tally, name="counter", placement="process")
        assert await kernel.get(Counter).where() not in killed
    assert "crash" in events(kernel, "counter")


async def test_what_a_plugin_has_started_ends_with_its_process(kernel: Kernel) -> None:
    """By a swap, by a kill and by an unload, though it is in a session of its own."""
    await kernel.load(Parent, name="parent", placement="process")
    parent = kernel.get(Parenting)
    children = [await parent.child()]
    await kernel.swap("parent", Parent)
    children.append(await parent.child())
    await kill(kernel, "parent")
    children.append(await parent.child())
    assert is_running(children[2])
    await kernel.unload("parent")
    await until(lambda: not any(map(is_running, children)))
