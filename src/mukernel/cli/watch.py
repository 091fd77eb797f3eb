"""Watch: swaps plug-ins whose source changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..contract import MukernelError
from ..core.application import Application
from ..core.inspection import inspect_plugins
from ..kernel.clock import Clock
from .replace import report_text
from .terminal import Terminal

if TYPE_CHECKING:
    from ..core.control_server import ControlServer

LOOK = 0.3  # seconds between two looks at the files
Mark = tuple[int, int, int]  # what differs when a file was written: time, size, inode


class Watch:
    """Looks at the files of every plug-in. `marks`: how each file was when it was last loaded, or tried."""

    def __init__(self, clock: Clock, application: Application, control: ControlServer, terminal: Terminal) -> None:
        self.clock, self.application, self.control, self.terminal = clock, application, control, terminal
        self.files = {name: set(seen.files) for name, seen in application.inspected.items()}
        self.marks: dict[str, Mark | None] = {}
        self.changed_files()

    async def run(self) -> None:
        """Until cancelled. A swap that fails is reported, and the old version stays."""
        while True:
            await self.clock.sleep(LOOK)
            changed = self.changed_files()
            if changed:
                await self.swap_users(changed)

    def changed_files(self) -> set[str]:
        """The files that were written since the last look. One that is gone for a moment, as editors do, is
        not one."""
        changed = set()
        for path in set().union(*self.files.values()):
            mark = mark_of(path)
            if mark is not None and mark != self.marks.get(path):
                changed.add(path)
                self.marks[path] = mark
        return changed

    async def swap_users(self, changed: set[str]) -> None:
        """Swap every plug-in that is made of one of the files."""
        affected = [name for name in self.application.order if self.files[name] & changed]
        running = self.control.kernel.registry.entries
        swapped = False
        for name in affected:
            if name not in running:
                continue  # it is stopped, and will be loaded as it is then
            try:
                report = await self.control.swap(name)
            except MukernelError as error:
                self.terminal.say(f"{name}: not swapped, the old version serves on: {error}")
                continue
            swapped = swapped or not report.rolled_back
            if report.rolled_back:
                self.terminal.say(report_text(report, verbose=True))
        if swapped:
            await self.look_at_classes()

    async def look_at_classes(self) -> None:
        """What the new versions import may not be what the old ones did."""
        tables = self.application.file.plugins
        uses = {name: (use, tables[name].config) for name, use in self.control.uses.items() if name in tables}
        seen = await inspect_plugins(uses, self.application.file.folder, self.application.file.label)
        for name, each in seen.items():
            if each.files:
                self.files[name] = set(each.files)
                self.control.settings[name] = each.settings
                for path in each.files:
                    self.marks.setdefault(path, mark_of(path))


def mark_of(path: str) -> Mark | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
