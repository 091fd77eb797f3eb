"""Fork servers: one for each environment, and one more for its sandboxes, which never knew the kernel's variables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Set
from contextlib import asynccontextmanager, contextmanager

from ..deployment.environment import imported_apart, interpreter, read_environment, site_packages
from ..deployment.work import environment_variables
from ..kernel.process import ForkServer
from ..sandbox.enclosure import scrubbed_environment
from ..sandbox.family import descendants
from .stack import state_of

log = logging.getLogger("mukernel")
Key = tuple[str, bool]  # an environment, and whether it is for its sandboxes
LONGEST_SILENCE = 30.0  # seconds that a fork server may owe an answer: it may have much to import before its first
WARM = ("mukernel.core.warm",)
WARM_SANDBOX = (*WARM, "mukernel.core.sandboxed")
WARM_ENVIRONMENT = ("mukernel.core.environment_host", *WARM)  # before what is packed


class ForkServers:
    """Started when they are first needed; each environment is named by its folder, "" is the kernel's own."""

    def __init__(self) -> None:
        self.running: dict[Key, ForkServer] = {}
        self.busy: Counter[str] = Counter()  # environments in which a process is just being started
        self.asked: Counter[Key] = Counter()  # requests for a process that are not answered
        self.spare: tuple[str, tuple[int, int]] | None = None  # an environment that is not used, as its folder was then
        self.failed: set[str] = set()  # environments in which the last process could not be started
        self.late: Counter[Key] = Counter()  # heartbeats in a row in which one owed something, and did nothing

    def get(self, environment: str, sandboxed: bool) -> ForkServer | None:
        return self.running.get((environment, sandboxed))

    @asynccontextmanager
    async def serving(self, environment: str, sandboxed: bool) -> AsyncIterator[ForkServer]:
        """The server, which is not stopped as long as this lasts. Raises ProcessError, NotFound."""
        key = environment, sandboxed
        self.busy[environment] += 1
        try:
            if environment:
                read_environment(environment)  # raises NotFound: it may have gone since its server was started
            if self.spare is not None and self.spare[0] == environment:
                await self.use_spare(*self.spare)
            if key in self.running:
                self.running[key] = self.running.pop(key)  # the last that was used
            else:
                server = self.running[key] = new_server(environment, sandboxed)
                await server.start()
            yield self.running[key]
            self.failed.discard(environment)
        except BaseException:
            self.failed.add(environment)
            raise
        finally:
            self.busy[environment] -= 1
            self.busy += Counter()  # without those that are not busy

    async def keep(self, environments: Set[str]) -> None:
        """Stop those of other environments, but for the one that was used last, if it was of use: a swap back to it has
        not to wait until it has started. The kernel's own stay."""
        while unused := [each for each in self.running if each[0] and each[0] not in environments | self.busy.keys()]:
            spare = unused[-1][0]
            folder = identity(spare)
            if folder is not None and spare not in self.failed and {each for each, _ in unused} == {spare}:
                self.spare = spare, folder
                return
            await stopped(self.running.pop(unused[0]))  # meanwhile another may be needed again

    async def use_spare(self, environment: str, was: tuple[int, int]) -> None:
        """What was not used is used again, unless another environment has been made in its place."""
        self.spare = None
        if identity(environment) != was:
            for server in [self.running.pop(each) for each in [*self.running] if each[0] == environment]:
                await stopped(server)

    async def close(self) -> None:
        while self.running:
            await stopped(self.running.popitem()[1])

    # -- those that are stopped, or hang ----------------------------------------------------------------------

    @contextmanager
    def asking(self, environment: str, sandboxed: bool) -> Iterator[None]:
        """A process is asked for, until it is there."""
        key = environment, sandboxed
        self.asked[key] += 1
        try:
            yield
            self.heard(*key)
        finally:
            self.asked[key] -= 1
            self.asked += Counter()

    def heard(self, environment: str, sandboxed: bool) -> None:
        """A server gave a sign of life."""
        self.late.pop((environment, sandboxed), None)

    def let_go_on(self) -> None:
        """Let every server go on that is stopped, or about to be."""
        for server in self.running.values():
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)

    def beat(self, heartbeat: float, untold: Set[Key]) -> None:
        """One tick, `heartbeat` seconds after the last: see to the servers that owe an answer, or have not told of a
        process that has ended (`untold`). One that was stopped is let go on; one that hangs is killed, and what it
        started with it, which then is restarted by a new one."""
        self.late = Counter({key: self.late[key] + 1 for key in self.asked.keys() | untold})
        for key, beats in self.late.items():
            server = self.running.get(key)
            if server is None or beats < 2:  # what it told may just be on its way
                continue
            if was_stopped(server):
                log.warning("a fork server was stopped, by a signal such as SIGSTOP, and is let go on: it is needed")
            elif beats * heartbeat > LONGEST_SILENCE:
                log.error("a fork server did nothing for %g s, and is killed with all that it started", LONGEST_SILENCE)
                kill_family(server)


def identity(folder: str) -> tuple[int, int] | None:
    """Which folder it is, whatever its name; None where there is none."""
    with contextlib.suppress(OSError):
        found = os.stat(folder)
        return found.st_dev, found.st_ino
    return None


def was_stopped(server: ForkServer) -> bool:
    """Whether a signal such as SIGSTOP had stopped the server, which is let go on then."""
    pid = server.pid
    if pid is None or state_of(pid)[0] != "stopped":
        return False
    os.kill(pid, signal.SIGCONT)  # a child of ours that is not reaped, so the number is its own
    return True


def kill_family(server: ForkServer) -> None:
    """Kill a server with all that it has started: the parent-death signal does not reach the children of those."""
    if (leader := server.pid) is not None:
        for pid in [*descendants(leader), leader]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


async def stopped(server: ForkServer) -> None:
    """End a server and all that it has started, even if it is stopped, or hangs."""
    was_stopped(server)
    ending = asyncio.ensure_future(server.stop())
    await asyncio.wait((ending,), timeout=LONGEST_SILENCE)
    if not ending.done():
        kill_family(server)
    await ending


def new_server(environment: str, sandboxed: bool) -> ForkServer:
    if not environment:
        if sandboxed:
            return ForkServer(WARM_SANDBOX, path=sys.path, env=scrubbed_environment())
        return ForkServer(WARM, path=sys.path)
    python = read_environment(environment).python  # raises NotFound where it is gone
    if sandboxed:
        apart = imported_apart(environment, python)
        return ForkServer(WARM_ENVIRONMENT, python.executable, path=apart, env=scrubbed_environment())
    path = os.path.join(environment, "bin") + os.pathsep + os.environ.get("PATH", os.defpath)
    variables = environment_variables({"VIRTUAL_ENV": environment, "PATH": path})
    return ForkServer(WARM_ENVIRONMENT, interpreter(environment), env=variables)


def imported_from(environment: str) -> list[str]:
    """The folders from which a process of an environment imports: for a sandbox, which is to find them."""
    python = read_environment(environment).python
    base = os.path.join(python.base_prefix, "lib")
    return [environment, site_packages(environment, python.library), python.library, base]
