"""Names behind fsspec: a path of ours is written there so that each part of it is read as a name, and as nothing else.

Else it could lead out of its mount, and out of what its caller was granted: "%2e%2e" is ".." to many a web server.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

WEB = ("http", "https", "sync-http", "sync-https")  # names are sent as parts of a URL
# What no name may have in it, for those file systems of which it is known how they read names.
READ_OTHERWISE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("memory", "zip", "tar", "libarchive", "reference"), ()),
    **dict.fromkeys(("dir", "blockcache", "cached", "filecache", "simplecache", "asyncwrapper", "async_wrapper"), ()),
    **dict.fromkeys(("gs", "gcs", "abfs", "abfss", "az", "hdfs", "webhdfs", "webHDFS"), ()),
    **dict.fromkeys(("s3", "s3a"), ("?versionId=",)),
    **dict.fromkeys(("ftp", "sftp", "ssh", "smb"), ("\\",)),  # a slash to what runs on Windows
    **dict.fromkeys(WEB, ("\\", ";")),  # what follows a semicolon is no part of the name to some servers: "..;" is ".."
    "git": (":", "@"),
}
ELSEWHERE = ("%", "?", "#", "\\")  # for all others: they may put names into URLs as they are


class Names:
    """How `system`, a file system of fsspec's, writes paths."""

    def __init__(self, system: Any) -> None:
        below = set[str]()
        for each in layers(system):
            below.update(protocols(each))
            if "reference" in protocols(each):  # which looks names up, and hands on what it finds
                break
        self.web = not below.isdisjoint(WEB)
        unknown = () if below <= READ_OTHERWISE.keys() else ELSEWHERE
        self.refused = ("::", "://", *unknown, *(mark for each in below for mark in READ_OTHERWISE.get(each, ())))

    def written(self, path: str) -> str:
        """Raises OSError for a path that would be read otherwise."""
        for mark in self.refused:
            if mark in path:
                raise OSError(errno.EINVAL, f"wanted a path without {mark!r} on this mount, which reads that otherwise")
        return quote(path) if self.web else path

    def read(self, name: str) -> str | None:
        """The name of ours that a listing means; None: it means none, such as a link of a web page to elsewhere."""
        if not self.web:
            return name
        try:
            known = unquote(name, errors="strict")
        except UnicodeDecodeError:
            return None
        return None if any(mark in name for mark in "?#") or "/" in known else known


def protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def layers(system: Any) -> Iterator[Any]:
    """A file system of fsspec's and those that it hands its paths on to (`dir`, caches, `reference`, an adapter for
    asyncio), theirs too. What an archive lies in is none of them: it serves its content and nothing else of that."""
    from fsspec.spec import AbstractFileSystem

    yield system
    several = getattr(system, "fss", None) or {}
    for each in (getattr(system, "fs", None), getattr(system, "sync_fs", None), *several.values()):
        if isinstance(each, AbstractFileSystem) and each is not system:
            yield from layers(each)
