"""LocalFolder: a folder of this machine as a mount. Every path is resolved beneath it by the system itself."""

from __future__ import annotations

import copy
import errno
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from uuid import uuid4
from weakref import WeakValueDictionary

from ... import shared
from ...contract import Buffer
from .beneath import link_of, open_beneath
from .interface import FileInfo
from .storage import CHUNK, LARGEST_READ, Room

STAGING = ".mukernel"  # the folder in each mount where files lie that are not yet whole
PERMISSIONS = 0o777  # of a mode: what is not setuid, setgid or sticky
MOST_LINKS = 40  # on one way, as Linux has it
STALE = 86400.0  # seconds after which what lies there belongs to nobody

_appending: WeakValueDictionary[tuple[int, int], threading.Lock] = WeakValueDictionary()  # by device and inode
_finding = threading.Lock()


class LocalFolder:
    """`root`: an existing folder, which is held open: it may be renamed, or another mounted over it. Raises OSError."""

    def __init__(self, root: str) -> None:
        self.root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.links = True

    def without_links(self) -> LocalFolder:
        """The same folder, for somebody who may not go by symbolic links. It is closed with this one."""
        narrow = copy.copy(self)
        narrow.links = False
        return narrow

    def close(self) -> None:
        os.close(self.root)

    def sweep(self, now: float) -> None:
        """Remove uploads that were left behind. `now`: seconds since 1970."""
        with suppress(OSError), self.opened(STAGING, os.O_RDONLY | os.O_DIRECTORY) as staging:
            for name in os.listdir(staging):
                with suppress(OSError):
                    if os.stat(name, dir_fd=staging, follow_symlinks=False).st_mtime < now - STALE:
                        os.unlink(name, dir_fd=staging)

    # -- looking ------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> FileInfo:
        reserved(path)
        with self.opened(path, os.O_PATH) as found:
            return info_of(path, os.fstat(found))

    def list(self, path: str) -> Iterator[FileInfo]:
        reserved(path)
        with self.opened(path, os.O_RDONLY | os.O_DIRECTORY) as folder, os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        for name in sorted(names):
            if not path and name == STAGING:
                continue
            inner = f"{path}/{name}" if path else name
            try:
                yield self.stat(inner)
            except FileNotFoundError:
                if self.is_link(inner):
                    yield FileInfo(inner, "other")
            except OSError:  # a link that leads out: it can be seen and removed, not followed
                yield FileInfo(inner, "other")

    def read(self, path: str, offset: int, length: int | None, version: str | None, room: Room = shared.room) -> Buffer:
        reserved(path)
        with self.opened(path, os.O_RDONLY | os.O_NONBLOCK) as file:  # a pipe would wait for its writer
            info = info_of(path, os.fstat(file))
            if info.kind != "file":
                raise refused(info)
            if version is not None and version != info.version:
                raise OSError(errno.ESTALE, "it has been changed since it was looked at")
            if not info.size and is_made_when_read(file):
                raise OSError(errno.ENOTSUP, "the system tells no size of it, as in /proc: no such file is served")
            left = max(0, info.size - offset)
            wanted = left if length is None else min(length, left)
            if wanted > LARGEST_READ:
                raise OSError(errno.EFBIG, f"{wanted} bytes are too many for one read: {LARGEST_READ} at most")
            data, done = room(wanted), 0
            while done < wanted and (count := os.preadv(file, [data.view[done:]], offset + done)):
                done += count
        return data if done == wanted else Buffer(data.view[:done])  # it was cut short meanwhile

    # -- changing -----------------------------------------------------------------------------------------------

    def write(self, path: str, data: memoryview) -> None:
        upload = uuid4().hex
        try:
            self.write_part(upload, 0, data)
            self.put_in_place(path, upload)
        finally:
            self.discard(upload)

    def append(self, path: str, data: memoryview) -> None:
        reserved(path)
        with self.opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666) as file:
            info = info_of(path, os.fstat(file))
            if info.kind != "file":
                raise refused(info)
            without_privileges(file)
            with appending(file):
                append_all(file, data)
            os.fsync(file)

    def write_part(self, upload: str, offset: int, data: memoryview) -> None:
        try:
            os.mkdir(STAGING, 0o700, dir_fd=self.root)
        except FileExistsError:
            pass
        except OSError as error:
            why = f"{STAGING}, where files lie until they are whole, can't be made in the mount's own folder"
            raise OSError(error.errno, f"{why} ({error.strerror}): wanted one that the server may write") from None
        with self.opened(f"{STAGING}/{upload}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666) as file:
            done = 0
            while done < len(data):
                done += os.pwrite(file, data[done : done + CHUNK * 64], offset + done)

    def commit(self, path: str, upload: str, size: int, create: bool = False) -> None:
        """What is renamed is a second name of the upload, so this may be run again after a crash at any point."""
        if create:
            self.put_in_free_place(path, upload, size)
            return
        ready = f"{upload}.ready"
        with self.uploaded(upload, size), self.opened(STAGING, os.O_PATH | os.O_DIRECTORY) as staging:
            with suppress(FileNotFoundError):
                os.unlink(ready, dir_fd=staging)
            os.link(upload, ready, src_dir_fd=staging, dst_dir_fd=staging, follow_symlinks=False)
        try:
            self.put_in_place(path, ready)
        finally:
            self.discard(ready)  # it failed, or both were names of one file: then rename does nothing

    @contextmanager
    def uploaded(self, upload: str, size: int) -> Iterator[int]:
        """A descriptor of an upload of `size` bytes, to read. Raises OSError where it is not there, or not whole."""
        with ExitStack() as held:
            try:
                file = held.enter_context(self.opened(f"{STAGING}/{upload}", os.O_RDONLY | os.O_NOFOLLOW))
            except FileNotFoundError:
                told = f"the upload {upload} is not there (any more): begin it anew"
                raise FileNotFoundError(errno.ENOENT, told) from None
            if (found := os.fstat(file).st_size) != size:
                raise OSError(errno.EIO, f"the upload has {found} bytes, wanted {size}: begin it anew")
            yield file

    def discard(self, upload: str) -> None:
        with suppress(FileNotFoundError), self.opened(STAGING, os.O_PATH | os.O_DIRECTORY) as staging:
            os.unlink(upload, dir_fd=staging)

    def put_in_place(self, path: str, staged: str) -> None:
        with self.target(path) as (folder, name), self.opened(f"{STAGING}/{staged}", os.O_RDWR) as file:
            with suppress(FileNotFoundError):
                old = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(old.st_mode):
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
                if stat.S_ISREG(old.st_mode):
                    os.fchmod(file, old.st_mode & PERMISSIONS)
            os.fsync(file)
            with self.opened(STAGING, os.O_PATH | os.O_DIRECTORY) as staging:
                os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=folder)
            sync_folder(folder)

    def put_in_free_place(self, path: str, upload: str, size: int) -> None:
        """A second name of the upload: the system gives it only where there is none."""
        with self.uploaded(upload, size) as file, self.parent(path) as (folder, name):
            os.fsync(file)
            try:
                with self.opened(STAGING, os.O_PATH | os.O_DIRECTORY) as staging:
                    os.link(upload, name, src_dir_fd=staging, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not os.path.samestat(found, os.fstat(file)):  # else this was run before a crash
                    raise FileExistsError(errno.EEXIST, "there is a file of that name") from None
            sync_folder(folder)

    def mkdir(self, path: str, parents: bool) -> None:
        parts = path.split("/") if path else []
        for count in range(1 if parents else len(parts), len(parts) + 1):
            with suppress(FileExistsError), self.parent("/".join(parts[:count])) as (folder, name):
                os.mkdir(name, 0o777, dir_fd=folder)
        if self.stat(path).kind != "directory":
            raise FileExistsError(errno.EEXIST, "there is a file of that name")

    def remove(self, path: str, recursive: bool) -> None:
        with self.parent(path) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)  # of a link the link itself goes
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=folder)
            elif recursive:
                shutil.rmtree(name, dir_fd=folder)
            else:
                os.rmdir(name, dir_fd=folder)
            sync_folder(folder)

    def rename(self, source: str, target: str) -> None:
        with self.parent(source) as (old_folder, old), self.parent(target) as (new_folder, new):
            os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
            sync_folder(new_folder)

    # -- opening ------------------------------------------------------------------------------------------------

    @contextmanager
    def opened(self, path: str, flags: int, mode: int = 0) -> Iterator[int]:
        """A descriptor of what lies beneath the root. Raises OSError."""
        file = open_beneath(self.root, path, flags, mode, self.links)
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder that a path lies in, held open, and its name there: what is done to the two can't be led away."""
        reserved(path)
        folder, _, name = path.rpartition("/")
        if not name:
            raise PermissionError(errno.EPERM, "it is a mount itself: only what lies in it can be changed")
        with self.opened(folder, os.O_RDONLY | os.O_DIRECTORY) as found:
            yield found, name

    @contextmanager
    def target(self, path: str) -> Iterator[tuple[int, str]]:
        """As `parent`, of the file that a path leads to, there or not; for somebody whom no link may lead, of the path
        itself. Each step is resolved beneath the root by itself, and what is put in the place of the last one follows
        no link: one that is made or moved meanwhile leads nowhere else."""
        for _ in range(MOST_LINKS):
            with self.parent(path) as (folder, name):
                following = link_of(folder, name) if self.links else None
                if following is None:
                    yield folder, name
                    return
            with suppress(FileNotFoundError), self.opened(path, os.O_PATH) as found:  # PermissionError: it leads out
                if stat.S_ISDIR(os.fstat(found).st_mode):
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
            path = os.path.join(os.path.dirname(path), following)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def is_link(self, path: str) -> bool:
        with suppress(OSError), self.parent(path) as (folder, name):
            return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        return False


def reserved(path: str) -> None:
    if path.split("/", 1)[0] == STAGING:
        raise PermissionError(errno.EPERM, f"{STAGING} is where the server keeps files that are not yet whole")


def refused(info: FileInfo) -> OSError:
    if info.kind == "directory":
        return IsADirectoryError(errno.EISDIR, "it is a folder")
    return PermissionError(errno.EPERM, "it is no regular file")


def info_of(path: str, found: os.stat_result) -> FileInfo:
    if stat.S_ISDIR(found.st_mode):
        return FileInfo(path, "directory", 0, found.st_mtime)
    kind = "file" if stat.S_ISREG(found.st_mode) else "other"
    version = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return FileInfo(path, kind, found.st_size, found.st_mtime, version)  # type: ignore[arg-type]


def is_made_when_read(file: int) -> bool:
    """Is there something in it, though the system calls it empty?"""
    return bool(os.pread(file, 1, 0)) and not os.fstat(file).st_size


def without_privileges(file: int) -> None:
    """What is written must not run as the user or group that the file belongs to. Raises OSError."""
    mode = os.fstat(file).st_mode
    if stat.S_IMODE(mode) & ~PERMISSIONS:
        with suppress(PermissionError):  # it is somebody else's: then the system itself takes them away at a write
            os.fchmod(file, mode & PERMISSIONS)


def appending(file: int) -> threading.Lock:
    """What is held while something is appended to a file, so that nobody else of this process appends in between. A
    lock of the system's would keep the server waiting for whoever may read the file, and never lets it go."""
    found = os.fstat(file)
    with _finding:
        return _appending.setdefault((found.st_dev, found.st_ino), threading.Lock())


def append_all(file: int, data: memoryview) -> None:
    """All of `data`, or, where the disk is full, nothing of it: unless another program has appended to it meanwhile,
    of which nothing is to be lost. Raises OSError."""
    done, end = 0, None
    try:
        while done < len(data):
            done += os.write(file, data[done:])
            end = os.lseek(file, 0, os.SEEK_CUR)  # where the system has put it, since the file was opened to append
    except OSError:
        with suppress(OSError):
            if end == os.fstat(file).st_size:
                os.ftruncate(file, end - done)
        raise


def sync_folder(folder: int) -> None:
    """What was renamed stays renamed after a power cut, where the file system can promise that."""
    with suppress(OSError):
        os.fsync(folder)
