"""Folder: where one demo keeps its index and its log. It goes with the demo, or with the next one after a kill -9."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator

from mukernel import RemoteError
from mukernel.core.state_folder import locked

PREFIX = "mukernel-demo-"  # of the folder, in the system's folder for temporary files
LOCK = "lock"  # the file in it that is locked for as long as its demo lives


@contextlib.contextmanager
def own_folder() -> Iterator[str]:
    """The path of an empty folder, removed at the end. Removes those of demos that were killed, too."""
    remove_left_behind()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        lock = os.open(os.path.join(folder, "unlocked"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(os.path.join(folder, "unlocked"), os.path.join(folder, LOCK))  # nobody sees it without the lock
            yield folder
        finally:
            os.close(lock)


def remove_left_behind() -> None:
    """Remove the folders of this user's demos whose process is gone: those with a lock that nobody holds."""
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and is_ours(entry):
                remove_unless_locked(entry.path)


def is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:  # it has just gone
        return False


def remove_unless_locked(folder: str) -> None:
    try:
        lock = os.open(os.path.join(folder, LOCK), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # no demo's, or one that is just being made
        return
    try:
        if locked(lock):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def unkept(error: Exception) -> str | None:
    """Where an error means that the index or a log can't be kept, as on a full disk: what to do. None for any other."""
    try:
        temporary = tempfile.gettempdir()
    except OSError as none:  # it names those that were tried
        return (
            f"its index can't be kept: {none.strerror}; set TMPDIR to a folder that can be written to, with 20 MB free"
        )
    if isinstance(error, sqlite3.OperationalError):
        reason = str(error)
    elif isinstance(error, RemoteError) and error.type_name == sqlite3.OperationalError.__name__:
        reason = error.message
    elif isinstance(error, OSError) and os.fsdecode(error.filename or "").startswith(os.path.join(temporary, PREFIX)):
        reason = str(error.strerror)
    else:
        return None
    return (
        f"its index can't be kept in {temporary}: {reason}; free some room there, or set TMPDIR to another folder "
        "(that of the standard library takes 20 MB)"
    )
