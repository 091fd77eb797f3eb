"""Folder: where one demo keeps its index and its log. It goes with the demo, or with the next one after a kill -9."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator

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
