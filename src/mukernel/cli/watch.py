"""Watch: swaps plug-ins whose source changes."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from ..contract import MukernelError, RemoteError, SwapFailed
from ..core.application import Application
from ..core.inspection import Inspected, explained, inspect_plugins
from ..core.lifecycle import State
from ..core.reach import sandbox_of
from ..kernel.clock import Clock
from .terminal import Terminal

if TYPE_CHECKING:
    from ..core.control_server import ControlServer
    from ..core.journal import Happening

LOOK = 0.3  # seconds between two looks at the files
Mark = tuple[int, int, int]  # what differs when a file was written: time, size, inode


class Watch:
    """Looks at the files of every plug-in. `marks`: how each file was when it was last loaded, or tried; `loaded`: when
    (ns since 1970) each plug-in was loaded whose files are not known yet; `failed`: when each was to be loaded that
    could not be; `passed_over`: those that were stopped, or crashed, when their files changed.

    Made before anything is loaded: a file that is written while the application starts has changed, too."""

    def __init__(self, clock: Clock, application: Application, control: ControlServer, terminal: Terminal) -> None:
        self.clock, self.application, self.control, self.terminal = clock, application, control, terminal
        self.files = {name: set(seen.files) for name, seen in application.inspected.items()}
        self.marks: dict[str, Mark | None] = {}
        self.loaded: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.passed_over: set[str] = set()
        self.changed_files()

    def heard(self, happening: Happening) -> None:
        """Whoever loaded or swapped a plug-in: it may be of other files now."""
        again = happening.what == "restart" and happening.plugin in self.passed_over
        if again or happening.what in ("load", "swap", "rollback"):
            self.loaded[happening.plugin] = self.now()

    def now(self) -> int:
        return int(self.clock.wall().timestamp() * 1e9)

    async def run(self) -> None:
        """Until cancelled. A swap that fails is reported, and the old version stays."""
        self.control.kernel.listeners.append(self.heard)
        while True:
            await self.clock.sleep(LOOK)
            started_again = self.passed_over & self.loaded.keys()
            self.passed_over -= started_again
            if self.loaded or self.failed:
                await self.look_at_classes()
            changed = self.changed_files()
            await self.swap_all({name for name, files in self.files.items() if files & changed} | started_again)

    def changed_files(self) -> set[str]:
        """The files that were written, or came, since the last look. One that is gone for a moment, as editors do, is
        not one."""
        changed = set()
        for path in set().union(*self.files.values()):
            mark = mark_of(path)
            if mark is not None and mark != self.marks.get(path):
                changed.add(path)
                self.marks[path] = mark
        return changed

    async def swap_all(self, affected: set[str]) -> None:
        """Load each of these plug-ins anew, the first loaded first."""
        running = self.control.kernel.registry.entries
        order = {name: running[name].order for name in affected & running.keys()}
        self.passed_over |= affected - order.keys()  # one that is inline would be started from what was imported
        for name in sorted(order, key=lambda name: order[name]):
            if (entry := running.get(name)) is None:  # stopped while another was swapped
                self.passed_over.add(name)
                continue
            given_up = entry.failure is not None
            began = self.now()  # what is written from now on may come too late for it
            try:
                if given_up:
                    await self.control.kernel.restart(name)
                else:
                    await self.control.swapped(name)
                self.loaded[name] = began
            except MukernelError as error:
                self.failed[name] = began
                if entry.state is State.CRASHED:  # not for what it was swapped to: when it serves again
                    self.passed_over.add(name)
                reason = explained_problem(error, self.application.file.folder)
                report = error.report if isinstance(error, SwapFailed) else None
                serves = report.serves if report is not None else "the old version serves on"
                what = "not started again" if given_up else f"not swapped, {serves}"
                self.terminal.say_if_heard(f"{name}: {what}: {reason}")

    async def look_at_classes(self) -> None:
        """Find out the files of what was loaded: another class may be of others, and a new version import more. So may
        one that failed, by those; it is not imported for that, as it may never return."""
        loaded, self.loaded = self.loaded, {}
        failed, self.failed = self.failed, {}
        for name, each in (await self.inspected(loaded)).items():
            if each.files:
                self.watch(name, set(each.files), loaded[name])
                self.control.settings[name] = each.settings
        for name, each in (await self.inspected(failed, importing=False)).items():
            self.watch(name, self.files.get(name, set()).union(each.files), failed[name])
        watched = set().union(*self.files.values())
        self.marks = {path: mark for path, mark in self.marks.items() if path in watched}

    async def inspected(self, names: Collection[str], importing: bool = True) -> dict[str, Inspected]:
        """What those that run say of their classes; not `importing`: only of their files."""
        running = self.control.kernel.registry.entries
        entries = {name: running[name] for name in names if name in running}
        uses = {name: (entry.source, entry.options.config) for name, entry in entries.items()}
        hangs = {name: entry.options.restart.hang for name, entry in entries.items()}
        boxes = {
            name: (box, entry.options.limits)
            for name, entry in entries.items() if (box := sandbox_of(entry.options))
        }  # fmt: skip
        file = self.application.file
        return await inspect_plugins(uses, file.folder, file.label, hangs, boxes, importing)

    def watch(self, name: str, files: set[str], since: int) -> None:
        """These are a plug-in's files from now on. One that was written after `since` (ns since 1970) has changed."""
        self.files[name] = files
        for path in files:
            mark = mark_of(path)
            if mark is not None and mark[0] <= since:
                self.marks.setdefault(path, mark)


def explained_problem(error: MukernelError, folder: str) -> str:
    """What went wrong, and where in the plug-in's source, in the same words wherever it runs."""
    cause = error.__cause__ if isinstance(error, SwapFailed) else None
    if cause is None or (isinstance(cause, MukernelError) and not isinstance(cause, RemoteError)):
        return str(cause or error)
    return explained(cause, folder)


def mark_of(path: str) -> Mark | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino  # that time nobody can set
