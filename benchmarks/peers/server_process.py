"""A peer's server, running in a process of its own that cannot outlive the benchmark.

The server is a fresh interpreter (`python -m benchmarks.peers.NAME ADDRESS PARENT`), not a fork: gRPC's
threads do not survive one. It writes one line to standard output when it answers calls. It is killed, not
asked to end, since an echo has nothing to lose; and if the benchmark itself is killed, the parent-death
signal ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

READY = b"ready\n"
START_LIMIT_S = 60
"""A server that has not said `ready` by then never will: the slowest takes about a second."""

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_LONGEST_SOCKET_PATH = 107  # sun_path in <sys/un.h> is 108 bytes with its NUL


class ServerFailed(RuntimeError):
    """A peer's server ended, or stayed silent, before it was ready."""


@contextlib.contextmanager
def running(module: str, address: str, pass_fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Run `module` as a server at `address` until the block ends. `pass_fds` stay open in it.

    Call it from a thread that outlives the block: the parent-death signal comes when that *thread* ends.
    Raises ServerFailed if the server ends, says something else, or says nothing for `START_LIMIT_S` seconds.
    """
    command = [sys.executable, "-m", module, address, str(os.getpid())]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=pass_fds
    ) as process:
        try:
            _await_ready(module, process)
            yield process
        finally:
            process.kill()


def _await_ready(module: str, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    if not readable:
        raise ServerFailed(f"server {module}: silent for {START_LIMIT_S} s, wanted the line {READY!r}")
    line = process.stdout.readline()
    if line == READY:
        return
    if line:
        raise ServerFailed(f"server {module}: wrote {line!r}, wanted the line {READY!r}")
    raise ServerFailed(f"server {module}: ended with status {process.wait()} before it was ready; its errors are above")


@contextlib.contextmanager
def socket_path() -> Iterator[str]:
    """A path for a Unix socket, in a directory only this user can enter, removed when the block ends.

    Raises ValueError if the temporary directory's own path leaves no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="echo-") as directory:
        path = os.path.join(directory, "socket")
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"TMPDIR: got {path!r} for a Unix socket, wanted {_LONGEST_SOCKET_PATH} bytes at most")
        yield path


def main(serve: Callable[[str], None]) -> None:
    """The server's side: tie this process to its parent, then run `serve(address)`, which calls `ready`."""
    address, parent = sys.argv[1], int(sys.argv[2])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # In this order: a parent that died before the signal was set is noticed here, a later one by the signal.
    if os.getppid() != parent:
        sys.exit(f"parent: got process {os.getppid()}, wanted {parent}, which has ended")
    # Ctrl-C reaches the whole group. The parent then kills this process: a traceback of ours would be noise.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(address)


def ready() -> None:
    """Tell the parent that calls are answered from now on. Called once, by `serve`."""
    os.write(sys.stdout.fileno(), READY)
