"""Source tree: what a wheel of a directory is made of; to copy it, and to tell whether it has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from ..contract import ContractError
from .lock_file import is_lock_file

LEFT_OUT = ("__pycache__", "*.py[cod]", "*.egg-info", ".venv", ".tox", ".nox", ".*_cache")
LEFT_OUT_AT_TOP = ("build", "dist", "venv")  # further down a package may have one of these names
HISTORY = ".git"  # a build may ask it for the version

POINTER = b"gitdir: "  # what begins a file of that name


@dataclass(frozen=True, slots=True)
class Entry:
    """`name`: its path in the tree; `path`: where it is; `kind`: "folder", "file" or "link"."""

    name: str
    path: str
    kind: str


class SourceTree:
    """The directory `folder`, but for what tools leave there, for what is no file, folder or link, and for what
    mukernel itself keeps there: lock files of applications, and `own`, absolute paths.

    A symbolic link that leads to something of the tree is one; in the place of any other the tree has what it leads to,
    which would be out of reach from a copy. `use`: as the directory was asked for, for errors.
    """

    def __init__(self, folder: str, use: str, own: Collection[str]) -> None:
        self.folder, self.use = os.path.realpath(folder), use
        self.own = {os.path.realpath(each) for each in own}

    def digest(self) -> str:
        """Of all that a wheel of it could be made of. Raises ContractError, OSError."""
        return digest_of(self.entries(history=False))

    def copy(self, target: str) -> str:
        """Into a folder that is not there yet. Returns the digest of what the copy has: it may be edited meanwhile.
        Raises ContractError, OSError."""
        os.mkdir(target)
        copied = []
        for each in self.entries(history=True):
            path = os.path.join(target, each.name)
            match each.kind:
                case "folder":
                    os.mkdir(path)
                case "link":
                    os.symlink(os.readlink(each.path), path)
                case "file" if os.path.basename(each.name) == HISTORY:
                    self.copy_pointer(each.path, path)
                case _:
                    shutil.copy2(each.path, path)
            copied.append(replace(each, path=path))
        return digest_of(each for each in copied if HISTORY not in each.name.split(os.sep))

    def copy_pointer(self, source: str, target: str) -> None:
        """Copy the file that a submodule has in the place of the folder of its repository: it says where that is,
        relative to itself. Out of the tree, only the whole path leads there from a copy."""
        text = read(source)
        where = os.path.realpath(os.path.join(os.path.dirname(source), os.fsdecode(text.removeprefix(POINTER).strip())))
        outside = text.startswith(POINTER) and os.path.commonpath((self.folder, where)) != self.folder
        with open(target, "wb") as file:
            file.write(POINTER + os.fsencode(f"{where}\n") if outside else text)

    def entries(self, *, history: bool) -> Iterator[Entry]:
        """All that is in it, a folder before what it holds; `history`: of its repository, too."""
        left_out = LEFT_OUT if history else (*LEFT_OUT, HISTORY)
        return self.walk(self.folder, "", left_out, ())

    def walk(self, folder: str, within: str, left_out: Collection[str], followed: tuple[str, ...]) -> Iterator[Entry]:
        """`within`: the folder's path in the tree; `followed`: where the links lie that led to it."""
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda each: each.name)
        for entry in entries:
            name, links = os.path.join(within, entry.name), followed
            path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            if is_left_out(within, entry.name, left_out) or path in self.own or is_lock_file(path):
                continue
            if entry.is_symlink():
                links = (*followed, folder)
                if not os.path.exists(path) or (not followed and self.has(path)):
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

    def has(self, path: str) -> bool:
        """Is what lies at a path, links resolved, in the directory, and not left out of the tree?"""
        if os.path.commonpath((self.folder, path)) != self.folder:
            return False
        parts = os.path.relpath(path, self.folder).split(os.sep)
        return not any(is_left_out(os.sep.join(parts[:at]), part, LEFT_OUT) for at, part in enumerate(parts))


def is_left_out(within: str, name: str, patterns: Collection[str]) -> bool:
    """Is what has that name in a folder of a tree, "" at its top, what tools leave there?"""
    return any(fnmatch(name, pattern) for pattern in (patterns if within else (*patterns, *LEFT_OUT_AT_TOP)))


def digest_of(entries: Iterable[Entry]) -> str:
    found = hashlib.sha256()
    for each in entries:
        if each.kind != "folder":
            runs = each.kind == "file" and bool(os.stat(each.path).st_mode & 0o111)
            content = os.fsencode(os.readlink(each.path)) if each.kind == "link" else read(each.path)
            found.update(os.fsencode(f"{each.name}\0{each.kind}\0{runs}\0{len(content)}\0"))
            found.update(content)
    return found.hexdigest()[:32]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
