"""EditedFile: a file of `mukernel://` that is open for reading and writing at once, as a copy in memory."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable
from typing import Any

LARGEST = 256 << 20  # bytes of a file that is edited


class EditedFile(io.BytesIO):
    """Modes "r+b" and "w+b". `flush` and `close` put all of it in the place of the file at once, if it was changed; a
    `with` that ends in an exception does not. Raises OSError (ESTALE) where somebody else has changed the file since,
    and (EFBIG) where it is too large. `fs`: a MukernelFileSystem. `autocommit`: False in a transaction of fsspec's,
    whose end decides."""

    def __init__(self, fs: Any, path: str, mode: str, autocommit: bool) -> None:
        self.fs, self.path, self.autocommit = fs, path, autocommit
        self.mode = mode  # type: ignore[misc]
        self.version: str | None = None
        self.changed = False  # nor is one that can't be made: it is closed when it is collected
        self.content: bytes | None = None  # of a closed one that a transaction is to decide upon
        if "w" in mode:
            fs.refuse_folder(path)
            super().__init__()
            self.changed = True
            return
        info = fs.files.stat(path)
        self.checked(info.size)
        self.version = info.version
        super().__init__(fs.cat_file(path))

    def checked(self, size: int) -> None:
        if size > LARGEST:
            wanted = f"wanted at most {LARGEST:,} of a file that is read and written at once"
            raise OSError(errno.EFBIG, f"{self.path!r}: {size:,} bytes, {wanted}")

    def write(self, data: Any) -> int:
        self.checked(self.tell() + memoryview(data).nbytes)
        self.changed = True
        return super().write(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        for each in lines:  # io's own goes by no method of ours
            self.write(each)

    def getbuffer(self) -> memoryview:
        self.changed = True  # for all that is known
        return super().getbuffer()

    def truncate(self, size: int | None = None) -> int:
        self.changed = True
        return super().truncate(size)

    def flush(self) -> None:
        super().flush()
        if self.changed and self.autocommit:
            self.put(self.getvalue())

    def put(self, content: bytes) -> None:
        if self.version is not None and self.fs.files.stat(self.path).version != self.version:
            raise OSError(errno.ESTALE, f"{self.path!r}: it has been changed since it was opened")
        self.version = self.fs.put_whole(self.path, content)
        self.changed = False

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self.autocommit:
                self.flush()
            else:
                self.content = self.getvalue()
        finally:
            self.changed = self.changed and not self.autocommit
            super().close()

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self.changed = False  # half a change is none
        self.close()

    def commit(self) -> None:
        """fsspec calls it at the end of a transaction."""
        content = self.getvalue() if self.content is None else self.content
        if self.changed:
            self.put(content)
        self.content = None

    def discard(self) -> None:
        """fsspec calls it where a transaction has failed."""
        self.changed, self.content = False, None
