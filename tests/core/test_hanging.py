"""What hangs is found, says where it stands, and is restarted; and whoever asks is told where a process stands."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import core_faulty as faulty
import pytest
from core_faulty import Parent, Parenting
from core_samples import Counter, Tally
from waiting import is_running, until, until_event

from mukernel import Kernel, NotFound, PluginCrashed, RestartPolicy
from mukernel.core import fork_servers
from mukernel.core.place import RemotePlace
from mukernel.core.stack import STACK_SIGNAL, Stack, StackPipe, parsed
from mukernel.kernel.process import ExitStatus

QUICK = RestartPolicy(hang=1.5)
INNERMOST = r"in (?:Hangs\.)?add \(core_faulty\.py:\d+\)"
STANDS = {
    0: rf"sleeping, {INNERMOST}",
    -1: rf"running, {INNERMOST}",
    -2: rf"sleeping, {INNERMOST}",
    -3: rf"stopped by a signal such as SIGSTOP, {INNERMOST}",
    -4: r"sleeping: it gave no Python stack within 1 s: it blocks the signal that asks for one, or is in the system",
    -5: rf"running, {INNERMOST}",
}


@pytest.mark.parametrize("way", STANDS)
async def test_a_plugin_that_keeps_its_loop_is_found_with_its_stack_and_restarted(way: int, tmp_path: Path) -> None:
    async with Kernel(heartbeat=0.05, log_folder=str(tmp_path)) as kernel:
        await kernel.load(faulty.Hangs, name="counter", placement="process", restart=QUICK)
        await kernel.load(Tally, name="sound", placement="process")
        counter, sound = kernel.get(Counter, plugin="counter"), kernel.get(Counter, plugin="sound")
        pids = await counter.where(), await sound.where()
        died = r"Counter.add: its process died while it ran this call \(gave no sign of life for 1.5 s and was ended; "
        with pytest.raises(PluginCrashed, match=rf"{died}it was {STANDS[way]}.*not declared @idempotent"):
            await counter.add(way)
        assert await counter.add(3) == 3
        (hang,) = [event for event in kernel.events if event.what == "hang"]
        assert hang.plugin == "counter"
        assert hang.detail.startswith("no heartbeat for 1.5 s; it was ")
        assert "\n" not in hang.detail
        assert await counter.where() != pids[0]
        assert await sound.where() == pids[1]
        assert not is_running(pids[0])
        logged = (tmp_path / "counter.log").read_text()
        assert hang.detail in logged
        entry = kernel.registry.entry("counter")
        assert entry.hang is not None and entry.hang in logged
        assert (f"process {pids[0]}: " in entry.hang, "core_faulty.py" in entry.hang) == (True, way != -4)
        assert kernel.registry.entry("sound").hang is None


async def test_a_crash_is_told_with_how_the_process_ended(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter, blocking = kernel.get(Counter), kernel.get(Counter, blocking=True)
    calls = [
        asyncio.create_task(counter.hold(whistle.path)),  # type: ignore[arg-type]
        asyncio.create_task(asyncio.to_thread(blocking.hold, whistle.path)),  # type: ignore[arg-type]
    ]
    pid = {(await whistle.heard())[0] for _ in calls}.pop()
    os.kill(pid, signal.SIGSEGV)
    for call in calls:
        with pytest.raises(PluginCrashed, match=r"died while it ran this call \(ended by signal 11 \(SIGSEGV\)\)"):
            await call


async def test_a_start_that_hangs_is_told_with_its_stack(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "from core_samples import Tally\n"
        "class Slow(Tally):\n"
        "    def start(self):\n"
        "        while True:\n"
        "            pass\n"
    )
    async with Kernel(heartbeat=0.05) as kernel:
        loading = kernel.load("slow.py:Slow", name="counter", placement="process", folder=str(tmp_path), restart=QUICK)
        with pytest.raises(Exception, match=r"gave no sign of life .* it was running, in start \(slow\.py:[45]\)"):
            await loading


async def test_whoever_asks_is_told_where_a_plugin_stands(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(faulty.Hangs, name="counter", placement="process", restart=RestartPolicy(hang=0))
    await kernel.load(Tally, name="inline")
    counter = kernel.get(Counter, plugin="counter")
    (stack,) = await kernel.stack("counter")
    assert (stack.pid, stack.note) == (await counter.where(), "")
    assert stack.threads[0].name == "the event loop's thread"
    assert stack.threads[0].frames[-1].function == "<module>"
    hanging = asyncio.create_task(counter.add(-1))
    place = kernel.registry.entry("counter").replicas[0].instance.place  # type: ignore[union-attr]
    assert isinstance(place, RemotePlace)
    asked = [await kernel.stack("counter")]
    while not asked[-1][0].short.startswith("running, in add (core_faulty.py"):  # it has not taken the call yet
        asked.append(await kernel.stack("counter"))
    both = await asyncio.gather(kernel.stack("counter"), kernel.stack("counter"))
    assert all(each[0].threads[0].frames[0].function == "add" for each in both)
    place.process.kill(signal.SIGSTOP)
    await until(lambda: Path(f"/proc/{place.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    (stopped,) = await kernel.stack("counter")
    assert (stopped.state, stopped.threads) == ("stopped", [])
    assert "kill -CONT" in stopped.short
    place.process.kill()
    with pytest.raises(PluginCrashed):
        await hanging
    await until_event(kernel, "counter", "restart")
    (inline,) = await kernel.stack("inline")
    assert (inline.pid, inline.threads[0].frames[0].file.endswith("core/stack.py")) == (os.getpid(), True)
    with pytest.raises(NotFound, match="no plug-in is named 'other'"):
        await kernel.stack("other")


async def test_a_process_that_is_not_yet_ready_to_answer_is_not_ended_by_the_question(kernel: Kernel) -> None:
    """The default of the signal would end it."""
    await kernel.load(Tally, name="counter", placement="process")
    server = kernel.processes.fork_server
    assert server is not None and server.pid is not None
    caught = Path(f"/proc/{server.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    assert int(caught, 16) >> (STACK_SIGNAL - 1) & 1


class Answering:
    """A process that answers with whatever it likes."""

    alive = True

    def __init__(self, pipe: StackPipe, answer: bytes) -> None:
        self.pid, self.pipe, self.answer = os.getpid(), pipe, answer

    def kill(self, signal: int) -> None:
        assert signal == STACK_SIGNAL
        while self.answer:
            try:
                self.answer = self.answer[os.write(self.pipe.writer, self.answer) :]
            except BlockingIOError:
                break


@pytest.mark.parametrize(
    ("answer", "frames"),
    [
        (b"", []),
        (b"\xff\x00garbage\n" * 100_000, []),
        (b'  File "a.py", line 1 in f\n', []),  # of no thread
        (b'Thread 0x01 (most recent call first):\n  File "a.py", line 1 in \x1b[2Jf\n', ["?[2Jf"]),
        (b'Current thread 0x01 [pool] (most recent call first):\n  File "a.py", line 99999999999 in f\n', []),
    ],
)
async def test_what_a_process_answers_is_not_trusted(answer: bytes, frames: list[str]) -> None:
    pipe = StackPipe()
    stack = await pipe.ask(Answering(pipe, answer))  # type: ignore[arg-type]
    assert [each.function for thread in stack.threads for each in thread.frames] == frames
    assert "\x1b" not in stack.text
    os.close(pipe.writer)
    pipe.close()
    pipe.close()
    assert (await pipe.ask(Answering(pipe, b""))).state == "ended"  # type: ignore[arg-type]


def test_threads_are_told_from_each_other() -> None:
    threads = parsed(
        'Thread 0x02 (most recent call first):\n  File "b.py", line 2 in work\n\n'
        'Current thread 0x01 (most recent call first):\n  File "a.py", line 1 in spin\n  ...\n'
    )
    assert [(each.name, each.frames[0].function) for each in threads] == [
        ("the event loop's thread", "spin"), ("thread 0x02", "work"),
    ]  # fmt: skip
    assert Stack(1, "running", threads).short == "running, in spin (a.py:1)"


async def test_asking_leaves_no_descriptor_behind(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.stack("counter")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await kernel.load(Tally, name="more", placement="process")
        await kernel.stack("more")
        await kernel.unload("more")
    place = next(iter(kernel.places.values()))
    status: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    place.process.on_exit(status.set_result)
    place.process.kill()
    await status
    await until_event(kernel, "counter", "restart")
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_an_inline_plugin_that_blocks_the_kernels_own_loop_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Kernel(heartbeat=0.05) as kernel:
        await kernel.load(faulty.BlocksLoop, name="counter")
        assert await kernel.get(Counter).add(0) == 0, "it returns when the watch has spoken"
        await until_event(kernel, "kernel", "standstill")
        (event,) = [each for each in kernel.events if each.what == "standstill"]
        assert "BlocksLoop.add (core_faulty.py:" in event.detail
    (record,) = [each for each in caplog.records if "stood still" in each.getMessage()]
    assert "core_faulty.py" in record.getMessage()
    assert not [each for each in threading.enumerate() if "standstill" in each.name]


async def test_there_is_no_watch_without_heartbeats() -> None:
    async with Kernel(heartbeat=0):
        assert not [each for each in threading.enumerate() if "standstill" in each.name]


async def test_without_a_heartbeat_plugins_run_and_nothing_is_found_hanging() -> None:
    async with Kernel(heartbeat=0) as kernel:
        await kernel.load(Tally, name="counter", placement="process")
        assert await kernel.get(Counter).add(2) == 2
        assert kernel.processes.ticker is None


@pytest.fixture
async def watched() -> AsyncIterator[Kernel]:
    """A kernel that looks twenty times a second, with one plug-in in a process."""
    async with Kernel(heartbeat=0.05) as kernel:
        await kernel.load(Tally, name="counter", placement="process")
        yield kernel


def fork_server_of(kernel: Kernel) -> int:
    server = kernel.processes.fork_server
    assert server is not None and server.pid is not None
    return server.pid


async def test_a_fork_server_that_is_stopped_is_let_go_on_when_it_is_needed(watched: Kernel) -> None:
    """When a process is asked for, and when one dies of which it does not tell."""
    counter, server = watched.get(Counter), fork_server_of(watched)
    os.kill(server, signal.SIGSTOP)
    assert await counter.add(1) == 1, "nobody needs it"
    assert not (await watched.swap("counter", Tally)).rolled_back
    os.kill(server, signal.SIGSTOP)
    await watched.load(Tally, name="other", placement="process")
    os.kill(server, signal.SIGSTOP)
    pid = await counter.where()
    os.kill(pid, signal.SIGKILL)
    assert await counter.where() != pid
    assert fork_server_of(watched) == server


@pytest.mark.parametrize("heartbeat", [0.05, 0.0])
async def test_a_kernel_whose_fork_server_is_stopped_is_closed(heartbeat: float) -> None:
    async with Kernel(heartbeat=heartbeat) as kernel:
        await kernel.load(Tally, name="counter", placement="process")
        pids = [fork_server_of(kernel), await kernel.get(Counter).where()]
        os.kill(pids[0], signal.SIGSTOP)
    assert not [pid for pid in pids if is_running(pid)]


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork server that is stopped is as one that hangs: it is of no use to let it go on."""
    monkeypatch.setattr(fork_servers, "was_stopped", lambda server: False)
    monkeypatch.setattr(fork_servers, "LONGEST_SILENCE", 3.0)


async def test_a_fork_server_that_hangs_is_killed_with_its_family_and_all_is_started_again(
    watched: Kernel, hangs: None, caplog: pytest.LogCaptureFixture
) -> None:
    await watched.load(Parent, name="parent", placement="process")
    counter, server = watched.get(Counter), fork_server_of(watched)
    pid, child = await counter.where(), await watched.get(Parenting).child()
    os.kill(server, signal.SIGSTOP)
    await watched.load(Tally, name="other", placement="process")
    await until_event(watched, "counter", "restart")
    assert await counter.where() != pid
    assert fork_server_of(watched) != server
    await until(lambda: not any(map(is_running, (server, pid, child))))
    assert "a fork server did nothing for 3 s" in caplog.text


async def test_a_kernel_whose_fork_server_hangs_is_closed(watched: Kernel, hangs: None) -> None:
    pids = [fork_server_of(watched), await watched.get(Counter).where()]
    os.kill(pids[0], signal.SIGSTOP)
    await watched.close()
    await until(lambda: not any(map(is_running, pids)))
