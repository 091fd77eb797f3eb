"""Connection: how code that only knows `mukernel://` finds a Files server."""

from __future__ import annotations

import errno
from typing import Any

import msgspec

from ...contract import Buffer, RemoteError
from ...core.control_connection import ControlConnection
from .interface import FileInfo, Files

# By the name that stands for them in storage_options={"app": …}; None: where no name is given.
_connected: dict[str | None, Files] = {}


def connect_files(files: Files, app: str | None = None) -> None:
    """Let `mukernel://` in this process go to `files`, a blocking proxy: `kernel.get(Files, blocking=True)`,
    `KernelThread.get(Files)`, or what a plug-in's constructor was given for `Blocking[Files]`. `app`: only where
    storage_options={"app": …} says so. Another call with the same name replaces it. Threads of a library
    reach it while a method, or a program, that waits for them holds up the event loop, unless the file server is inline
    in this process."""
    _connected[app] = files


def disconnect_files(app: str | None = None) -> None:
    """Forget what `connect_files` was told; a name that it was not told is none to forget."""
    _connected.pop(app, None)


def connected_files(app: str | None) -> Files | None:
    """What `connect_files` was told of; its methods block."""
    return _connected.get(app)


class FilesOfApplication:
    """The Files of an application in another process. Has the methods of Files that have one reply; they block."""

    def __init__(self, app: str | None, state: str | None, plugin: str | None) -> None:
        self.connection, self.plugin = ControlConnection(app, state), plugin

    def call(self, method: str, **arguments: Any) -> Any:
        try:
            return self.connection.call("Files", method, arguments, self.plugin)
        except RemoteError as error:
            raise declared(error) from None

    def stat(self, path: str) -> FileInfo:
        return msgspec.convert(self.call("stat", path=path), FileInfo)

    def list(self, path: str) -> Any:
        return msgspec.convert(self.call("list", path=path), list[FileInfo])

    def read(self, path: str, offset: int = 0, length: int | None = None, version: str | None = None) -> Buffer:
        data: Buffer = self.call("read", path=path, offset=offset, length=length, version=version)
        return data

    def write(self, path: str, data: Buffer) -> FileInfo:
        return msgspec.convert(self.call("write", path=path, data=data), FileInfo)

    def append(self, path: str, data: Buffer) -> FileInfo:
        return msgspec.convert(self.call("append", path=path, data=data), FileInfo)

    def write_part(self, path: str, upload: str, offset: int, data: Buffer) -> None:
        self.call("write_part", path=path, upload=upload, offset=offset, data=data)

    def commit(self, path: str, upload: str, size: int, create: bool = False) -> FileInfo:
        return msgspec.convert(self.call("commit", path=path, upload=upload, size=size, create=create), FileInfo)

    def discard(self, path: str, upload: str) -> None:
        self.call("discard", path=path, upload=upload)

    def mkdir(self, path: str, parents: bool = False) -> None:
        self.call("mkdir", path=path, parents=parents)

    def remove(self, path: str, recursive: bool = False) -> bool:
        return bool(self.call("remove", path=path, recursive=recursive))

    def rename(self, source: str, target: str) -> None:
        self.call("rename", source=source, target=target)

    def copy(self, source: str, target: str) -> FileInfo:
        return msgspec.convert(self.call("copy", source=source, target=target), FileInfo)


def declared(error: RemoteError) -> Exception:
    """An exception that Files declares, as itself: it came through the control interface, which declares none."""
    for kind in Files.__interface_raises__:
        if kind.__name__ == error.type_name:
            number, text = numbered(error.message)
            return kind(number, text) if issubclass(kind, OSError) else kind(error.message)
    return error


def numbered(message: str) -> tuple[int, str]:
    """ "[Errno 2] '/x': no such file" → (2, "'/x': no such file")."""
    number, mark, text = message.removeprefix("[Errno ").partition("] ")
    if mark and number.isdecimal() and message.startswith("[Errno "):
        return int(number), text
    return errno.EIO, message
