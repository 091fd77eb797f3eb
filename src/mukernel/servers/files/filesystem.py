"""MukernelFileSystem: `mukernel://` for fsspec, and so for pandas, pyarrow, DuckDB and whatever else knows fsspec.

fsspec finds it by an entry point; nothing needs to be registered. "mukernel:///data/prices.csv" is the path
"/data/prices.csv" of the Files server that `storage_options` name.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from ...contract import Buffer, Overloaded, PermissionDenied
from .connection import FilesOfApplication, connected_files
from .edited import EditedFile
from .interface import FileInfo
from .left_open import left_open

BLOCK = 4 << 20  # bytes that an open file reads and writes at a time
WHOLE = 64 << 20  # bytes that are read or written in one call
SMALLEST = 64 << 10  # bytes that are not divided any more where there is no room for them in shared memory


class MukernelFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """storage_options: `app`, the application's name; `state`, its state folder; `plugin`, which Files server of
    several. With none of them: the server that this process was told of by `connect_files`, or else that of the only
    application that runs. `auto_mkdir`: make the folder that a file is written to, as fsspec's own for local files."""

    protocol = "mukernel"
    root_marker = "/"
    async_impl = False

    def __init__(
        self, app: str | None = None, state: str | None = None, plugin: str | None = None, auto_mkdir: bool = False,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(app=app, state=state, plugin=plugin, **{**options, "use_listings_cache": False})
        self.app, self.state, self.plugin, self.auto_mkdir = app, state, plugin, auto_mkdir
        # Whether anybody serves is seen at the first call, whose connection is kept.
        self._of_application = FilesOfApplication(app, state, plugin)

    @property
    def files(self) -> Any:
        """The server, looked up anew, since `connect_files` may have been called meanwhile."""
        connected = connected_files(self.app) if self.state is None and self.plugin is None else None
        found = self._of_application if connected is None else connected
        left_open.settle(found)
        return found

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        bare = str(super()._strip_protocol(path)).strip("/")
        return f"/{bare}"

    def unstrip_protocol(self, name: str) -> str:
        return f"mukernel://{self._strip_protocol(name)}"

    # -- looking ------------------------------------------------------------------------------------------------

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return described(self.files.stat(self._strip_protocol(path)))

    def kind(self, path: str) -> str | None:
        """ "file", "directory" or "other"; None: there is nothing. Raises where that can't be known, for want of a
        right, or since the server does not answer: fsspec's own `exists`, `isfile` and `isdir` say no then."""
        try:
            found: str = self.info(path)["type"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found

    def exists(self, path: str, **options: Any) -> bool:
        return self.kind(path) is not None

    def isfile(self, path: str) -> bool:
        return self.kind(path) == "file"

    def isdir(self, path: str) -> bool:
        return self.kind(path) == "directory"

    def kind_if_told(self, path: str) -> str | None:
        """The same for who is about to write there, which somebody may who may not look: the server decides then."""
        with suppress(PermissionDenied):
            return self.kind(path)
        return None

    def refuse_folder(self, path: str) -> None:
        """Raises IsADirectoryError where a file is to be written."""
        if self.kind_if_told(path) == "directory":
            raise IsADirectoryError(errno.EISDIR, f"{path!r}: it is a folder")

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        path = self._strip_protocol(path)
        found = self.files.stat(path)
        entries = self.files.list(path) if found.kind == "directory" else [found]
        return [described(each) if detail else each.path for each in entries]

    def du(
        self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **options: Any
    ) -> Any:
        """By what the folders say, not by a look at each: a link that leads out of its mount can't be looked at, and
        counts 0."""
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True, **options)
        sizes = {name: each["size"] for name, each in found.items()}
        return sum(sizes.values()) if total else sizes

    def modified(self, path: str) -> datetime:
        changed = self.files.stat(self._strip_protocol(path)).modified
        if changed is None:
            raise NotImplementedError(f"{path!r}: its mount does not know when it was changed")
        return datetime.fromtimestamp(changed, UTC)

    created = modified  # no mount tells more

    def ukey(self, path: str) -> str:
        return repr(self.files.stat(self._strip_protocol(path)))

    checksum = ukey

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        path = self._strip_protocol(path)
        info = self.files.stat(path)
        first, last, _ = slice(start, end).indices(info.size)
        if info.kind != "directory" and last - first <= WHOLE:
            return self.part(path, first, last, info.version)
        parts = [self.part(path, at, min(at + WHOLE, last), info.version) for at in range(first, last, WHOLE)]
        return b"".join(parts) if parts else bytes(self.files.read(path))

    def part(self, path: str, start: int, end: int, version: str | None) -> bytes:
        """Bytes that there were when somebody looked, in two halves where the server's shared memory has no room for
        all at once. Raises OSError (ESTALE) where there are fewer by now."""
        try:
            data = bytes(self.files.read(path, start, max(0, end - start), version))
        except Overloaded:
            if end - start <= SMALLEST:
                raise
            half = (start + end) // 2
            return self.part(path, start, half, version) + self.part(path, half, end, version)
        if len(data) < end - start:
            raise OSError(errno.ESTALE, f"{path!r}: it has been cut since it was opened")
        return data

    # -- changing -----------------------------------------------------------------------------------------------

    def make_folder_of(self, path: str) -> None:
        if self.auto_mkdir:
            self.files.mkdir(self._parent(path), True)

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:
        path = self._strip_protocol(path)
        self.make_folder_of(path)
        # The end of a transaction decides whether readers ever see it.
        if mode == "create" or self._intrans or self.write_at_once(path, value) is None:
            with self.open(path, "xb" if mode == "create" else "wb") as file:
                file.write(value)

    def write_at_once(self, path: str, value: Any) -> FileInfo | None:
        """Write a whole file in one call. None: it is too large for that, or for the shared memory that is left."""
        if len(value) > WHOLE:
            return None
        try:
            written: FileInfo = self.files.write(path, Buffer(value))
        except Overloaded:
            if len(value) <= SMALLEST:
                raise
            return None
        return written

    def put_whole(self, path: str, value: bytes) -> str | None:
        """Put it in place of the file at once, whatever transaction there is. The file's version then."""
        if (written := self.write_at_once(path, value)) is not None:
            return written.version
        with MukernelFile(self, path, "wb", BLOCK) as file:
            file.write(value)
        return self.files.stat(path).version  # type: ignore[no-any-return]

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        path = self._strip_protocol(path)
        if self.kind_if_told(path) is not None:
            raise FileExistsError(path)
        self.files.mkdir(path, create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        path = self._strip_protocol(path)
        if not exist_ok and self.kind_if_told(path) is not None:
            raise FileExistsError(path)
        self.files.mkdir(path, True)

    def rmdir(self, path: str) -> None:
        self.files.list(self._strip_protocol(path))  # NotADirectoryError, FileNotFoundError
        self.files.remove(self._strip_protocol(path))

    def rm_file(self, path: str) -> None:
        path = self._strip_protocol(path)
        if self.files.stat(path).kind == "directory":  # asked first: a removal that is run again finds nothing
            raise IsADirectoryError(path)
        self.files.remove(path)

    _rm = rm_file

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for each in self.expand_path(path):
            self.files.stat(each)
            self.files.remove(each, recursive)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.isdir(source):
            self.files.mkdir(target, True)
        else:
            self.make_folder_of(target)
            self.files.copy(source, target)

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None, **options: Any) -> None:
        """Into a folder that is there, or which `path2` names by a slash at its end; else in its place."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == target:
            return
        if str(path2).endswith("/"):
            self.files.mkdir(target, True)
        if self.kind_if_told(target) == "directory":
            target = f"{target.rstrip('/')}/{source.rpartition('/')[2]}"
        try:
            self.make_folder_of(target)
            self.files.rename(source, target)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)) or error.errno != errno.EXDEV:
                raise
            super().mv(source, target, recursive=recursive, maxdepth=maxdepth)  # between mounts: copied, then removed

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        path = self._strip_protocol(path)
        self.make_folder_of(path)
        self.files.write(path, Buffer(b"")) if truncate else self.files.append(path, Buffer(b""))

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, autocommit: bool = True,
        cache_options: dict[str, Any] | None = None, **options: Any,
    ) -> MukernelFile | EditedFile:  # fmt: skip
        if mode[0] != "r":
            self.make_folder_of(path)
        if "+" in mode and mode[0] in "rw":
            edited = EditedFile(self, path, mode, autocommit)
            if not autocommit and mode[0] == "r":  # of these fsspec does not think
                self.transaction.files.append(edited)
            return edited
        create = mode == "xb"
        if create and self.kind_if_told(path) is not None:  # there is no need to write all of it to be told
            raise FileExistsError(errno.EEXIST, f"{path!r}: it is there already")
        return MukernelFile(
            self, path, "wb" if create else mode, block_size or BLOCK, autocommit, cache_options=cache_options,
            create=create, **options,
        )  # fmt: skip


class KeptBuffer(io.BytesIO):
    """Is not closed when it is collected: the file whose it is, and which was collected with it, writes it then."""

    def __del__(self) -> None:
        """Instead of io's own, which closes."""


class MukernelFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open file. What is written is seen by readers when it is closed, all at once; what is appended, block by
    block. Where writing fails it is closed, and nothing of what was written is kept on the other side. `create`: where
    there is a file by then, closing it raises FileExistsError."""

    buffer: io.BytesIO
    closed: bool
    opened = False  # one that can't be opened writes nothing when it is collected
    given_up = False
    failure: tuple[int, str] | None = None  # the number and the text of the OSError for which it was given up
    uploading = False  # has anything been sent that is not in place yet?
    uploaded = 0  # bytes

    def __init__(
        self, fs: MukernelFileSystem, path: str, mode: str, *args: Any, create: bool = False, **options: Any
    ) -> None:  # fmt: skip
        self.upload, self.create = uuid4().hex, create
        self.version: str | None = None
        if mode != "rb":
            left_open.begin()
            fs.refuse_folder(path)
        super().__init__(fs, path, mode, *args, **options)
        if mode == "rb":
            info = self.details
            if info["type"] == "directory":
                raise IsADirectoryError(path)
            self.version = info["version"]
            if not self.size:  # nothing will be read of it, unless the server knows that it is not empty
                fs.part(path, 0, 0, self.version)
        else:
            self.buffer = KeptBuffer()
        self.opened = True

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.part(self.path, start, min(end, self.size), self.version)  # type: ignore[no-any-return]

    def _initiate_upload(self) -> None:
        """Nothing is sent before the first block."""

    def _upload_chunk(self, final: bool = False) -> bool:
        with self.given_up_where_it_fails():
            self.send(final)
        return True

    def send(self, final: bool) -> None:
        data = Buffer(self.buffer.getbuffer())
        files = self.fs.files
        if self.mode == "ab":
            if len(data) or self.offset == 0:
                files.append(self.path, data)
            return
        at_once = final and not self.offset and self.autocommit and not self.create
        if at_once and self.fs.write_at_once(self.path, data.view) is not None:
            return
        for start in range(0, len(data), WHOLE):
            self.send_part(self.offset + start, Buffer(data.view[start : start + WHOLE]))
        self.uploaded = self.offset + len(data)
        if final and self.autocommit:
            self.commit()

    def send_part(self, offset: int, data: Buffer) -> None:
        self.uploading, half = True, len(data) // 2
        try:
            self.fs.files.write_part(self.path, self.upload, offset, data)
        except Overloaded:
            if len(data) <= SMALLEST:
                raise
            self.send_part(offset, Buffer(data.view[:half]))
            self.send_part(offset + half, Buffer(data.view[half:]))

    def commit(self) -> None:
        """Let readers see what was written; fsspec calls it at the end of a transaction, also of a file that was given
        up, whose writer has had the error."""
        if self.given_up:
            return
        with self.given_up_where_it_fails():
            if not self.uploading:  # an empty file of a transaction
                self.send_part(0, Buffer(b""))
            self.fs.files.commit(self.path, self.upload, self.uploaded, self.create)
        self.discard()

    def discard(self) -> None:
        """Forget what was written."""
        self.fs.files.discard(self.path, self.upload)
        self.uploading = False

    @contextmanager
    def given_up_where_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.give_up(error)
            raise

    def give_up(self, error: BaseException | None = None) -> None:
        """Half a file is none: the one that was there stays, and the room that the half takes is free again. `error`:
        why, where writing failed. A compressor or an archive that writes on meets it again, and hides it by no
        other."""
        if error is not None:
            number, text = getattr(error, "errno", None), getattr(error, "strerror", None)
            self.failure = number or errno.EIO, text or f"{self.path!r}: {type(error).__name__}: {error}"
        self.buffer = io.BytesIO()
        self.closed = self.given_up = True
        if self.uploading:
            with suppress(Exception):  # what has failed before is what its writer is to know
                self.discard()

    def write(self, data: Any) -> int:
        self.refuse_given_up()
        written: int = super().write(data)
        return written

    def flush(self, force: bool = False) -> None:
        self.refuse_given_up()
        super().flush(force)
        if self.mode != "rb" and not isinstance(self.buffer, KeptBuffer):
            self.buffer = KeptBuffer()

    def refuse_given_up(self) -> None:
        if self.failure is not None:
            raise OSError(*self.failure)

    def close(self) -> None:
        if not self.opened:
            self.closed = True
        super().close()

    def __del__(self) -> None:
        """Of one that nobody closed, in whatever thread that is found out."""
        if self.opened and not self.closed and self.mode != "rb":
            left_open.close(self)

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None and self.mode == "wb" and not self.closed:
            self.give_up()
            return
        super().__exit__(*raised)


def described(info: FileInfo) -> dict[str, Any]:
    """FileInfo in fsspec's words."""
    return {
        "name": info.path, "size": info.size, "type": info.kind, "mtime": info.modified, "version": info.version,
    }  # fmt: skip
