"""RemoteFolder: whatever fsspec knows as a mount: memory, archives, S3, HTTP and the rest."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from threading import Lock
from typing import Any

from ... import shared
from ...contract import Buffer, ContractError
from .folders import MARKER, make_folder, remove_folder, rename_file, rename_folder
from .interface import FileInfo
from .local import LocalFolder
from .names import Names, layers, protocols
from .storage import CHUNK, LARGEST_READ, Room

PROTOCOL = re.compile("[a-z]+")  # of what stands in a chain without "://", as fsspec tells it from a path
MISSING = (404, 410)  # what a web server answers where there is no such file
LOCKS = 64  # for the paths of one mount: those that fall to the same one are changed one after another


class RemoteFolder:
    """`url`: as fsspec takes it, chained ones too ("zip://::/path/a.zip"); `options`: of its file system.

    What is uploaded in parts lies on this machine until it is committed, so that a restart loses none of it.
    Raises ContractError for a URL that can't be served, and for a library that is missing.
    """

    def __init__(self, where: str, url: str, options: dict[str, Any]) -> None:
        if problem := missing_for(url):
            raise ContractError(f"{where}: {problem}")
        from fsspec.archive import AbstractArchiveFileSystem
        from fsspec.core import url_to_fs

        try:
            self.system, root = url_to_fs(url, **own_options(url, options))
        except ImportError as error:
            raise ContractError(f"{where}: {url!r} needs a library that is not installed: {error}") from None
        except Exception as error:
            raise ContractError(f"{where}: {url!r} can't be opened: {type(error).__name__}: {error}") from None
        refuse_local(where, url, self.system)
        self.archive = any(isinstance(each, AbstractArchiveFileSystem) for each in layers(self.system))
        # Others have one place in a file, or one connection, for all who use them: two at once read each other's bytes.
        self.for_many = all(type(each).async_impl for each in layers(self.system))
        self.names = Names(self.system)
        self.root = root.rstrip("/")
        try:
            if self.archive and not self.root and [*self.listed("")] == ["."]:
                self.root = "."  # as `tar -C folder .` has it: every name in it begins so
        except Exception as error:
            raise ContractError(f"{where}: {url!r} can't be read: {type(error).__name__}: {error}") from None
        self.spool: LocalFolder | None = None
        self.reading: tuple[str, Any] | None = None
        self.changing = [Lock() for _ in range(LOCKS)]

    def without_links(self) -> RemoteFolder:
        """Whether there are links is known to the other side alone, and so is where they lead."""
        return self

    def close(self) -> None:
        self.end_reading()
        if self.spool is not None:
            self.spool.close()

    def at(self, path: str) -> str:
        """The path as the file system writes it. Names that it reads otherwise are refused, and that of markers."""
        if MARKER in path.split("/"):
            raise PermissionError(errno.EPERM, f"{MARKER} is what the server keeps for folders that have no file")
        written = self.names.written(path)
        return f"{self.root}/{written}" if path and self.root else written or self.root

    @contextmanager
    def asked(self) -> Iterator[None]:
        """What libraries raise, as the OSError that callers know."""
        try:
            yield
        except Exception as error:
            raise self.known(error) from None

    def known(self, error: Exception) -> OSError:
        if self.names.web:
            if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
                error = error.__cause__  # fsspec takes whatever fails over HTTP for a file that is not there
            if getattr(error, "status", None) in MISSING:
                return FileNotFoundError(errno.ENOENT, "the web server has no such file")
        if isinstance(error, OSError):
            return error
        if isinstance(error, NotImplementedError):
            return OSError(errno.ENOTSUP, f"{type(self.system).__name__} can't do this")
        if isinstance(error, KeyError):
            return FileNotFoundError(errno.ENOENT, f"there is no {error}")
        return OSError(errno.EINVAL if isinstance(error, ValueError) else errno.EIO, f"{type(error).__name__}: {error}")

    # -- looking ------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> FileInfo:
        if not path:
            return FileInfo("", "directory")
        with self.asked():
            self.system.invalidate_cache()
            found = self.info(path)
            info = info_of(path, found)
            if info.kind == "file" and (found.get("size") is None or (self.archive and not info.size)):
                info.size = self.counted(path)
            return info

    def info(self, path: str) -> dict[str, Any]:
        """As fsspec tells it, which calls all of the web files: where the server leads from a name to that with a slash
        behind it, it is a folder."""
        found: dict[str, Any] = self.system.info(self.at(path))
        if self.names.web and str(found.get("url", "")).endswith("/"):
            return {"name": found["name"], "type": "directory"}
        return found

    def kind(self, path: str) -> str | None:
        """As fsspec calls it; None: there is nothing. Raises OSError where that can't be known: fsspec's own `isfile`
        and `exists` say no then."""
        try:
            with self.asked():
                return str(self.info(path)["type"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def counted(self, path: str) -> int:
        """Bytes of a file of which the other side tells no size, as web servers may, or an archive of a link: it is
        read for that."""
        size = 0
        with self.opened(path) as file:
            while some := file.read(CHUNK):
                size += len(some)
                if size > LARGEST_READ:
                    raise OSError(errno.EFBIG, f"no size is told of it, and it has more than {LARGEST_READ} bytes")
        return size

    def opened(self, path: str) -> Any:
        """To be read. fsspec calls links, pipes and devices of an archive files, and gets nothing to read of them."""
        try:
            file = self.system.open(self.at(path), "rb")
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "it is a link to what the archive has not") from None
        except AttributeError:  # of that nothing
            if not self.archive:
                raise
            file = None
        if file is None:
            raise PermissionError(errno.EPERM, "it is no regular file")
        return file

    def list(self, path: str) -> Iterator[FileInfo]:
        with self.asked():
            self.system.invalidate_cache()
            if path and self.kind(path) == "file":
                raise NotADirectoryError(errno.ENOTDIR, "it is a file")
            found = self.listed(path)
        for name in sorted(found):
            inner = f"{path}/{name}" if path else name
            try:
                there = self.at(inner)
            except OSError:  # a marker, or what would be read otherwise
                continue
            if not self.archive or str(found[name]["name"]).rstrip("/") == there:  # "/x" of an archive is under no path
                yield info_of(inner, found[name])

    def listed(self, path: str) -> dict[str, dict[str, Any]]:
        """What fsspec tells of what lies in a folder, markers too, by name. A mount without anything is empty, as
        `stat` says of it, also where the other side would say that there is no such folder."""
        folder = self.at(path)
        try:
            found = self.system.ls(folder, detail=True)
        except FileNotFoundError:
            if path:
                raise
            return {}
        names = {str(each["name"]).rstrip("/"): each for each in found}
        names.pop(folder.rstrip("/"), None)  # S3 has it among its own content where another program has marked it
        return {known: each for name, each in names.items() if (known := self.names.read(name.rpartition("/")[2]))}

    def is_link(self, path: str) -> bool:
        return False

    def read(self, path: str, offset: int, length: int | None, version: str | None, room: Room = shared.room) -> Buffer:
        """In memory that the library has made."""
        with self.asked():
            info = self.stat(path)
            if info.kind != "file":
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            if version is not None and version != info.version:
                raise OSError(errno.ESTALE, "it has been changed since it was looked at")
            end = info.size if length is None else min(info.size, offset + length)
            if end - offset > LARGEST_READ:
                raise OSError(errno.EFBIG, f"{end - offset} bytes are too many for one read: {LARGEST_READ} at most")
            if end <= offset:
                return Buffer(b"")
            data = self.content(self.at(path), offset, end)
        if len(data) == info.size:  # also of a web server that knows no ranges
            return Buffer(memoryview(data)[offset:end])
        if len(data) != end - offset:
            asked = f"asked for {end - offset} bytes from {offset} on of {info.size}"
            raise OSError(
                errno.EIO, f"{asked}, got {len(data)}: it was changed meanwhile, or what serves it is at fault"
            )
        return Buffer(data)

    def content(self, where: str, start: int, end: int) -> bytes:
        """A part of a file, `where` as the file system writes it. Of an archive it stays open until another is read:
        the next part mostly begins where this one ends, and to come there what is compressed is read from its
        beginning."""
        if not self.archive:
            found: bytes = self.system.cat_file(where, start=start, end=end)
            return found
        if self.reading is None or self.reading[0] != where:
            self.end_reading()
            self.reading = where, self.system.open(where, "rb")
        try:
            self.reading[1].seek(start)
            found = self.reading[1].read(end - start)
        except BaseException:
            self.end_reading()
            raise
        return found

    def end_reading(self) -> None:
        if self.reading is not None:
            _, file = self.reading
            self.reading = None
            file.close()

    # -- changing -----------------------------------------------------------------------------------------------

    @contextmanager
    def alone(self, *paths: str) -> Iterator[None]:
        """Nobody else changes these files by this mount meanwhile. An append may be a file that is read and replaced,
        as object stores have it: what was written in between would be lost."""
        with ExitStack() as held:
            for number in sorted(
                {hash(path) % LOCKS for path in paths}
            ):  # in one order, so that no two wait for each other
                held.enter_context(self.changing[number])
            yield

    @contextmanager
    def placing(self, path: str, create: bool = False) -> Iterator[None]:
        """To put a file there, in the place of one that is there already, unless it is to be `create`d."""
        with self.asked(), self.alone(path):
            self.no_folder(path)
            if create and self.kind(path) is not None:
                raise FileExistsError(errno.EEXIST, "there is a file of that name")
            with no_file_on_the_way():
                yield

    def write(self, path: str, data: memoryview) -> None:
        with self.placing(path):
            self.system.pipe_file(self.at(path), bytes(data))

    def append(self, path: str, data: memoryview) -> None:
        with self.placing(path):
            mode = "ab" if self.kind(path) is not None else "wb"
            with self.system.open(self.at(path), mode) as file:
                file.write(bytes(data))

    def write_part(self, upload: str, offset: int, data: memoryview) -> None:
        self.spooled().write_part(upload, offset, data)

    def commit(self, path: str, upload: str, size: int, create: bool = False) -> None:
        with self.spooled().uploaded(upload, size) as staged, self.placing(path, create):
            self.system.put_file(f"/proc/self/fd/{staged}", self.at(path))

    def discard(self, upload: str) -> None:
        self.spooled().discard(upload)

    def sweep(self, now: float) -> None:
        """Remove uploads that were left behind. `now`: seconds since 1970."""
        if os.path.isdir(spool_folder()):
            self.spooled().sweep(now)

    def mkdir(self, path: str, parents: bool) -> None:
        with self.asked():
            if self.kind(path) == "file":
                raise FileExistsError(errno.EEXIST, "there is a file of that name")
            parent = path.rpartition("/")[0]
            if parent and not parents and not self.system.isdir(self.at(parent)):
                raise FileNotFoundError(errno.ENOENT, "the folder that it is to lie in is missing")
            if not path:
                self.system.makedirs(self.root, exist_ok=True)
            parts = path.split("/") if path else []
            with no_file_on_the_way():
                for count in range(1, len(parts) + 1):
                    make_folder(self.system, self.at("/".join(parts[:count])))

    def remove(self, path: str, recursive: bool) -> None:
        if not path:
            raise PermissionError(errno.EPERM, "it is a mount itself: only what lies in it can be changed")
        with self.asked(), self.alone(path):
            if self.kind(path) == "file":
                self.system.rm_file(self.at(path))
            elif recursive:
                remove_folder(self.system, self.at(path))
            elif (found := self.listed(path)).keys() - {MARKER}:
                raise OSError(errno.ENOTEMPTY, "the folder is not empty")
            elif found:
                self.system.rm_file(f"{self.at(path)}/{MARKER}")
            else:
                self.system.rmdir(self.at(path))

    def rename(self, source: str, target: str) -> None:
        if not source or not target:
            raise PermissionError(errno.EPERM, "it is a mount itself: only what lies in it can be changed")
        with self.asked(), self.alone(source, target):
            old, new = self.at(source), self.at(target)
            if source == target:
                self.system.info(old)  # as everywhere: nothing to do, if it is there
            elif self.system.isdir(old):
                rename_folder(self.system, old, new)
            else:
                self.no_folder(target)
                rename_file(self.system, old, new)

    def no_folder(self, path: str) -> None:
        if not path or self.system.isdir(self.at(path)):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")

    def spooled(self) -> LocalFolder:
        """Where uploads lie until they are committed: a folder of this user alone."""
        if self.spool is None:
            folder = spool_folder()
            os.makedirs(folder, mode=0o700, exist_ok=True)
            check_private(folder)
            self.spool = LocalFolder(folder)
        return self.spool


@contextmanager
def no_file_on_the_way() -> Iterator[None]:
    """Where what exists is no obstacle by itself, by FileExistsError a library means a file that should be a folder."""
    try:
        yield
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "a part of its path is a file") from None


def spool_folder() -> str:
    return os.path.join(tempfile.gettempdir(), f"mukernel-uploads-{os.getuid()}")


def check_private(folder: str) -> None:
    """Raises PermissionError for a folder that others may enter, or have put there."""
    found = os.lstat(folder)
    if not os.path.isdir(folder) or os.path.islink(folder) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, f"{folder} is not a folder that only this user may enter: remove it")


def missing_for(url: str) -> str:
    """Which library a URL needs that is not here; "" where all are."""
    try:
        from fsspec import get_filesystem_class
    except ImportError:
        return f"{url!r} needs fsspec: pip install 'mukernel[files]'"
    for bit in url.split("::"):
        protocol, is_url, _ = bit.partition("://")
        if not is_url and not PROTOCOL.fullmatch(bit):  # a path
            continue
        try:
            get_filesystem_class(protocol)
        except ImportError as error:
            return f"{url!r} needs a library that is not installed: {error}"
        except ValueError as error:
            return f"{url!r} can't be opened: {error}"
    return ""


def own_options(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """What fsspec is given so that each file system of a chain is this mount's alone, and no cache of names is kept."""
    own: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True, **options}
    inner = [bit.partition("://")[0] for bit in url.split("::")[1:] if "://" in bit]
    for each in [*inner, "target_options"] if "target_protocol" in options else inner:
        own[each] = {"skip_instance_cache": True, **own.get(each, {})}
    return own


def refuse_local(where: str, url: str, system: Any) -> None:
    """A folder of this machine has a mount of its own, which no link leads out of; fsspec's would follow any, at
    whatever depth of a chain it lies. Raises ContractError."""
    from fsspec.implementations.local import LocalFileSystem

    for each in layers(system):
        protocol = protocols(each)
        if "mukernel" in protocol:
            raise ContractError(f"{where}: got {url!r}, which leads back here: wanted where the files are")
        if "generic" in protocol:
            raise ContractError(f"{where}: got {url!r}, which leads wherever a path says: wanted where the files are")
        if isinstance(each, LocalFileSystem) or "asynclocal" in protocol:
            raise ContractError(f"{where}: got {url!r}, wanted the folder's plain path: that is served without fsspec")


def info_of(path: str, found: dict[str, Any]) -> FileInfo:
    """What fsspec tells of a file, in our words."""
    modified = found.get("mtime") or found.get("LastModified") or found.get("modified") or found.get("created")
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    kind = found.get("type")
    version = found.get("ETag") or found.get("etag")
    if version is None and isinstance(modified, (int, float)):
        version = f"{modified!r}-{found.get('size')}"
    return FileInfo(
        path,
        "directory" if kind == "directory" else "file" if kind == "file" else "other",
        int(found.get("size") or 0),
        float(modified) if isinstance(modified, (int, float)) else None,
        str(version) if kind == "file" and version is not None else None,
    )
