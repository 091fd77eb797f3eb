"""Real processes: started, limited, killed at every level, and nothing left behind."""

import asyncio
import contextlib
import gc
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mukernel.kernel import process as process_module
from mukernel.kernel.process import ExitStatus, ForkServer, Limits, Process, ProcessError

ENTRIES = '''
import ctypes, json, os, random, resource, signal, subprocess, sys

def nothing(fds): pass
def seven(fds): return 7
def system_exit(fds): sys.exit(3)
def wrong(fds): raise LookupError("on purpose")
def hold(fds): os.read(fds[0], 1)
def idle(fds): signal.pause()
def echo(fds):
    while data := os.read(fds[0], 100): os.write(fds[0], data)
def greedy(fds): bytearray(200 << 20)

def family(fds):
    """Tells its pid, that of a child in its process group, and of one that left it, and pauses."""
    child = subprocess.Popen(["sleep", "infinity"])
    escaped = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
    os.write(fds[0], json.dumps([os.getpid(), child.pid, escaped.pid]).encode())
    signal.pause()

def stuck_tracker(fds):
    """Tells the pid of a resource tracker, which holds both sides of its pipe and never ends by itself, and pauses."""
    reads, writes = os.pipe()
    command = f"from multiprocessing.resource_tracker import main;main({reads})"
    tracker = subprocess.Popen([sys.executable, "-c", command], pass_fds=[reads, writes], stderr=subprocess.DEVNULL)
    os.write(fds[0], str(tracker.pid).encode())
    signal.pause()

def daemon(fds):
    """Tells the pid of one that left its session, and whose parent has ended, and pauses."""
    command = ["sh", "-c", "sleep infinity > /dev/null 2>&1 & echo $!"]
    os.write(fds[0], subprocess.run(command, start_new_session=True, capture_output=True).stdout)
    signal.pause()

def report(fds):
    parent_death = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(parent_death))
    print(json.dumps({
        "fds": fds,
        "open": [int(name) for name in os.listdir("/proc/self/fd")],
        "comm": open("/proc/self/comm").read().strip(),
        "leader": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "parent_death": parent_death.value,
        "ignores_interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "default_child": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
        "environment": dict(os.environ),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU),
        "random": random.random(),
        "threads": len(os.listdir("/proc/self/task")),
    }))
    print("an error", file=sys.stderr)
'''

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def path(tmp_path: Path) -> list[str]:
    (tmp_path / "entries.py").write_text(ENTRIES)
    (tmp_path / "broken.py").write_text("raise ValueError('broken on purpose')")
    return [str(tmp_path), *sys.path]


class started:
    """`async with started(path) as server`: a fork server that is stopped at the end."""

    def __init__(self, path: list[str], *warm: str) -> None:
        self.server = ForkServer(warm=warm, path=path)

    async def __aenter__(self) -> ForkServer:
        await self.server.start()
        return self.server

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()


def wait_until_dead(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll()
        os.close(pidfd)


async def until_asked(server: ForkServer) -> None:
    while not server._asked:  # noqa: ASYNC110  (turns of the loop; no time passes)
        await asyncio.sleep(0)


async def printed(server: ForkServer, entry: str, **options: Any) -> tuple[str, ExitStatus]:
    read, write = os.pipe()
    process = await server.spawn(entry, name="printer", stdout=write, **options)
    os.close(write)
    with open(read) as output:
        text = await asyncio.to_thread(output.read)
    return text, await process.wait()


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ("entries:nothing", ExitStatus(code=0)),
        ("entries:seven", ExitStatus(code=7)),
        ("entries:system_exit", ExitStatus(code=3)),
        ("os:abort", ExitStatus(code=1)),  # it takes no argument: a TypeError
    ],
)
def test_exit_status(run: Run, path: list[str], entry: str, status: ExitStatus) -> None:
    async def main() -> None:
        async with started(path, "entries") as server:
            _, ended = await printed(server, entry)
            assert ended == status

    run(main())


def test_exception_in_entry_is_printed_and_exits_1(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path) as server:
            text, status = await printed(server, "entries:wrong")
            assert status == ExitStatus(code=1)
            assert "LookupError: on purpose" in text
            text, status = await printed(server, "entries:no_such_function")
            assert "no_such_function" in text and status.code == 1

    run(main())


def test_fifty_at_once_end_when_told_and_leave_nothing_open(run: Run, path: list[str]) -> None:
    async def main() -> None:
        gc.collect()  # what earlier tests left behind
        before = len(os.listdir("/proc/self/fd"))
        async with started(path, "entries") as server:
            read, write = os.pipe()
            processes = await asyncio.gather(
                *(server.spawn("entries:hold", name=f"p{i}", fds=[read]) for i in range(50))
            )
            os.close(read)
            assert len({process.pid for process in processes}) == 50
            assert all(process.alive for process in processes)
            ended: list[ExitStatus] = []
            for process in processes:
                process.on_exit(ended.append)
            os.write(write, b"x" * 25)
            os.close(write)
            assert {await process.wait() for process in processes} == {ExitStatus(code=0)}
            assert not any(process.alive for process in processes)
            await asyncio.sleep(0)
            assert len(ended) == 50
            processes[0].on_exit(ended.append)  # late
            await asyncio.sleep(0)
            assert len(ended) == 51
            processes[0].kill()  # no effect, and no error
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before  # fewer: what earlier tests left may have ended meanwhile

    run(main())


def test_child_is_as_promised(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path, "entries") as server:
            one, two = os.pipe()
            text, _ = await printed(
                server,
                "entries:report",
                fds=[one, two],
                limits=Limits(files=64, cpu_seconds=100),
            )
            os.close(one)
            os.close(two)
            first, error = text.splitlines()
            child = json.loads(first)
            assert error == "an error"
            assert len(child["fds"]) == 2
            assert set(child["open"]) > {0, 1, 2, *child["fds"]}
            assert len(child["open"]) == 6  # the sixth is what os.listdir itself held
            assert child["comm"] == "printer"
            assert child["environment"].items() >= os.environ.items()
            assert child["leader"] and child["ignores_interrupt"] and child["default_child"]
            assert child["parent_death"] == signal.SIGKILL
            assert (child["files"], child["core"], child["cpu"]) == ([64, 64], [0, 0], [100, 100])
            assert child["threads"] == 1
            again = json.loads((await printed(server, "entries:report"))[0].splitlines()[0])
            assert again["random"] != child["random"]

    run(main())


def test_memory_limit_hurts_only_the_one_who_exceeds_it(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path, "entries") as server:
            text, status = await printed(server, "entries:greedy", limits=Limits(memory=100 << 20))
            assert "MemoryError" in text and status == ExitStatus(code=1)
            assert (await printed(server, "entries:greedy"))[1] == ExitStatus(code=0)

    run(main())


def test_kill(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path) as server:
            process = await server.spawn("entries:idle", name="victim")
            waiting = [asyncio.ensure_future(process.wait()) for _ in range(3)]
            waiting[0].cancel()  # one who gives up does not disturb the others
            os.kill(process.pid, signal.SIGKILL)
            assert await waiting[1] == await waiting[2] == ExitStatus(signal=signal.SIGKILL)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGTERM)  # as a service manager does: not its to obey
            for _ in range(20):  # however early it comes
                process = await server.spawn("entries:idle", name="victim")
                process.kill(signal.SIGTERM)
                assert await process.wait() == ExitStatus(signal=signal.SIGTERM)

    run(main())


def test_what_a_killed_process_started_dies_with_it_in_whatever_session_it_is(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path) as server:
            read, write = os.pipe()
            process = await server.spawn("entries:family", name="family", fds=[write])
            _, child, escaped = map(os.pidfd_open, json.loads(await asyncio.to_thread(os.read, read, 100)))
            os.close(read)
            os.close(write)
            process.kill()
            wait_until_dead([child, escaped])
            assert await process.wait() == ExitStatus(signal=signal.SIGKILL)

    run(main())


def test_a_daemon_dies_with_the_process_that_started_it_and_with_no_other(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path) as server:
            read, write = os.pipe()
            process = await server.spawn("entries:daemon", name="process", fds=[write])
            daemon = os.pidfd_open(int(await asyncio.to_thread(os.read, read, 100)))
            os.close(read)
            os.close(write)
            null = os.open(os.devnull, os.O_WRONLY)
            other = await server.spawn("entries:family", name="other", fds=[null])
            os.close(null)
            other.kill()
            await other.wait()
            assert await (await server.spawn("entries:seven", name="another")).wait() == ExitStatus(code=7)
            assert not select.select([daemon], [], [], 0)[0], "it was ended with a process that is none of its own"
            process.kill()
            wait_until_dead([daemon])

    run(main())


def test_a_resource_tracker_that_does_not_end_by_itself_is_killed(path: list[str]) -> None:
    async def stuck(server: ForkServer) -> tuple[Process, int]:
        read, write = os.pipe()
        process = await server.spawn("entries:stuck_tracker", name="stuck", fds=[write])
        tracker = os.pidfd_open(int(await asyncio.to_thread(os.read, read, 100)))
        os.close(read)
        os.close(write)
        return process, tracker

    async def with_its_process() -> None:
        async with started(path) as server:
            process, tracker = await stuck(server)
            process.kill()
            await process.wait()
            assert await (await server.spawn("entries:seven", name="another")).wait() == ExitStatus(code=7)
            await asyncio.to_thread(wait_until_dead, [tracker])

    async def with_the_server() -> None:
        async with started(path) as server:
            _, tracker = await stuck(server)
        assert select.select([tracker], [], [], 0)[0], "it has outlived its server"
        os.close(tracker)

    async def main() -> None:  # both at a time, since it is given some seconds
        await asyncio.gather(with_its_process(), with_the_server())

    asyncio.run(main())


def test_killed_server_is_noticed_takes_its_processes_along_and_is_started_again(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path, "entries") as server:
            read, write = os.pipe()
            family = await server.spawn("entries:family", name="family", fds=[write])
            _, child, escaped = json.loads(await asyncio.to_thread(os.read, read, 100))
            os.close(read)
            os.close(write)
            pidfds = [os.pidfd_open(child)]
            processes = [family, *[await server.spawn("entries:idle", name="idle") for _ in range(5)]]
            pidfds += [os.dup(process.pidfd) for process in processes]
            first = server.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            again = await server.spawn("entries:seven", name="again")  # before the death has been noticed
            assert server.pid not in (None, first)
            assert await again.wait() == ExitStatus(code=7)
            assert [await process.wait() for process in processes] == [ExitStatus()] * 6
            wait_until_dead(pidfds)
            os.kill(escaped, signal.SIGKILL)  # the one case that is not covered, as the module says

    run(main())


def test_stop_ends_everything_for_good(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path) as server:
            processes = [await server.spawn("entries:idle", name="idle") for _ in range(5)]
        assert server.pid is None
        assert [process.alive for process in processes] == [False] * 5
        assert {await process.wait() for process in processes} == {ExitStatus(signal=signal.SIGKILL)}
        with pytest.raises(ProcessError, match="stopped"):
            await server.spawn("entries:idle", name="late")
        await server.stop()

    run(main())


@pytest.mark.parametrize("answered", [False, True])
def test_cancelled_spawn_leaves_no_process(run: Run, path: list[str], answered: bool) -> None:
    async def main() -> None:
        async with started(path, "entries") as server:
            read, write = os.pipe()
            task = asyncio.ensure_future(server.spawn("entries:idle", name="unwanted", fds=[write]))
            await until_asked(server)
            if answered:
                ((answer, _),) = server._asked
                answer.set_result = lambda result: (type(answer).set_result(answer, result), task.cancel())  # type: ignore[method-assign]
            else:
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            os.close(write)
            assert await asyncio.to_thread(os.read, read, 1) == b""  # the end: nobody holds the other side
            os.close(read)

    run(main())


KERNEL = """
    import asyncio, json, os, sys, threading
    from mukernel.kernel.process import ForkServer

    async def main():
        server = ForkServer(warm=["entries"])
        read, write = os.pipe()
        family = await server.spawn("entries:family", name="family", fds=[write])
        pids = json.loads(os.read(read, 100))
        pids += [(await server.spawn("entries:idle", name="idle")).pid for _ in range(5)]
        {before}
        print(json.dumps([server.pid, *pids]), flush=True)
        sys.stdin.read()

    {start}
"""


BEFORE = {
    "plain": "pass",
    "with a fork that holds its sockets": "if os.fork() == 0: os.close(1); sys.stdin.read(); os._exit(0)",
    "with a server that is stopped": "os.kill(server.pid, 19)",
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_killed_kernel_leaves_nothing(path: list[str], before: str) -> None:
    script = textwrap.dedent(KERNEL).format(before=before, start="asyncio.run(main())")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as kernel:
        assert kernel.stdout is not None
        pids = json.loads(kernel.stdout.readline())
        pidfds = [os.pidfd_open(pid) for pid in pids]
        assert len(pids) == 9  # the server, the family of three, five more
        kernel.kill()
        wait_until_dead(pidfds)


def test_server_outlives_the_thread_that_started_it(path: list[str]) -> None:
    script = """
        import asyncio, os, socket, threading
        from mukernel.kernel.process import ForkServer

        ours, theirs = socket.socketpair()
        loop = asyncio.new_event_loop()
        server = ForkServer()
        def start():
            loop.run_until_complete(server.spawn("entries:echo", name="echo", fds=[theirs.fileno()]))
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        ours.send(b"still there")
        assert ours.recv(100) == b"still there"
        loop.run_until_complete(server.stop())
        loop.close()
        print("fine")
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout == b"fine\n"


def test_warm_imports_that_fail_are_reported_and_not_fatal(
    run: Run, path: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with started(path, "broken", "entries", "no_such_module") as server:
            assert (await printed(server, "entries:seven"))[1] == ExitStatus(code=7)
            broken, missing = capfd.readouterr().err.splitlines()
            assert broken == "warm: 'broken' was not imported: ValueError: broken on purpose"
            assert "No module named 'no_such_module'" in missing

    run(main())


def test_interpreter_that_is_none(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ProcessError, match=r"python: got '/no/such/python', wanted an interpreter"):
            await ForkServer(python="/no/such/python").start()
        with pytest.raises(ProcessError, match="'/bin/false' ended with status 1"):
            await ForkServer(python="/bin/false").spawn("os:abort", name="never")

    run(main())


def test_bad_requests_are_refused_and_the_server_goes_on(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path) as server:
            first = server.pid
            for entry in ("entries", "entries:", ":seven"):
                with pytest.raises(ValueError, match="wanted 'module:function'"):
                    await server.spawn(entry, name="bad")
            for fds in ([0] * 300, [987654]):
                with pytest.raises(ProcessError, match="wanted at most 253, all open"):
                    await server.spawn("entries:seven", name="bad", fds=fds)
            with pytest.raises(ProcessError, match="wanted at most 131072"):
                await server.spawn("entries:seven", name="x" * 200_000)
            text, status = await printed(server, "entries:seven", limits=Limits(files=-2))
            assert "ValueError" in text and status.code == 1
            assert server.pid == first

    run(main())


def test_without_a_descriptor_for_it_a_process_is_refused_and_ended(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path, "entries") as server:
            read, write = os.pipe()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            task = asyncio.ensure_future(server.spawn("entries:idle", name="late", fds=[write]))
            await until_asked(server)
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            fillers: list[int] = []
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            try:
                with pytest.raises(ProcessError, match=r"'late' was not started.*no file descriptor left"):
                    await task
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for filler in fillers:
                    os.close(filler)
            os.close(write)
            assert await asyncio.to_thread(os.read, read, 1) == b""
            os.close(read)

    run(main())


def test_server_without_descriptors_refuses_and_ends_what_it_forked(run: Run, path: list[str]) -> None:
    async def main() -> None:
        async with started(path, "entries") as server:
            assert server.pid is not None
            await printed(server, "entries:nothing")  # it has started, and opens no more files of its own
            limit = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            used = {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
            lowest_free = min(set(range(len(used) + 1)) - used)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (lowest_free, limit[1]))
            with pytest.raises(ProcessError, match=r"'full' was not started: .* received 0 of 1 file"):
                await server.spawn("entries:idle", name="full", fds=[0])
            with pytest.raises(ProcessError, match=r"'full' was not started: .*Too many open files"):
                await server.spawn("entries:idle", name="full")
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            with contextlib.suppress(ProcessLookupError):  # gone already
                wait_until_dead([os.pidfd_open(int(pid)) for pid in children])
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limit)
            assert (await printed(server, "entries:seven"))[1] == ExitStatus(code=7)

    run(main())


def test_killing_at_random_never_loses_an_outcome(run: Run, path: list[str]) -> None:
    chance = random.Random(3)

    async def one(server: ForkServer) -> None:
        process = await server.spawn("entries:idle", name="idle")
        if chance.random() < 0.1 and server.pid:
            os.kill(server.pid, signal.SIGKILL)
        process.kill()
        status = await process.wait()
        assert status in (ExitStatus(signal=signal.SIGKILL), ExitStatus())

    async def main() -> None:
        async with started(path, "entries") as server:
            outcomes = await asyncio.gather(*(one(server) for _ in range(60)), return_exceptions=True)
            # A spawn may fail when the server died twice under it; it may not hang, nor fail otherwise.
            assert {type(outcome) for outcome in outcomes} <= {type(None), process_module._ServerDied}
            assert outcomes.count(None) > 30

    run(main())
