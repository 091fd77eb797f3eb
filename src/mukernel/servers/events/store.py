"""The folder of an event server: its durable streams, open to one process at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

from ...contract import Unavailable
from ...core.ending import to_its_end
from .disk import make_folder, open_file
from .settings import StreamSettings
from .stream import Stream


class FolderInUse(Unavailable):
    """Another server has the folder."""


class Lock:
    """Of a folder. It is the operating system's: it ends with the process, however that ends, and though children that
    it has forked live on."""

    def __init__(self, folder: Path) -> None:
        """Raises FolderInUse, OSError."""
        self.descriptor = open_file(folder / "lock", os.O_RDWR | os.O_CREAT)
        _held.add(self)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(self.descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            self.close()
            raise FolderInUse(
                f"the folder {folder} is in use by another event server (process {owner}); give this one a folder of "
                "its own"
            ) from None
        except BaseException:
            self.close()
            raise

    def release(self) -> None:
        """Let others have the folder."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)  # a child that was forked just now may have it, too
        self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _close_all() -> None:
    """In a forked child: the lock is its parent's, which may end before it."""
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_close_all)


class Store:
    """`streams` by name."""

    def __init__(
        self, folder: Path, settings: Mapping[str, StreamSettings], now: Callable[[], float], wall: Callable[[], int]
    ) -> None:
        """Raises FolderInUse, OSError."""
        make_folder(folder)
        self.lock = Lock(folder)
        try:
            self.streams = {
                name: Stream(name, folder / "streams" / name, each, now, wall) for name, each in settings.items()
            }
        except BaseException:
            self.lock.release()
            raise

    async def close(self) -> asyncio.CancelledError | None:
        """Write what is left and let others have the folder, which they have when nothing writes there any more: until
        then it goes on, also where it is cancelled; returns the cancellation. Raises OSError."""
        return await to_its_end(self._close())

    async def _close(self) -> None:
        errors: list[Exception] = []
        streams = self.streams.values()
        # All writers first: what a stream has to give to the dead letters is settled when those have it.
        for close in [*(each.writer.close for each in streams), *(each.close for each in streams)]:
            try:
                await close()
            except Exception as error:  # the others are closed all the same
                errors.append(error)
        self.lock.release()
        if errors:
            raise errors[0]
