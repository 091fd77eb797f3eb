"""Create, destroy, watch and limit processes: by a fork server, whose imports are warm before it forks.

This file has two sides. In the kernel's process: `ForkServer` and `Process`. Run as a script, by the interpreter that
the children are to have: the server, one thread, which forks on request, reaps, and reports; it needs nothing but the
standard library. They talk by SOCK_SEQPACKET, one JSON object a packet, file descriptors beside it (SCM_RIGHTS):

    to the server   {name, entry, limits, output, fds}     a request to spawn, with the child's descriptors
                    {kill}                                 a pid that the kernel got no pidfd of
    to the kernel   {pid} + its pidfd, or {error}          the answer to a request, in their order
                    {ended, code}                          a pid that was reaped; a signal is a negative code

Nothing outlives the kernel. The server watches the kernel's pidfd and its socket; when either goes, it kills all its
descendants and exits. The parent-death signal, which comes when the *thread* that started it ends, only lets it go on
if it is stopped. What a child has started ends with it, in whatever session it is: the child is a subreaper, and so is
the server. Its own kill -9 ends the children, too, by their parent-death signal, but not what left their sessions.
"""

import _signal  # type: ignore[import-not-found]  # `signal` without its enums, which would cost each child 0.1 MB
import asyncio
import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from signal import SIGKILL, pidfd_send_signal
from subprocess import DEVNULL, Popen
from typing import Any, NoReturn

LARGEST_PACKET = 128 * 1024  # bytes; a socket's buffer holds more by default
MOST_DESCRIPTORS = 253  # the system's limit for one SCM_RIGHTS message
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
prctl = ctypes.CDLL(None).prctl
RESOURCES = [getattr(resource, f"RLIMIT_{name}") for name in ("DATA", "CPU", "NOFILE", "NPROC", "CORE")]  # as in Limits


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use. None: as much as the kernel's process, which is the most in any case."""

    memory: int | None = None  # bytes, private and writable: what it shares does not count
    cpu_seconds: int | None = None  # then SIGKILL
    files: int | None = None  # open file descriptors
    processes: int | None = None  # of its user, threads included; the system exempts root
    core: int | None = 0  # bytes of core dump


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: by its code or by a signal. Both None: unknown, the fork server died first."""

    code: int | None = None
    signal: int | None = None


class ProcessError(RuntimeError):
    """A process, or the fork server, could not be started."""


class _ServerDied(ProcessError):
    """The server died before it answered: another may be asked."""


class Process:
    """A child of the fork server, for use on the event loop that spawned it. It ends once, in `_end`: when its status
    has come from the server, or, if the server died first, when its pidfd says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, pid: int, pidfd: int) -> None:
        self.name, self.pid, self.pidfd, self.alive = name, pid, pidfd, True  # the pidfd is open exactly while it lives
        self._loop = loop
        self._ended: asyncio.Future[ExitStatus] = loop.create_future()

    def kill(self, signal: int = SIGKILL) -> None:
        """Send a signal. No effect on one that is dead, nor on another that has got its pid since."""
        with contextlib.suppress(ProcessLookupError):
            if self.alive:
                pidfd_send_signal(self.pidfd, signal)

    async def wait(self) -> ExitStatus:
        """Return how the process ended, once it has. Any number of tasks may wait, and be cancelled."""
        return await asyncio.shield(self._ended)

    def on_exit(self, callback: Callable[[ExitStatus], object]) -> None:
        """Call `callback(status)` once, on the loop, when it has ended; soon, if it has already."""
        self._ended.add_done_callback(lambda ended: callback(ended.result()))

    def _server_died(self) -> None:
        _kill(os.killpg, self.pid)  # the process itself got the parent-death signal, the rest of its group none
        self._loop.add_reader(self.pidfd, self._end, None)

    def _end(self, code: int | None) -> None:
        self.alive = False
        self._loop.remove_reader(self.pidfd)
        os.close(self.pidfd)
        self._ended.set_result(ExitStatus(code) if code is None or code >= 0 else ExitStatus(signal=-code))


class ForkServer:
    """Starts processes, by forking one whose imports are warm. For use on one event loop. One that died starts again.
    `warm`: modules to import once, before a fork; one that fails is reported on stderr. `python`: an interpreter, which
    may be another environment's. `path`, `env`: its sys.path and environment, if not ours."""

    def __init__(self, warm: Sequence[str] = (), python: str = sys.executable, path: Any = None, env: Any = None):
        self._python, self._stopped, self._env = python, False, env
        self._warm, self._path = [*warm], path and [*path]
        self._turn = asyncio.Lock()  # one spawn at a time: the socket's buffer always has room for it
        self._asked: list[tuple[asyncio.Future[Process], str]] = []  # not answered yet; with the process's name
        self._processes: dict[int, Process] = {}  # by pid: answered, status not come yet
        self._runs = False  # a server does, of which _popen, _socket and _dead are: set by _launch, and only used then

    @property
    def pid(self) -> int | None:
        """The fork server's process id; None while it does not run."""
        return self._popen.pid if self._runs else None

    async def start(self) -> None:
        """Start the server, unless it runs; it makes its imports meanwhile. Raises ProcessError if it cannot."""
        self._launch()

    async def spawn(
        self, entry: str, *, name: str, fds: Sequence[int] = (), limits: Limits = Limits(), stdout: int | None = None
    ) -> Process:
        """Start a process that calls `entry`, "module:function", with the list of its own numbers for `fds`.

        What that returns is its exit code (None: 0); an exception prints its traceback and makes it 1. It then ends at
        once: no atexit handler runs, no thread is waited for. It leads a session of its own and ignores SIGINT, since
        Ctrl-C is the kernel's to handle. `fds` are duplicated: the caller keeps its own. `stdout` takes what it prints,
        errors too. Raises ValueError for a malformed entry, ProcessError if it cannot be started; cancelled, none is.
        """
        module, _, function = entry.partition(":")
        if not module or not function:
            raise ValueError(f"entry: got {entry!r}, wanted 'module:function'")
        passed = [*fds] if stdout is None else [stdout, *fds]
        request = {"name": name, "entry": entry, "limits": astuple(limits), "output": stdout is not None}
        async with self._turn:
            with contextlib.suppress(_ServerDied):  # and with it what it may have forked for us: once more
                return await self._spawn(request, passed)
            return await self._spawn(request, passed)

    async def stop(self) -> None:
        """End the server for good, and every process it started by SIGKILL; return when all are gone."""
        self._stopped = True
        if self._runs:
            self._socket.shutdown(socket.SHUT_WR)  # it kills and reaps its processes, reports them, and exits
            await asyncio.shield(self._dead)

    def _launch(self) -> None:
        if self._stopped:
            raise ProcessError("the fork server was stopped: wanted start() and spawn() before stop()")
        if self._runs:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed = theirs.fileno(), os.pidfd_open(os.getpid())
        command = [self._python, "-P", os.path.abspath(__file__), *map(json.dumps, (*passed, self._warm, self._path))]
        try:
            self._popen = Popen(command, env=self._env, pass_fds=passed, stdin=DEVNULL, start_new_session=True)
        except OSError as error:
            ours.close()
            raise ProcessError(f"python: got {self._python!r}, wanted an interpreter that runs: {error}") from error
        finally:
            theirs.close()
            os.close(passed[1])
        ours.setblocking(False)
        self._loop, self._socket, self._runs = asyncio.get_running_loop(), ours, True
        self._dead = self._loop.create_future()
        self._loop.add_reader(ours, self._on_packet)

    async def _spawn(self, request: dict[str, Any], fds: Sequence[int]) -> Process:
        self._launch()
        answer: asyncio.Future[Process] = self._loop.create_future()
        data = json.dumps({**request, "fds": len(fds)}).encode()
        if len(data) > LARGEST_PACKET:
            raise ProcessError(f"name and entry: got {len(data)} bytes in all, wanted at most {LARGEST_PACKET}")
        try:
            with contextlib.suppress(ConnectionError):  # it has died, and _on_packet will see
                socket.send_fds(self._socket, [data], fds)
        except OSError as error:
            raise ProcessError(f"fds: got {[*fds]}, wanted at most {MOST_DESCRIPTORS}, all open: {error}") from error
        self._asked.append((answer, request["name"]))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(lambda it: None if it.exception() else it.result().kill())  # whenever it comes
            raise

    def _on_packet(self) -> None:
        try:
            packet, fds = _receive(self._socket, 1)
        except EOFError:
            self._on_death()
        else:
            if "ended" not in packet:
                self._on_answer(packet, fds)
            elif process := self._processes.pop(packet["ended"], None):
                process._end(packet["code"])

    def _on_answer(self, packet: dict[str, Any], fds: list[int]) -> None:
        answer, name = self._asked.pop(0)
        if fds:
            process = self._processes[packet["pid"]] = Process(self._loop, name, packet["pid"], fds[0])
            answer.set_result(process)
            return
        reason = packet.get("error", "the kernel's process has no file descriptor left for it")
        answer.set_exception(ProcessError(f"process {name!r} was not started: {reason}"))
        if "pid" in packet:
            self._socket.send(json.dumps({"kill": packet["pid"]}).encode())

    def _on_death(self) -> None:
        # A child closes its copy of the server's socket before it calls its entry. So the server is exiting, this
        # wait is short, and what it forked and did not tell of has the parent-death signal.
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._runs, status = False, self._popen.wait()
        while self._processes:
            self._processes.popitem()[1]._server_died()
        while self._asked:
            answer, _ = self._asked.pop(0)
            answer.set_exception(_ServerDied(f"fork server {self._python!r} ended with status {status}"))
            answer.exception()  # who asked may have gone: that is nothing to warn of
        self._dead.set_result(None)


def _receive(connection: socket.socket, most: int) -> tuple[dict[str, Any], list[int]]:
    """One packet, and up to `most` descriptors beside it. Raises EOFError when the other side is gone."""
    data, fds = b"", list[int]()
    with contextlib.suppress(ConnectionResetError):
        data, fds, _, _ = socket.recv_fds(connection, LARGEST_PACKET, most)
    for descriptor in fds:
        os.set_inheritable(descriptor, False)  # recv_fds forgets its flags, so MSG_CMSG_CLOEXEC would do nothing
    if not data:
        raise EOFError
    return json.loads(data), fds


def _kill(how: Callable[[int, int], None], *numbers: int, by: int = SIGKILL) -> None:
    for number in numbers:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or not ours
            how(number, by)


class _Server:
    """The other side: one thread, no event loop. `run` ends with the kernel, and leaves no descendant."""

    def __init__(self, connection: int, kernel_pidfd: int, modules: list[str], path: list[str] | None) -> None:
        self._kernel, self._kernel_pidfd, self._forked = socket.socket(fileno=connection), kernel_pidfd, set[int]()
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # written to at each SIGCHLD
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._trackers = set[int]()  # not reaped; they are to end by themselves before the next SIGALRM
        signal.signal(signal.SIGALRM, lambda *_: _kill(os.kill, *self._trackers))
        # Both are meant for the kernel, which ends us in order. SIGTERM is blocked, not ignored: one sent to a child
        # that was just forked waits until the child unblocks it, and is not lost.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGTERM])
        prctl(PR_SET_NAME, b"mukernel-fork")
        prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that what a child leaves behind becomes ours, to end it
        self._warm_up(modules, path)

    def run(self) -> None:
        poll = select.poll()
        for descriptor in (self._kernel.fileno(), self._kernel_pidfd, self._woken):
            poll.register(descriptor, select.POLLIN)
        try:
            with contextlib.suppress(EOFError):
                while self._kernel_pidfd not in (ready := dict(poll.poll())):
                    if self._woken in ready:
                        os.read(self._woken, 4096)
                        self._reap()
                    if self._kernel.fileno() in ready:
                        self._serve(*_receive(self._kernel, MOST_DESCRIPTORS))
        finally:
            self._forked.clear()  # none is to stay
            self._end_strays()
            self._reap(waiting=0)  # until there is none: each that ends makes its own children ours

    def _warm_up(self, modules: list[str], path: list[str] | None) -> None:
        """Import the modules, and keep the collector from all that is then in memory: its pages stay shared."""
        sys.path[:] = sys.path if path is None else path
        gc.disable()
        for module in modules:
            try:
                __import__(module)
            except (Exception, SystemExit) as error:
                print(f"warm: {module!r} was not imported: {type(error).__name__}: {error}", file=sys.stderr)
        if sys.stdout:  # None where it is closed
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # and flushed, not printed twice
        gc.collect()
        gc.freeze()

    def _send(self, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
        with contextlib.suppress(ConnectionError):  # then the next _receive says so
            socket.send_fds(self._kernel, [json.dumps(packet).encode()], fds)

    def _serve(self, request: dict[str, Any], fds: list[int]) -> None:
        if "kill" in request:
            if request["kill"] in self._forked:  # not reaped, so the number is still its own
                os.kill(request["kill"], SIGKILL)
            return
        server, pid = os.getpid(), 0
        try:
            if len(fds) != request["fds"]:
                raise OSError(f"the fork server received {len(fds)} of {request['fds']} file descriptors")
            pid = os.fork()
            if pid == 0:
                self._become(request, fds, server)
            self._forked.add(pid)
            pidfd = os.pidfd_open(pid)  # before it can be reaped, so it is this process and no other
            self._send({"pid": pid}, [pidfd])
            os.close(pidfd)
        except OSError as error:
            if pid:
                os.kill(pid, SIGKILL)
            self._send({"error": str(error)})
        finally:
            for descriptor in fds:
                os.close(descriptor)

    def _reap(self, waiting: int = os.WNOHANG) -> None:
        with contextlib.suppress(ChildProcessError):  # there is none
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | waiting):
                _kill(os.killpg, found.si_pid, by=signal.SIGSTOP)  # not reaped yet, so the number is still its own
                self._end_strays()  # its children are ours by now
                self._forked.discard(found.si_pid)
                self._trackers.discard(found.si_pid)
                pid, status = os.waitpid(found.si_pid, 0)
                self._send({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _end_strays(self) -> None:
        """End the children that we did not fork: they were of one that has ended, and whose group is stopped, so that
        nothing in it forks on. A resource tracker, as that of `multiprocessing`, is let go on: it unlinks what the
        others left, and ends, when all of them are gone. It is killed if it does not."""
        with contextlib.suppress(OSError), open("/proc/thread-self/children") as children:
            for pid in {*map(int, children.read().split())} - self._forked:
                tracker = False
                with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as command:
                    tracker = b"resource_tracker import main" in command.read()
                if tracker and pid not in self._trackers:
                    self._trackers.add(pid)
                    signal.alarm(3)  # seconds from the last that was found; it takes some milliseconds
                _kill(os.kill, pid, by=signal.SIGCONT if tracker else SIGKILL)

    def _become(self, request: dict[str, Any], fds: list[int], server: int) -> NoReturn:
        """In the child: turn this copy of the server into what was asked for. Never returns."""
        code = 1
        try:
            prctl(PR_SET_PDEATHSIG, SIGKILL)
            prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that a daemon of ours becomes the server's only when we end
            if os.getppid() != server:  # it died before the line above
                os._exit(1)
            signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
            os.setsid()
            for descriptor in (self._kernel.detach(), self._kernel_pidfd, self._woken, self._waker):
                os.close(descriptor)
            prctl(PR_SET_NAME, request["name"].encode(errors="replace"))  # the system cuts it
            if request["output"]:
                os.dup2(fds[0], 1)
                os.dup2(fds[0], 2)
                os.close(fds.pop(0))
            gc.enable()
            for kind, limit in zip(RESOURCES, request["limits"], strict=True):
                if limit is not None:  # where the system has none it says -1
                    resource.setrlimit(kind, (most := min(limit, resource.getrlimit(kind)[1] % 2**64), most))
            module, _, function = request["entry"].partition(":")
            __import__(module)
            code = int(getattr(sys.modules[module], function)(fds) or 0)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)


if __name__ == "__main__":
    _Server(*map(json.loads, sys.argv[1:])).run()
    os._exit(0)  # at once: to tear down all that was warm takes 10 ms, for which the kernel waits
