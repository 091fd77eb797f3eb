"""Files: the interface by which plug-ins reach what is mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, TypeAlias

import msgspec

from ...contract import Buffer, Interface, idempotent

Kind = Literal["file", "directory", "other"]


class FileInfo(msgspec.Struct):
    """What is known of one path. `size`: bytes; `modified`: seconds since 1970, where the mount knows; `version`:
    changes with the content, where the mount has something that does."""

    path: str
    kind: Kind
    size: int = 0
    modified: float | None = None
    version: str | None = None


class Change(msgspec.Struct):
    """What a watcher saw. "watching" comes first, once: what changes after it is told."""

    kind: Literal["watching", "created", "changed", "removed"]
    path: str


class FileLock(msgspec.Struct):
    """A lock that is held. `token` grows with every lock that is given out: hand it to what you write to, and a holder
    that was too slow is found out. `lease`: seconds after which it is taken away unless it was renewed."""

    path: str
    owner: str
    token: int
    shared: bool = False
    lease: float | None = None


Entries: TypeAlias = list[FileInfo]
Locks: TypeAlias = list[FileLock]


class Files(
    Interface,
    version="1.0",
    raises=(
        FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, BlockingIOError,
        TimeoutError, OSError, ValueError,
    ),
):  # fmt: skip
    """Reads and writes files by absolute paths such as "/data/2026/prices.csv", the first part of which is a mount.

    Nothing is open between two calls, so a restart or a swap of the server is a pause and no more. But the streams of
    `watch` and `lock` end with the server: with Unavailable when it is replaced, moved or stopped, with PluginCrashed
    when it dies. Methods raise what Python's own functions for files do, and ValueError for a path that is none.
    """

    @idempotent
    async def stat(self, path: str) -> FileInfo:
        """One path; a symbolic link is followed, within its mount."""
        raise NotImplementedError

    @idempotent
    async def list(self, path: str) -> Entries:
        """What lies in a folder, by name."""
        raise NotImplementedError

    @idempotent
    async def read(self, path: str, offset: int = 0, length: int | None = None, version: str | None = None) -> Buffer:
        """`length` bytes from `offset` on, fewer at the end of the file. `version`: of FileInfo; OSError (ESTALE) if
        the file is another one by now."""
        raise NotImplementedError

    @idempotent
    async def write(self, path: str, data: Buffer) -> FileInfo:
        """Put `data` in place of the whole file, which is made if need be: readers see the old one or the new one."""
        raise NotImplementedError

    async def append(self, path: str, data: Buffer) -> FileInfo:
        """Add to the end of a file, which is made if need be. Not run again after a crash: it would append twice."""
        raise NotImplementedError

    @idempotent
    async def write_part(self, path: str, upload: str, offset: int, data: Buffer) -> None:
        """One part of a file too large for one message. `upload`: 32 hexadecimal digits that the caller makes up; no
        reader sees anything before `commit`."""
        raise NotImplementedError

    @idempotent
    async def commit(self, path: str, upload: str, size: int, create: bool = False) -> FileInfo:
        """Put what was uploaded, `size` bytes, in place of the file at once. Follow it by `discard`. `create`: only
        where there is none; else FileExistsError."""
        raise NotImplementedError

    @idempotent
    async def discard(self, path: str, upload: str) -> None:
        """Forget an upload, committed or not. Those of callers that died are forgotten at a start a day later."""
        raise NotImplementedError

    @idempotent
    async def mkdir(self, path: str, parents: bool = False) -> None:
        """Make a folder; one that is there already is left alone."""
        raise NotImplementedError

    @idempotent
    async def remove(self, path: str, recursive: bool = False) -> bool:
        """Remove a file or an empty folder; `recursive`: with all that is in it. False: there was nothing."""
        raise NotImplementedError

    async def rename(self, source: str, target: str) -> None:
        """Move within one mount, over whatever file is there. Not run again after a crash."""
        raise NotImplementedError

    @idempotent
    async def copy(self, source: str, target: str) -> FileInfo:
        """Copy a file, between mounts, too."""
        raise NotImplementedError

    def watch(self, path: str, recursive: bool = False, interval: float = 1.0) -> AsyncIterator[Change]:
        """Changes to a file, or to what lies in a folder, seen by a look every `interval` seconds. `recursive`: in the
        folders within it, too, but not in those that symbolic links lead to. After a server that has ended,
        watch again, and look at what is there then: of what changed in between nobody tells."""
        raise NotImplementedError

    def lock(
        self, path: str, owner: str = "", shared: bool = False, wait: bool = True, lease: float | None = None
    ) -> AsyncIterator[FileLock]:
        """An advisory lock, held for as long as this stream is open: it yields once, when the lock is held. It is freed
        when the stream is closed or its holder dies, and ends with TimeoutError when its `lease` has run out. Whatever
        the stream ends with, the lock is held no more.
        BlockingIOError: somebody else holds it, and `wait` is False."""
        raise NotImplementedError

    @idempotent
    async def renew(self, path: str, token: int) -> None:
        """Begin the lease of a lock anew. Raises TimeoutError where it is held no more."""
        raise NotImplementedError

    @idempotent
    async def locks(self, path: str = "/") -> Locks:
        """The locks that are held on a path and beneath it."""
        raise NotImplementedError
