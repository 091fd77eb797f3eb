"""Create, destroy, watch and limit processes: by a fork server, whose imports are warm before it forks.

This file runs on two sides: in the kernel's process, `ForkServer` and `Process`; as a script of its own, run
by the interpreter that the children are to have, the fork server: one thread, which forks on request, reaps,
and reports. It imports only the standard library, so that interpreter needs nothing installed.

The two talk by SOCK_SEQPACKET, one JSON object a packet, file descriptors beside it (SCM_RIGHTS):

    to the server   {id, warm, path} + the kernel's pidfd               once, first
                    {id, entry, name, limits, output, environment, cwd} + the child's descriptors
                    {kill}                                              a pid that the kernel has no pidfd of
    to the kernel   {id, warnings}                                      once, when the imports are done
                    {id, pid} + the child's pidfd, or {id, error}
                    {pid, status}                                       reaped; always after its {id, pid}

Nothing outlives the kernel. The server watches the kernel's pidfd and its end of the socket, not a
parent-death signal, which would come when the *thread* that started it ends; when either goes, it kills all
its descendants and exits. The children do have the parent-death signal, as the server has one thread, so the
server's own kill -9 ends them too: only what a child put into a session of its own would survive that.
"""

import asyncio
import contextlib
import ctypes
import gc
import importlib
import io
import itertools
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from signal import SIGKILL, pidfd_send_signal
from typing import Any, NoReturn

LARGEST_PACKET = 128 * 1024  # bytes; a socket's buffer holds more by default
MOST_DESCRIPTORS = 253  # the system's limit for one SCM_RIGHTS message
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36  # prctl(2)


class ProcessError(RuntimeError):
    """A process, or the fork server, could not be started."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use. None: as much as the kernel's process, which is the most in any case."""

    memory: int | None = None  # bytes, private and writable: what it shares does not count (RLIMIT_DATA)
    cpu_seconds: int | None = None  # then SIGKILL
    files: int | None = None  # open file descriptors
    processes: int | None = None  # of its user, threads included; the system exempts root
    core: int | None = 0  # bytes of core dump


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: by its code or by a signal. Both None: unknown, the fork server died first."""

    code: int | None = None
    signal: int | None = None


RESOURCES = {
    "memory": resource.RLIMIT_DATA, "cpu_seconds": resource.RLIMIT_CPU, "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC, "core": resource.RLIMIT_CORE,
}  # fmt: skip


def raise_file_limit() -> int:
    """Let this process open as many files as it is allowed (RLIMIT_NOFILE, soft to hard); return how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Process:
    """A child of the fork server. For use on the event loop that spawned it.

    It ends once: when its status has come from the server, which reaps it; or, if the server is gone, when
    its pidfd says that it is dead.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, pid: int, pidfd: int) -> None:
        self.name, self.pid = name, pid
        self.pidfd = pidfd  # readable once the process is dead; -1 (closed) once it has ended
        self.alive = True  # false as soon as the pidfd or the server has said so
        self._loop, self._server_gone = loop, False
        self._ended: asyncio.Future[ExitStatus] = loop.create_future()
        loop.add_reader(pidfd, self._on_death)

    def __repr__(self) -> str:
        return f"<Process {self.name!r} pid={self.pid} {'alive' if self.alive else 'dead'}>"

    def kill(self, signal: int = SIGKILL) -> None:
        """Send a signal. No effect on one that is dead, nor on another that has got its pid since."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                pidfd_send_signal(self.pidfd, signal)

    async def wait(self) -> ExitStatus:
        """Return how the process ended, once it has. Any number of tasks may wait, and be cancelled."""
        return await asyncio.shield(self._ended)

    def on_exit(self, callback: Callable[[ExitStatus], object]) -> None:
        """Call `callback(status)` once, on the loop, when it has ended; soon, if it has already."""
        self._ended.add_done_callback(lambda ended: callback(ended.result()))

    def _on_death(self) -> None:
        self.alive = False
        self._loop.remove_reader(self.pidfd)
        if self._server_gone:
            self._end(ExitStatus())

    def _on_server_death(self) -> None:
        self._server_gone = True
        # The parent-death signal ended it already; what it started in its process group got no such signal.
        self.kill()
        _kill_group(self.pid)
        if not self.alive:
            self._end(ExitStatus())

    def _end(self, status: ExitStatus) -> None:
        self.alive = False
        self._loop.remove_reader(self.pidfd)
        os.close(self.pidfd)
        self.pidfd = -1
        self._ended.set_result(status)


class ForkServer:
    """Starts processes, by forking one whose imports are warm. For use on one event loop.

    `warm`: modules to import once, before any fork. `python`: the interpreter, which may be another
    environment's. `path`: its sys.path; None means this process's own if it is the same interpreter, and the
    interpreter's own if not.
    """

    def __init__(
        self, warm: Sequence[str] = (), python: str = sys.executable, path: Sequence[str] | None = None
    ) -> None:
        self._warm, self._python = list(warm), python
        self._path = sys.path if path is None and python == sys.executable else path
        self.warnings: list[str] = []  # what was wrong with the warm imports at the last start
        self._life: _Life | None = None  # set by start(), cleared when that server has died
        self._turn = asyncio.Lock()  # one request at a time: the socket's buffer always has room for it
        self._stopped = False
        self._callbacks: list[Callable[[], object]] = []

    @property
    def pid(self) -> int | None:
        """The fork server's process id; None while it does not run."""
        return self._life.popen.pid if self._life else None

    async def start(self) -> None:
        """Start the server, unless it runs, and wait for its imports. Raises ProcessError if it cannot."""
        async with self._turn:
            await self._up()

    async def spawn(
        self, entry: str, *, name: str, fds: Sequence[int] = (), limits: Limits = Limits(),
        stdout: int | None = None, environment: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> Process:  # fmt: skip
        """Start a process that calls `entry`, "module:function", with the list of its own numbers for `fds`.

        What the function returns is its exit code (None: 0); an exception prints its traceback and makes it
        1. The process then ends at once: no atexit handler runs, no other thread is waited for. It leads a
        session of its own and ignores SIGINT, since Ctrl-C is the kernel's to handle. `fds` are duplicated:
        the caller keeps its own. `stdout` takes what it prints, errors too. `environment` replaces the whole
        environment. A server that has died is started again first. Raises ProcessError when the process
        cannot be started, ValueError for a malformed entry or too many fds.
        """
        module, _, function = entry.partition(":")
        if not module or not function:
            raise ValueError(f"entry: got {entry!r}, wanted 'module:function'")
        passed = [*fds] if stdout is None else [stdout, *fds]
        if len(passed) > MOST_DESCRIPTORS:
            raise ValueError(f"fds: got {len(passed)} with stdout, wanted at most {MOST_DESCRIPTORS}")
        request = {
            "entry": entry, "name": name, "limits": asdict(limits), "output": stdout is not None, "cwd": cwd,
            "environment": None if environment is None else dict(environment),
        }  # fmt: skip
        async with self._turn:
            try:
                process: Process = await (await self._up()).ask(request, passed)
            except _ServerDied:
                # What it forked for us, if anything, was killed with it, or ends before it calls the entry.
                process = await (await self._up()).ask(request, passed)
            return process

    def on_death(self, callback: Callable[[], object]) -> None:
        """Call `callback()` each time a server that was up dies unasked. Its processes are killed by then."""
        self._callbacks.append(callback)

    async def stop(self) -> None:
        """End the server for good, and every process it started by SIGKILL; return when all are gone."""
        self._stopped = True
        if self._life is not None:
            self._life.hang_up()
            await asyncio.shield(self._life.dead)

    async def _up(self) -> "_Life":
        """The life of a server that is up; our caller holds `_turn`."""
        if self._life is not None and self._life.hung_up:
            await asyncio.shield(self._life.dead)
        if self._stopped:
            raise ProcessError("the fork server was stopped: wanted start() and spawn() before stop()")
        if self._life is None:
            life = self._life = _Life(self._python, self._on_end)
            try:
                path = None if self._path is None else list(self._path)
                self.warnings = await life.ask({"warm": self._warm, "path": path}, [life.own_pidfd])
                life.ready = True
            except BaseException:
                life.hang_up()
                raise
        return self._life

    def _on_end(self, life: "_Life") -> None:
        self._life = None
        if life.ready and not life.hung_up:
            for callback in self._callbacks:
                callback()


class _ServerDied(ProcessError):
    """The server died before it answered: another may be asked."""


class _Life:
    """The kernel's side of one life of the server, which ends when the server's pidfd says so."""

    def __init__(self, python: str, on_end: Callable[["_Life"], None]) -> None:
        self._loop, self._python, self._on_end = asyncio.get_running_loop(), python, on_end
        self._ids = itertools.count()
        self._asked: dict[int, tuple[asyncio.Future[Any], dict[str, Any]]] = {}  # by id: not yet answered
        self._processes: dict[int, Process] = {}  # by pid: answered, their status not yet come
        self.dead: asyncio.Future[None] = self._loop.create_future()
        self.ready = self.hung_up = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        command = [python, "-P", os.path.abspath(__file__), str(theirs.fileno())]
        try:
            self.popen = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            self._socket.close()
            raise ProcessError(f"python: got {python!r}, wanted an interpreter that runs: {error}") from error
        finally:
            theirs.close()
        self._pidfd, self.own_pidfd = os.pidfd_open(self.popen.pid), os.pidfd_open(os.getpid())
        self._loop.add_reader(self._pidfd, self._on_death)
        self._loop.add_reader(self._socket, self._on_packets)

    async def ask(self, request: dict[str, Any], fds: Sequence[int]) -> Any:
        """Send a request and return its answer: the warnings, or a Process."""
        number, answer = next(self._ids), self._loop.create_future()
        data = json.dumps({"id": number, "fds": len(fds), **request}).encode()
        if len(data) > LARGEST_PACKET:
            raise ProcessError(f"request: got {len(data)} bytes, wanted at most {LARGEST_PACKET}")
        self._asked[number] = answer, request
        try:
            socket.send_fds(self._socket, [data], fds)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it is dead, and its pidfd will say so
        except OSError as error:
            del self._asked[number]
            raise ProcessError(f"fds: got {list(fds)}, wanted open file descriptors: {error}") from error
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():  # it came as our caller went
                _discard(answer.result() if answer.exception() is None else None)
            raise

    def hang_up(self) -> None:
        """Make the server end: it kills and reaps its processes, reports them, and exits."""
        if not self.hung_up:
            self.hung_up = True
            self._socket.shutdown(socket.SHUT_WR)

    def _on_packets(self) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, LARGEST_PACKET, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:  # it is exiting; its pidfd will say when
                self._loop.remove_reader(self._socket)
                return
            packet = json.loads(data)
            if "status" in packet:
                if process := self._processes.pop(packet["pid"], None):
                    code = os.waitstatus_to_exitcode(packet["status"])
                    process._end(ExitStatus(code=code) if code >= 0 else ExitStatus(signal=-code))
            else:
                self._on_answer(packet, fds)

    def _on_answer(self, packet: dict[str, Any], fds: list[int]) -> None:
        answer, request = self._asked.pop(packet["id"])
        result: Any = packet.get("warnings")
        error = packet.get("error")
        if pid := packet.get("pid"):
            if fds:
                result = self._processes[pid] = Process(self._loop, request["name"], pid, fds[0])
            else:
                error = "the kernel's process has no file descriptor left for it"
                self._socket.send(json.dumps({"kill": pid}).encode())
        if answer.done():  # cancelled
            _discard(result)
        elif error:
            answer.set_exception(ProcessError(f"process {request['name']!r} was not started: {error}"))
        else:
            answer.set_result(result)

    def _on_death(self) -> None:
        self._on_packets()  # what it said before it died
        self._loop.remove_reader(self._socket)
        self._loop.remove_reader(self._pidfd)
        self._socket.close()
        os.close(self._pidfd)
        os.close(self.own_pidfd)
        status = self.popen.wait()  # dead, so this does not block
        for process in self._processes.values():
            process._on_server_death()
        for answer, _ in self._asked.values():
            if not answer.done():
                answer.set_exception(_ServerDied(f"fork server {self._python!r} ended with status {status}"))
        self.dead.set_result(None)
        self._on_end(self)
        self.hung_up = True


def _discard(result: object) -> None:
    if isinstance(result, Process):  # nobody is left who would end it
        result.kill()


# From here on: the fork server's side.


class _Server:
    """The fork server: one thread, no event loop. `run` ends with the kernel, and leaves no descendant."""

    def __init__(self, kernel: socket.socket) -> None:
        self._kernel = kernel
        self._children: set[int] = set()  # pids that were forked here and are not reaped
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # written to at each SIGCHLD
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Both are meant for the kernel, which ends us in order. SIGTERM is blocked, not ignored: one sent to
        # a child that was just forked waits until the child unblocks it, and is not lost.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGTERM])
        _prctl(PR_SET_NAME, b"mukernel-fork")
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that what a child leaves behind becomes ours, to end it

    def run(self) -> None:
        try:
            hello, fds = self._receive()
            (self._kernel_pidfd,) = fds
            self._send({"id": hello["id"], "warnings": _warm_up(hello["warm"], hello["path"])})
            poll = select.poll()
            for descriptor in (self._kernel.fileno(), self._kernel_pidfd, self._woken):
                poll.register(descriptor, select.POLLIN)
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == self._woken:
                        os.read(self._woken, 4096)
                        self._reap()
                    elif descriptor == self._kernel_pidfd:
                        return
                    else:
                        self._serve(*self._receive())
        except EOFError:
            return
        finally:
            self._end_all()

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            data, fds, _, _ = socket.recv_fds(self._kernel, LARGEST_PACKET, MOST_DESCRIPTORS, flags)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        return json.loads(data), fds

    def _send(self, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # then the next _receive says so
            socket.send_fds(self._kernel, [json.dumps(packet).encode()], fds)

    def _serve(self, request: dict[str, Any], fds: list[int]) -> None:
        if "kill" in request:
            if request["kill"] in self._children:
                os.kill(request["kill"], SIGKILL)
            return
        server, pid = os.getpid(), 0
        try:
            if len(fds) != request["fds"]:
                raise OSError(f"the fork server received {len(fds)} of {request['fds']} file descriptors")
            pid = os.fork()
            if pid == 0:
                self._become(request, fds, server)
            self._children.add(pid)
            pidfd = os.pidfd_open(pid)  # before it can be reaped, so it is this process and no other
            self._send({"id": request["id"], "pid": pid}, [pidfd])
            os.close(pidfd)
        except OSError as error:
            if pid:
                os.kill(pid, SIGKILL)
            self._send({"id": request["id"], "error": str(error)})
        finally:
            for descriptor in fds:
                os.close(descriptor)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                pid = found.si_pid
                if pid in self._children:
                    _kill_group(pid)  # not reaped yet, so the number is still its own
                status = os.waitpid(pid, 0)[1]
                if pid in self._children:
                    self._children.remove(pid)
                    self._send({"pid": pid, "status": status})

    def _end_all(self) -> None:
        # Each that dies makes its own children ours, so: until there is none.
        with contextlib.suppress(ChildProcessError):
            while True:
                for pid in _children_of(os.getpid()):
                    with contextlib.suppress(PermissionError):
                        os.kill(pid, SIGKILL)
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
                self._reap()

    def _become(self, request: dict[str, Any], fds: list[int], server: int) -> NoReturn:
        """In the child: turn this copy of the server into what was asked for. Never returns."""
        code = 1
        try:
            _prctl(PR_SET_PDEATHSIG, SIGKILL)
            if os.getppid() != server:  # it died before the line above
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in signal.valid_signals():
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.setsid()
            self._kernel.close()
            for descriptor in (self._kernel_pidfd, self._woken, self._waker):
                os.close(descriptor)
            _prctl(PR_SET_NAME, request["name"].encode(errors="replace")[:15])
            if request["output"]:
                output = fds.pop(0)
                os.dup2(output, 1)
                os.dup2(output, 2)
                os.close(output)
            if request["environment"] is not None:
                os.environ.clear()
                os.environ.update(request["environment"])
            if request["cwd"] is not None:
                os.chdir(request["cwd"])
            gc.enable()
            if "numpy" in sys.modules:  # `random` reseeds itself after a fork, numpy's global one does not
                sys.modules["numpy"].random.seed()
            for field, limit in request["limits"].items():
                if limit is not None:
                    hard = resource.getrlimit(RESOURCES[field])[1]
                    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
                    resource.setrlimit(RESOURCES[field], (limit, limit))
            module, _, function = request["entry"].partition(":")
            result = getattr(importlib.import_module(module), function)(fds)
            code = 0 if result is None else int(result)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code & 0xFF)


def _warm_up(modules: Sequence[str], path: Sequence[str] | None) -> list[str]:
    """Import the modules, and keep the collector from all that is then in memory: its pages stay shared."""
    warnings = []
    if path is not None:
        sys.path[:] = path
    gc.disable()
    for module in modules:
        threads = len(os.listdir("/proc/self/task"))
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            warnings.append(f"warm: {module!r} was not imported: {type(error).__name__}: {error}")
        if len(os.listdir("/proc/self/task")) > threads:
            warnings.append(f"warm: {module!r} started a thread, which no forked process will have")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # and flushed, not to be printed twice
    gc.collect()
    gc.freeze()
    return warnings


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or not ours
        os.killpg(leader, SIGKILL)


def _children_of(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as stat:
                # "pid (name) state parent ...", and the name may hold anything, so split after it
                if int(stat.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(entry))
    return found


def _prctl(option: int, value: int | bytes) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if LIBC.prctl(option, argument, *[ctypes.c_ulong(0)] * 3):
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        connection.set_inheritable(False)
        _Server(connection).run()
