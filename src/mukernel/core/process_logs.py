"""Process logs: what the processes of plug-ins print, in files that do not grow without end.

Each is NAME.log and, with what came before that, NAME.log.1. Those who print hold NAME.log open, as often as their
plug-in has processes, so it stays the same file: what it holds is copied to the other, and it is emptied.
"""

from __future__ import annotations

import asyncio
import logging
import os

log = logging.getLogger("mukernel")


class ProcessLogs:
    """The logs in `folder`; None: nothing is kept. At each heartbeat, and before a process starts, one that has become
    longer than a quarter of what the plug-in's `log_size` allows for both files is put aside."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self.sizes: dict[str, int] = {}  # by path: what both files may have, in bytes
        self.busy: set[str] = set()  # paths of those that are being put aside

    async def open(self, name: str, most: int) -> int | None:
        """A descriptor for what a process is to print; None where nothing is kept. Raises OSError."""
        if self.folder is None:
            return None
        path = os.path.join(self.folder, f"{name}.log")
        self.sizes[path] = most
        if self.is_long(path):
            self.busy.add(path)
            await asyncio.to_thread(self.put_aside, path, most)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, name: str, text: str) -> None:
        """Write to the log of a process what it can't write itself."""
        if self.folder is not None:
            with open(os.path.join(self.folder, f"{name}.log"), "a", encoding="utf-8") as file:
                file.write(text + "\n")

    def look(self) -> None:
        """Put aside what has become long, in another thread."""
        for path, most in self.sizes.items():
            if self.is_long(path):
                self.busy.add(path)
                asyncio.get_running_loop().run_in_executor(None, self.put_aside, path, most)

    def is_long(self, path: str) -> bool:
        try:
            return path not in self.busy and os.stat(path).st_size > self.sizes[path] // 4
        except FileNotFoundError:  # none yet
            return False

    def put_aside(self, path: str, most: int) -> None:
        try:
            put_aside(path, most // 2)
        except OSError as error:
            log.warning("the log %s is emptied, and can't be kept as %s.1: %s", path, path, error)
        finally:
            self.busy.discard(path)


def put_aside(path: str, most: int) -> None:
    """Copy the last `most` bytes of a log to PATH.1, and empty it. Raises OSError; it is emptied all the same, since
    what could not be written may be for want of the very room. What is printed at the moment of that is lost."""
    with open(path, "r+b", buffering=0) as file:
        try:
            with open(f"{path}.1", "wb", opener=for_owner) as older:
                place = max(0, os.fstat(file.fileno()).st_size - most)
                while sent := os.sendfile(older.fileno(), file.fileno(), place, 1 << 20):
                    place += sent
        finally:
            file.truncate(0)


def for_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
