"""The folder of an event server: its durable streams, open to one process at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ...contract import Unavailable
from ...core.ending import to_its_end
from .disk import make_folder
from .settings import StreamSettings
from .stream import Stream


class FolderInUse(Unavailable):
    """Another server has the folder."""


class Store:
    """`streams` by name. The lock is the operating system's: it ends with the process, however that ends."""

    def __init__(
        self, folder: Path, settings: Mapping[str, StreamSettings], now: Callable[[], float], wall: Callable[[], int]
    ) -> None:
        """Raises FolderInUse, OSError."""
        make_folder(folder)
        self.lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self.lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self.lock)
            raise FolderInUse(
                f"the folder {folder} is in use by another event server (process {owner}); give this one a folder of "
                "its own"
            ) from None
        try:
            os.ftruncate(self.lock, 0)
            os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)
            self.streams = {
                name: Stream(name, folder / "streams" / name, each, now, wall) for name, each in settings.items()
            }
        except BaseException:
            os.close(self.lock)
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
        os.close(self.lock)
        if errors:
            raise errors[0]
