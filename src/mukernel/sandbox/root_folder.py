"""The root folder of a sandbox: a file system of its own, with nothing in it but what it was given."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from .policy import TEMPORARY, contains
from .system import (
    MOUNT_NODEV,
    MOUNT_NOEXEC,
    MOUNT_NOSUID,
    MOUNT_RDONLY,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    attach_mount,
    become_root_folder,
    mount,
    open_tree,
    restrict_mount,
)

DEVICES = ("null", "zero", "full", "random", "urandom")
MOST_FILES = 16_384  # in each file system of its own
Tree = tuple[str, int, bool]  # path, descriptor, is it a folder?


def wanted_paths(read: Iterable[str], write: Iterable[str]) -> list[tuple[str, bool]]:
    """Each path and whether it is written to, the outer before the inner, without those that add nothing."""
    wanted = sorted({**dict.fromkeys(read, False), **dict.fromkeys(write, True)}.items())
    found: list[tuple[str, bool]] = []
    for path, writes in wanted:
        around = [each for each in found if contains(each[0], path)]
        if not around or around[-1][1] != writes:
            found.append((path, writes))
    return found


def clone_trees(paths: Iterable[tuple[str, bool]], users: int | None) -> list[Tree]:
    """Mounts of these paths, attached nowhere yet. `users`: the namespace whose user is to be taken for root there."""
    trees = []
    for path, writes in paths:
        trees.append(cloned(path, MOUNT_NOSUID | MOUNT_NODEV | (0 if writes else MOUNT_RDONLY), users))
    for name in DEVICES:
        trees.append(cloned(f"/dev/{name}", MOUNT_NOSUID | MOUNT_NOEXEC, None))
    return trees


def cloned(path: str, attributes: int, users: int | None) -> Tree:
    tree = open_tree(path)
    try:
        restrict_mount(tree, attributes, users)
    except OSError:
        if users is None:
            raise
        restrict_mount(tree, attributes)  # a file system that can't map its owners: their permissions decide
    return path, tree, stat.S_ISDIR(os.fstat(tree).st_mode)


def links_to(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Paths that lead elsewhere by symbolic links (/lib does, mostly), and where that is."""
    return [(path, real) for path in paths if (real := os.path.realpath(path)) != path]


def enter_root(trees: Iterable[Tree], links: Iterable[tuple[str, str]], temporary: int) -> None:
    """Let nothing but these mounts, a few devices and an empty folder for temporary files be there. Raises OSError."""
    mount("none", "/", None, MS_REC | MS_SLAVE)
    new = TEMPORARY  # any folder that is there: it is hidden from now on
    mount("mukernel", new, "tmpfs", MS_NOSUID | MS_NODEV, f"size=1M,nr_inodes={MOST_FILES},mode=755")
    place(new + TEMPORARY, os.mkdir)
    room = f"size={temporary},nr_inodes={MOST_FILES},mode=700"
    mount("mukernel", new + TEMPORARY, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, room)  # others may lie in it
    for path, tree, is_folder in trees:
        place(new + path, os.mkdir if is_folder else touch)
        attach_mount(tree, new + path)
        os.close(tree)
    for path, target in links:
        place(new + path, lambda where, target=target: os.symlink(target, where))  # type: ignore[misc]
    place(f"{new}/dev/shm", lambda where: os.symlink(TEMPORARY, where))
    become_root_folder(new)
    own = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        make_readonly(own)
    finally:
        os.close(own)


def make_readonly(folder: int) -> None:
    """The root itself, not what is mounted in it."""
    restrict_mount(folder, MOUNT_RDONLY | MOUNT_NODEV | MOUNT_NOSUID, recursive=False)


def place(path: str, make: Callable[[str], object]) -> None:
    """Make what is to lie at `path`, and the folders that lead there, unless it is there."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if not os.path.lexists(path):
        make(path)


def touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
