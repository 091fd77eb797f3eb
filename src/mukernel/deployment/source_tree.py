"""Source tree: what a wheel of a directory is made of; to copy it, and to tell whether it has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from ..contract import ContractError

LEFT_OUT = ("__pycache__", "*.py[cod]", "*.egg-info", ".venv", ".tox", ".nox", ".*_cache")
LEFT_OUT_AT_TOP = ("build", "dist", "venv")  # further down a package may have one of these names
HISTORY = ".git"  # a build may ask it for the version


@dataclass(frozen=True, slots=True)
class Entry:
    """`name`: its path in the tree; `path`: where it is; `kind`: "folder", "file" or "link"."""

    name: str
    path: str
    kind: str


class SourceTree:
    """The directory `folder`, but for what tools leave there, for what is no file, folder or link, and for `own`:
    absolute paths of what mukernel itself keeps there.

    A symbolic link that leads to somewhere in the directory is one; in the place of any other the tree has what it
    leads to, which would be out of reach from a copy. `use`: as the directory was asked for, for errors.
    """

    def __init__(self, folder: str, use: str, own: Collection[str]) -> None:
        self.folder, self.use = os.path.realpath(folder), use
        self.own = {os.path.realpath(each) for each in own}

    def digest(self) -> str:
        """Of all that a wheel of it could be made of. Raises ContractError, OSError."""
        found = hashlib.sha256()
        for each in self.entries(history=False):
            if each.kind != "folder":
                runs = each.kind == "file" and bool(os.stat(each.path).st_mode & 0o111)
                content = os.fsencode(os.readlink(each.path)) if each.kind == "link" else read(each.path)
                found.update(os.fsencode(f"{each.name}\0{each.kind}\0{runs}\0{len(content)}\0"))
                found.update(content)
        return found.hexdigest()[:32]

    def copy(self, target: str) -> None:
        """Into a folder that is not there yet. Raises ContractError, OSError."""
        os.mkdir(target)
        for each in self.entries(history=True):
            path = os.path.join(target, each.name)
            match each.kind:
                case "folder":
                    os.mkdir(path)
                case "link":
                    os.symlink(os.readlink(each.path), path)
                case _:
                    shutil.copy2(each.path, path)

    def entries(self, *, history: bool) -> Iterator[Entry]:
        """All that is in it, a folder before what it holds; `history`: of its repository, too."""
        left_out = LEFT_OUT if history else (*LEFT_OUT, HISTORY)
        return self.walk(self.folder, "", left_out, ())

    def walk(self, folder: str, within: str, left_out: Collection[str], followed: tuple[str, ...]) -> Iterator[Entry]:
        """`within`: the folder's path in the tree; `followed`: where the links lie that led to it."""
        patterns = left_out if within else (*left_out, *LEFT_OUT_AT_TOP)
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda each: each.name)
        for entry in entries:
            name, path, links = os.path.join(within, entry.name), entry.path, followed
            if path in self.own or any(fnmatch(entry.name, pattern) for pattern in patterns):
                continue
            if entry.is_symlink():
                path, links = os.path.realpath(path), (*followed, folder)
                if not os.path.exists(path) or os.path.commonpath((self.folder, path)) == self.folder:
                    yield Entry(name, entry.path, "link")
                    continue
                if any(os.path.commonpath((each, path)) == path for each in links):
                    raise ContractError(
                        f"use = {self.use!r}: {entry.path} is a link to {path}, in which it lies itself; wanted a link "
                        "to something else, or none"
                    )
            if os.path.isdir(path):
                yield Entry(name, path, "folder")
                yield from self.walk(path, name, left_out, links)
            elif os.path.isfile(path):
                yield Entry(name, path, "file")


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
