"""Folders behind fsspec: made, removed and moved, also where the other side knows none, as object stores do.

`system` is an fsspec file system; paths are as it writes them.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

# An empty object that stands for a folder where the other side knows none but by what lies in it, as S3 does.
MARKER = ".mukernel"


def make_folder(system: Any, folder: str) -> None:
    """A folder that is there afterwards, and has a marker where it would not be without."""
    if not system.isdir(folder):
        system.makedirs(folder, exist_ok=True)
        system.invalidate_cache()
        if not system.isdir(folder):
            system.pipe_file(f"{folder}/{MARKER}", b"")


def remove_folder(system: Any, folder: str) -> None:
    """With all that is in it. Where its name looks like a pattern, fsspec would remove what fits that, too."""
    if not any(mark in folder for mark in "*?["):
        system.rm(folder, recursive=True)
        return
    if not system.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder")
    found = system.find(folder, withdirs=True, detail=True)
    for name in sorted(found, reverse=True):
        if found[name]["type"] != "directory":
            system.rm_file(name)
        elif system.isdir(name):
            system.rmdir(name)
    system.invalidate_cache()
    if system.isdir(folder):
        system.rmdir(folder)


def moves(system: Any) -> bool:
    """Can it move by itself? Else fsspec copies."""
    from fsspec.spec import AbstractFileSystem

    return type(system).mv is not AbstractFileSystem.mv


def rename_file(system: Any, old: str, new: str) -> None:
    if moves(system):
        system.mv(old, new)
    else:
        system.copy([old], [new], on_error="raise")  # of lists, in which no name is a pattern
        system.rm_file(old)


def rename_folder(system: Any, old: str, new: str) -> None:
    """Where the other side can't, all of it is copied, then the source removed. Where that fails half way the source
    is whole, and what was copied is removed."""
    if f"{new}/".startswith(f"{old}/"):
        raise OSError(errno.EINVAL, "a folder can't be moved into itself")
    if system.isfile(new):
        raise NotADirectoryError(errno.ENOTDIR, "it is a folder, and a file is in its way")
    if system.isdir(new):
        raise OSError(errno.ENOTEMPTY, "there is a folder of that name already")
    if moves(system):
        system.mv(old, new, recursive=True)
        return
    found = {str(each["name"]): each for each in system.find(old, withdirs=True, detail=True).values()}
    folders, files = [new], {}
    for name, each in found.items():
        there = new + name.lstrip("/")[len(old.lstrip("/")) :].rstrip("/")
        if each["type"] == "directory" or name.endswith("/"):  # so S3 has what another program has marked
            folders.append(there)
        else:
            files[name] = there
    filled = {each.rpartition("/")[0] for each in files.values()}
    try:
        for folder in sorted(folders):
            system.makedirs(folder, exist_ok=True)
        system.copy([*files], [*files.values()], on_error="raise")
        for folder in sorted({*folders} - filled):
            make_folder(system, folder)
    except BaseException:
        with suppress(Exception):
            remove_folder(system, new)
        raise
    remove_folder(system, old)
