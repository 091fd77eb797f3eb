"""Deployments: plug-ins of one kernel that are installed into environments of their own."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..contract import ContractError, NotFound, Unavailable
from ..deployment import Request, read_request
from ..deployment.environment import GONE, Hold, Installed, read_environment
from ..deployment.request import checked_python
from ..deployment.work import WAIT, Work
from ..kernel.clock import Clock
from .loader import source_of
from .messages import Source

if TYPE_CHECKING:
    from ..deployment import Installer


class Deployments:
    """Installs what is asked for, beside what runs, and keeps each environment from removal as long as a plug-in of
    this kernel is of it. `application`: its name, which says where, unless there is an `installer`. `say`: called, on
    the loop, with (what was asked for, a line of text) at each step."""

    def __init__(
        self, application: str, installer: Installer | None, clock: Clock, say: Callable[[str, str], object]
    ) -> None:  # fmt: skip
        self.application, self.given, self.clock, self.say = application, installer, clock, say
        self.holds: dict[str, Hold] = {}  # by the folder of the environment
        self.busy: Counter[str] = Counter()  # environments that something is just being made of

    @asynccontextmanager
    async def source(
        self, use: type | str | Source, folder: str | None = None, fresh: bool = False, python: str = "",
        entry: str = "", fallback: Source | None = None, upgrade: bool = False,
    ) -> AsyncIterator[Source]:  # fmt: skip
        """Where to load a plug-in from, installed first where that is meant; the environment stays while this lasts.
        `fallback`: of the version before, whose Python and entry point are meant where none is named. `upgrade`: what
        is installed is chosen anew, whatever is locked.

        Raises NotFound, ContractError, Unavailable.
        """
        request = await self.request(use, folder, python, entry, fallback, upgrade)
        if request is None:
            given = {"python": python, "entry": entry, "upgrade": upgrade}
            if what := next((name for name, got in given.items() if got), ""):
                raise ContractError(
                    f"{what}: got {given[what]!r} with use = {use!r}, which runs with the Python of the kernel; wanted "
                    "a plug-in with an environment of its own: a requirement, a wheel, a directory or 'git+...'"
                )
            source = source_of(use, folder, fresh)
        else:
            source = source_in(await self.install(request, upgrade), folder)
            taken_back = fresh and not upgrade and isinstance(use, Source)
            if isinstance(use, Source) and taken_back and source.environment != use.environment:
                raise Unavailable(
                    f"use = {use.use!r}: the environment that it was, {os.path.basename(use.environment)}, has been "
                    "removed and can't be made again: there is something else now; swap to what you want"
                )
        if source.environment:
            await self.hold(source.environment)
        self.busy[source.environment] += 1
        try:
            yield source
        finally:
            self.busy[source.environment] -= 1

    async def request(
        self, use: object, folder: str | None, python: str, entry: str, fallback: Source | None, upgrade: bool
    ) -> Request | None:
        """What is to be installed; None where nothing is."""
        if isinstance(use, Source):
            if not use.environment or (not upgrade and await self.try_to_hold(use.environment)):
                return None
            return read_request(use.use, use.folder or None, use.python)  # it has been removed since, or is old
        checked_python(python)
        before = read_request(fallback.use, fallback.folder or None, fallback.python) if fallback is not None else None
        request = read_request(use, folder, python or (before.python if before is not None else ""), entry)
        if request is None or before is None:
            return request
        return replace(request, fallback=before.entry)

    async def install(self, request: Request, upgrade: bool = False) -> Installed:
        """The environment of a request, made unless it is there; it is held from then on."""
        loop = asyncio.get_running_loop()
        work = Work(lambda text: loop.call_soon_threadsafe(self.say, request.whole, text))
        installed, hold = await in_thread(work, lambda: self.installer.install(request, work, upgrade=upgrade))
        try:
            await self.hold(installed.folder)
        finally:
            hold.close()
        return installed

    @property
    def installer(self) -> Installer:
        """Made when it is first needed: it imports much."""
        if self.given is None:
            from ..deployment import Installer
            from ..deployment.store import default_folder

            self.given = Installer(default_folder(self.application))
        return self.given

    @property
    def stores(self) -> list[str]:
        """Folders from which it installs, or where it does."""
        from ..deployment.store import default_folder

        if self.given is None:
            return [str(default_folder(self.application))]
        return [str(self.given.store.folder), *self.given.wheels]

    async def try_to_hold(self, environment: str) -> bool:
        """Keep an environment from being removed; False where it has been, or is being removed at this moment."""
        try:
            await self.hold(environment)
        except NotFound:
            return False
        return is_whole(environment)

    async def hold(self, environment: str) -> None:
        """Keep an environment from being removed. Raises NotFound where it has been. Whoever is about to remove it may
        be stopped as it does: meanwhile the loop turns."""
        if environment in self.holds and not self.holds[environment].lasts():
            self.holds.pop(environment).close()
        while environment not in self.holds:
            try:
                self.holds[environment] = hold(environment)
            except BlockingIOError:
                await self.clock.sleep(WAIT)

    def release(self, used: Collection[str] = ()) -> None:
        """Let go of the environments that nothing is of any more."""
        for folder in [each for each in self.holds if each not in used and not self.busy[each]]:
            self.holds.pop(folder).close()


def checked_apart(use: object, placement: str, folder: str | None = None) -> None:
    """Raises ContractError for a plug-in with an environment of its own that is to run inline."""
    apart = use.environment if isinstance(use, Source) else read_request(use, folder)
    if apart and placement == "inline":
        title = use.title if isinstance(use, Source) else repr(use)
        raise ContractError(
            f"placement: got 'inline' for {title}, which has an environment and so a process of its own; wanted "
            "'process', 'process:NAME', 'sandbox' or 'sandbox:NAME'"
        )


def hold(environment: str) -> Hold:
    """Raises NotFound, and BlockingIOError where it may be about to be removed."""
    try:
        held = Hold(environment, wait=False)
    except BlockingIOError:
        raise
    except OSError:
        held = None
    if held is not None and is_whole(environment):
        return held
    if held is not None:
        held.close()
    raise NotFound(f"the environment {environment} has been removed; {GONE}")


def is_whole(environment: str) -> bool:
    try:
        read_environment(environment)
    except NotFound:
        return False
    return True


def source_in(installed: Installed, folder: str | None) -> Source:
    """What an installation is loaded from, by a process of its environment."""
    return Source(
        installed.module, installed.attribute, environment=installed.folder, use=installed.use,
        python=installed.request.python, folder=folder or "", commit=installed.environment.commit,
    )  # fmt: skip


async def in_thread(work: Work, do: Callable[[], tuple[Installed, Hold]]) -> tuple[Installed, Hold]:
    """Do blocking work in a thread. Cancelled, however often, it is ended before this returns."""
    task = asyncio.ensure_future(asyncio.to_thread(do))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            work.cancel()
            cancelled = error
    if cancelled is None:
        return task.result()
    if task.exception() is None:
        task.result()[1].close()
    raise cancelled
