"""FileServer: the plug-in that serves Files from its mounts."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Literal, TypeVar
from uuid import uuid4

from ...contract import Buffer, Plugin
from ...core.builtin import Clock
from ...transports.granted import caller_grant
from .interface import Change, Entries, FileInfo, FileLock, Files, Locks
from .leaving import Leaving
from .locks import LockTable
from .mounts import Mount, Mounted, MountTable, problems_of
from .paths import below, joined, normalised, possible
from .storage import CHUNK, Storage
from .threads import Threads

T = TypeVar("T")
Right = Literal["read", "write"]
UPLOAD = re.compile(r"[0-9a-f]{32}")
SHORTEST_INTERVAL = 0.01  # seconds between two looks of a watcher
LARGEST_FILE = (1 << 63) - 1  # bytes that the system can count
ENDING = 2.0  # seconds that what is under way has when the server stops
COPIED = 64 * CHUNK  # bytes of one step of a copy


class FileServer(Plugin, Files):
    """Serves the mounts of its configuration: `"/data" = "data"`, or `{url = "s3://…", options = {…}, read_only =
    true}`. Work on files is done in threads, and each mount has its own: one that is slow keeps no other waiting."""

    grant_rights = ("read", "write")
    grant_scopes = "path"

    def __init__(self, clock: Clock, *, mounts: dict[str, str | Mount]) -> None:
        self.clock = clock
        self.mounts = MountTable(mounts)
        # Tokens go on growing over restarts, as the wall clock does.
        self.locked = LockTable(clock, int(clock.wall().timestamp() * 1000) << 10)
        self.leaving = Leaving()

    @staticmethod
    def config_problems(*, mounts: dict[str, str | Mount]) -> list[str]:
        return problems_of(mounts)

    async def start(self) -> None:
        now = self.clock.wall().timestamp()
        for each in self.mounts.mounted:
            if not each.read_only:
                await each.do(each.storage.sweep, now)

    def draining(self) -> None:
        self.leaving.begin()
        self.leaving = Leaving()  # nothing is begun before the server has left, or goes on since the swap has failed

    async def stop(self) -> None:
        # What is still under way was asked by nobody who waits: another machine may never answer it.
        closing = asyncio.wrap_future(Threads(1, "files").submit(self.mounts.close))
        await asyncio.wait([closing], timeout=ENDING)

    def allowed(self, path: str, right: Right) -> Mounted:
        """The one place where it is decided whether a call may do what it asks: the mount, or PermissionError; what its
        caller was not granted is PermissionDenied. A grant speaks of names, so no link leads somebody who was granted a
        part of a mount."""
        grant = caller_grant(self)
        if grant is not None:
            grant.check(right, path)
        mount = self.mounts.find(path)
        if right == "write" and mount.read_only:
            raise PermissionError(errno.EROFS, f"the mount {mount.path!r} is read-only")
        return mount if grant is None or grant.allows(right, mount.path) else mount.without_links()

    def is_virtual(self, path: str, right: Right) -> bool:
        """Is there a folder at a normalised path, since mounts lie beneath it? Raises PermissionDenied for a caller who
        was granted nothing beneath it, and not `right` there: it would tell which mounts there are."""
        if not self.mounts.virtual(path):
            return False
        grant = caller_grant(self)
        if grant is not None and not any(below(each.scope, path) for each in grant.capabilities):
            grant.check(right, path)
        return True

    async def run(self, path: str, right: Right, work: Callable[[Mounted, str], T]) -> T:
        """Do `work(mount, path within it)` in a thread. Errors name the path as the caller knows it."""
        path = normalised(path)
        with named(path):
            mount = self.allowed(path, right)
            return await mount.do(work, mount, mount.inner(path))

    # -- looking ------------------------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        path = normalised(path)
        if path == "/" or self.is_virtual(path, "read"):
            return FileInfo(path, "directory")
        info = await self.run(path, "read", lambda mount, inner: mount.storage.stat(inner))
        info.path = path
        return info

    async def list(self, path: str) -> Entries:
        path = normalised(path)
        virtual = self.mounts.virtual(path)
        try:
            found = await self.run(path, "read", partial(listed, path))
        except FileNotFoundError:
            if not virtual:
                raise
            found = []
        entries = {each.path: each for each in found} | virtual
        return [entries[each] for each in sorted(entries)]

    async def read(self, path: str, offset: int = 0, length: int | None = None, version: str | None = None) -> Buffer:
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"read: got offset {offset} and length {length}, wanted none below 0")
        return await self.run(path, "read", lambda mount, inner: mount.storage.read(inner, offset, length, version))

    # -- changing -----------------------------------------------------------------------------------------------

    async def change(self, path: str, work: Callable[[Storage, str], None]) -> FileInfo:
        """Do `work(storage, path within it)` on a file; what there is then, for somebody who may write it."""
        path = normalised(path)
        if self.is_virtual(path, "write"):
            raise IsADirectoryError(errno.EISDIR, f"{path!r}: it is a folder, as there are mounts beneath it")

        def changed(mount: Mounted, inner: str) -> FileInfo:
            work(mount.storage, inner)
            return mount.storage.stat(inner)

        info = await self.run(path, "write", changed)
        info.path = path
        return info

    async def write(self, path: str, data: Buffer) -> FileInfo:
        return await self.change(path, lambda storage, inner: storage.write(inner, data.view))

    async def append(self, path: str, data: Buffer) -> FileInfo:
        return await self.change(path, lambda storage, inner: storage.append(inner, data.view))

    async def write_part(self, path: str, upload: str, offset: int, data: Buffer) -> None:
        name = checked_upload(upload)
        if offset < 0 or offset + len(data) > LARGEST_FILE:
            raise ValueError(
                f"write_part: got offset {offset} and {len(data)} bytes of data, wanted an offset from 0 on, and an "
                f"end of at most {LARGEST_FILE}"
            )
        await self.run(path, "write", lambda mount, inner: mount.storage.write_part(name, offset, data.view))

    async def commit(self, path: str, upload: str, size: int, create: bool = False) -> FileInfo:
        name = checked_upload(upload)
        return await self.change(path, lambda storage, inner: storage.commit(inner, name, size, create))

    async def discard(self, path: str, upload: str) -> None:
        name = checked_upload(upload)
        await self.run(path, "write", lambda mount, inner: mount.storage.discard(name))

    async def mkdir(self, path: str, parents: bool = False) -> None:
        if self.is_virtual(normalised(path), "write"):
            return
        await self.run(path, "write", lambda mount, inner: mount.storage.mkdir(inner, parents))

    async def remove(self, path: str, recursive: bool = False) -> bool:
        self.check_movable(normalised(path))
        try:
            await self.run(path, "write", lambda mount, inner: mount.storage.remove(inner, recursive))
        except FileNotFoundError:
            return False
        return True

    async def rename(self, source: str, target: str) -> None:
        source, target = normalised(source), normalised(target)
        for path in (source, target):
            self.check_movable(path)
        with named(target):
            there = self.allowed(target, "write")
        with named(source):
            here = self.allowed(source, "write")
        with named(source, target):
            if here.path != there.path:
                raise OSError(errno.EXDEV, "they are in two mounts: copy it there, then remove it here")
            await here.do(here.storage.rename, here.inner(source), here.inner(target))

    def check_movable(self, path: str) -> None:
        """Raises PermissionError for a folder that is there as long as the mounts beneath it are."""
        if self.is_virtual(path, "write"):
            raise PermissionError(errno.EBUSY, f"{path!r}: there are mounts beneath it")

    async def copy(self, source: str, target: str) -> FileInfo:
        info, upload = await self.stat(source), uuid4().hex
        if info.kind == "directory":
            raise IsADirectoryError(errno.EISDIR, f"{info.path!r}: it is a folder: copy what is in it")
        try:
            for offset in range(0, max(info.size, 1), COPIED):
                data = await self.run(source, "read", partial(copied, offset, info.version))
                await self.write_part(target, upload, offset, data)
            return await self.commit(target, upload, info.size)
        finally:
            await self.discard(target, upload)

    # -- waiting ------------------------------------------------------------------------------------------------

    async def watch(self, path: str, recursive: bool = False, interval: float = 1.0) -> AsyncIterator[Change]:
        if not interval >= SHORTEST_INTERVAL:
            raise ValueError(f"interval: got {interval}, wanted at least {SHORTEST_INTERVAL} seconds")
        path, leaving = normalised(path), self.leaving
        told = f"{path!r} is watched no more; watch it again, and look at what is there then"
        with leaving.ending("Files.watch", told):
            before = await leaving.unless_begun(self.seen(path, recursive), told)
            yield Change("watching", path)
            while True:
                await leaving.unless_begun(self.clock.sleep(interval), told)
                now = await leaving.unless_begun(self.seen(path, recursive), told)
                for each in sorted(before.keys() | now.keys()):
                    if before.get(each) != now.get(each):
                        yield change(each, before, now)
                before = now

    async def seen(self, path: str, recursive: bool) -> dict[str, FileInfo]:
        """What a watcher compares, by path. Folders are compared by what is in them, not by their own times. Links to
        folders are not followed: one that leads to where it lies would have no end."""
        try:
            info = await self.stat(path)
            found = await self.list(path) if info.kind == "directory" else [info]
        except (FileNotFoundError, NotADirectoryError):  # gone, or a file by now: the next look sees that
            return {}
        seen: dict[str, FileInfo] = {}
        for each in found:
            if each.kind == "directory":
                if recursive and not await self.is_link(each.path):
                    seen |= await self.seen(each.path, True)
                each = FileInfo(each.path, each.kind)
            seen[each.path] = each
        return seen

    async def is_link(self, path: str) -> bool:
        if self.mounts.virtual(path) or any(path == each.path for each in self.mounts.mounted):
            return False
        return await self.run(path, "read", lambda mount, inner: mount.storage.is_link(inner))

    async def lock(
        self, path: str, owner: str = "", shared: bool = False, wait: bool = True, lease: float | None = None
    ) -> AsyncIterator[FileLock]:
        path = normalised(path)
        with named(path):
            self.allowed(path, "read" if shared else "write")
        async with aclosing(
            self.locked.hold(path, owner, shared, wait, lease, self.leaving)
        ) as stream:  # freed at once, not some day
            async for held in stream:
                yield held

    async def renew(self, path: str, token: int) -> None:
        path = normalised(path)
        lock = self.locked.find(path, token)
        with named(path):
            self.allowed(path, "read" if lock is None or lock.shared else "write")  # as to take it
        self.locked.renew(path, token)

    async def locks(self, path: str = "/") -> Locks:
        path, grant = normalised(path), caller_grant(self)
        found = [lock for lock in self.locked.on(path) if below(lock.path, path)]
        return [lock for lock in found if grant is None or grant.allows("read", lock.path)]


def change(path: str, before: dict[str, FileInfo], now: dict[str, FileInfo]) -> Change:
    return Change("created" if path not in before else "removed" if path not in now else "changed", path)


def listed(path: str, mount: Mounted, inner: str) -> list[FileInfo]:
    """What is in a folder, but for what no caller could write the path of."""
    found = [*mount.storage.list(inner)]
    for each in found:
        each.path = joined(path, each.path.rpartition("/")[2])
    return [each for each in found if possible(each.path)]


def copied(offset: int, version: str | None, mount: Mounted, inner: str) -> Buffer:
    """One step of a copy, in ordinary memory: it is sent to nobody."""
    return mount.storage.read(inner, offset, COPIED, version, lambda size: Buffer(bytearray(size)))


def checked_upload(upload: str) -> str:
    if not UPLOAD.fullmatch(upload):
        raise ValueError(f"upload: got {upload[:60]!r}, wanted 32 hexadecimal digits, such as uuid4().hex")
    return upload


# Of the errors that libraries raise without a number.
NUMBERS: dict[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST, IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR, PermissionError: errno.EACCES, TimeoutError: errno.ETIMEDOUT,
    BlockingIOError: errno.EAGAIN,
}  # fmt: skip


@contextmanager
def named(path: str, target: str | None = None) -> Iterator[None]:
    """Errors of the system say which path is meant: as the caller wrote it, and not where that lies on this machine.
    They do not tell which of two it is, so they say both."""
    try:
        yield
    except OSError as error:
        kind = next((each for each in NUMBERS if isinstance(error, each)), OSError)
        number = error.errno or NUMBERS.get(kind, errno.EIO)
        said = str(error) if kind is OSError else ""  # else that may be no more than where it lies
        paths = repr(path) if target is None else f"{path!r} to {target!r}"
        raise kind(number, f"{paths}: {error.strerror or said or os.strerror(number)}") from None
