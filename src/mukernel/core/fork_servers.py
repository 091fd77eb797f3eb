"""Fork servers: one for each environment, and one more for its sandboxes, which never knew the kernel's variables."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager

from ..deployment.environment import imported_apart, interpreter, read_environment, site_packages
from ..deployment.work import environment_variables
from ..kernel.process import ForkServer
from ..sandbox.enclosure import scrubbed_environment

WARM = ("mukernel.core.warm",)
WARM_SANDBOX = (*WARM, "mukernel.core.sandboxed")


class ForkServers:
    """Started when they are first needed; each environment is named by its folder, "" is the kernel's own."""

    def __init__(self) -> None:
        self.running: dict[tuple[str, bool], ForkServer] = {}
        self.busy: Counter[str] = Counter()  # environments in which a process is just being started

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
            if key not in self.running:
                server = self.running[key] = new_server(environment, sandboxed)
                await server.start()
            yield self.running[key]
        finally:
            self.busy[environment] -= 1
            self.busy += Counter()  # without those that are not busy

    async def keep(self, environments: Set[str]) -> None:
        """Stop those of other environments; the kernel's own stay."""
        while unused := [each for each in self.running if each[0] and each[0] not in environments | self.busy.keys()]:
            await self.running.pop(unused[0]).stop()  # meanwhile another may be needed again

    async def close(self) -> None:
        while self.running:
            await self.running.popitem()[1].stop()


def new_server(environment: str, sandboxed: bool) -> ForkServer:
    if not environment:
        if sandboxed:
            return ForkServer(WARM_SANDBOX, path=sys.path, env=scrubbed_environment())
        return ForkServer(WARM, path=sys.path)
    python = read_environment(environment).python  # raises NotFound where it is gone
    if sandboxed:
        apart = imported_apart(environment, python)
        return ForkServer(WARM_SANDBOX, python.executable, path=apart, env=scrubbed_environment())
    path = os.path.join(environment, "bin") + os.pathsep + os.environ.get("PATH", os.defpath)
    variables = environment_variables({"VIRTUAL_ENV": environment, "PATH": path})
    return ForkServer(WARM, interpreter(environment), env=variables)


def imported_from(environment: str) -> list[str]:
    """The folders from which a process of an environment imports: for a sandbox, which is to find them."""
    python = read_environment(environment).python
    base = os.path.join(python.base_prefix, "lib")
    return [environment, site_packages(environment), python.library, base]
