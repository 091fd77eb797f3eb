"""Mounts: which storage serves which path."""

from __future__ import annotations

import asyncio
import copy
import errno
import os
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ...contract import ContractError
from .interface import FileInfo
from .local import LocalFolder
from .paths import below, joined, normalised
from .remote import RemoteFolder, missing_for
from .storage import Storage
from .threads import Threads

T = TypeVar("T")
THREADS = 8  # that work on one mount at a time, at most


class Mount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies at one path. `url`: a folder of this machine, or a URL that fsspec knows; `options`: of its file
    system; `read_only`: nothing in it can be changed through the server."""

    url: str
    options: dict[str, Any] = {}
    read_only: bool = False


class Mounted:
    """One mount that is there. `threads`: those that work on it, and on no other; each is begun when it is needed."""

    def __init__(self, path: str, declared: Mount) -> None:
        self.path, self.read_only = path, declared.read_only
        self.storage = storage_of(f"mounts.{path!r}", declared)
        several = not isinstance(self.storage, RemoteFolder) or self.storage.for_many
        self.threads = Threads(THREADS if several else 1, f"files {path}")

    def without_links(self) -> Mounted:
        """This mount for a caller who was granted a part of it: a link could lead to another part."""
        narrow = copy.copy(self)
        narrow.storage = self.storage.without_links()
        return narrow

    async def do(self, work: Callable[..., T], *given: Any) -> T:
        """Do `work(*given)`, which blocks, in one of its threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *given)

    def close(self) -> None:
        """Let go of it when nobody works on it any more: waits for that."""
        self.threads.close()
        self.storage.close()

    def inner(self, path: str) -> str:
        """A normalised path relative to the mount; "" is the mount itself."""
        return path[len(self.path) :].lstrip("/")


def folder_of(url: str) -> str | None:
    """The folder of this machine that is meant; None: it is for fsspec."""
    scheme, colon, rest = url.partition("://")
    if "::" in url or (colon and scheme not in ("file", "local")):
        return None
    return rest if colon else url


def problems_of(mounts: dict[str, str | Mount]) -> list[str]:
    """Which libraries are missing, without anything being opened."""
    urls = {path: each if isinstance(each, str) else each.url for path, each in mounts.items()}
    found = {path: missing_for(url) for path, url in urls.items() if folder_of(url) is None}
    return [f"mounts.{path!r}: {problem}" for path, problem in found.items() if problem]


def storage_of(where: str, declared: Mount) -> Storage:
    """Raises ContractError, which begins with `where`."""
    rest = folder_of(declared.url)
    if rest is None:
        return RemoteFolder(where, declared.url, declared.options)
    if declared.options:
        raise ContractError(f"{where}.options: got {declared.options!r}; a folder of this machine takes none")
    if not rest:
        raise ContractError(f"{where}: got {declared.url!r}, wanted a folder or a URL such as 's3://bucket/folder'")
    try:
        return LocalFolder(rest)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ContractError(
            f"{where}: got {declared.url!r}, which is {os.path.abspath(rest)!r}: {why}; "
            "wanted a folder that is there, or a URL such as 's3://bucket/folder'"
        ) from None


class MountTable:
    """Every mount of a server, the longest path first. Raises ContractError."""

    def __init__(self, declared: dict[str, str | Mount]) -> None:
        if not declared:
            raise ContractError('mounts: got none, wanted at least one, such as "/data" = "data"')
        self.mounted: list[Mounted] = []
        for given, mount in declared.items():
            try:
                path = normalised(given)
            except (ValueError, OSError) as error:
                raise ContractError(f"mounts: {error}") from None
            if path != given:
                raise ContractError(f"mounts: got {given!r}, wanted it written as {path!r}")
            self.mounted.append(Mounted(path, Mount(mount) if isinstance(mount, str) else mount))
        self.mounted.sort(key=lambda each: -len(each.path))

    def find(self, path: str) -> Mounted:
        """The mount that a normalised path lies in. Raises FileNotFoundError with the mounts that there are."""
        for each in self.mounted:
            if below(path, each.path):
                return each
        raise FileNotFoundError(errno.ENOENT, f"no mount has it; there are: {', '.join(self.names())}")

    def names(self) -> list[str]:
        return sorted(each.path for each in self.mounted)

    def virtual(self, folder: str) -> dict[str, FileInfo]:
        """What is in a folder since mounts lie beneath it, by path."""
        found = {}
        for path in self.names():
            if path != folder and below(path, folder):
                inner = joined(folder, path[len(folder.rstrip("/")) + 1 :].partition("/")[0])
                found[inner] = FileInfo(inner, "directory")
        return found

    def close(self) -> None:
        """Waits until nobody works on any of them."""
        for each in self.mounted:
            each.close()
