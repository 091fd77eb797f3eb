"""Beneath: opening what lies within a folder, and nothing else, whatever links are made or moved meanwhile.

The kernel of the system resolves the whole path in one step (openat2 with RESOLVE_BENEATH), so there is no moment
between a check and a use. Links that stay within the folder are followed. Where openat2 is missing or forbidden each
part is opened by itself and no link is followed at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import threading

_AT_FDCWD = -100
OPENAT2 = 437  # the same number on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x02, 0x04, 0x08
TRIES = 1000  # EAGAIN: something was renamed meanwhile, so the system could not be sure

_library = ctypes.CDLL(None, use_errno=True)
_known: list[bool] = []
_asking = threading.Lock()


def has_openat2() -> bool:
    """Does this system resolve beneath a folder by itself? Asked once."""
    with _asking:
        if not _known:
            try:
                os.close(_openat2(_AT_FDCWD, ".", os.O_PATH, 0))
                _known.append(True)
            except OSError:
                _known.append(False)
        return _known[0]


def open_beneath(folder: int, path: str, flags: int, mode: int = 0, links: bool = True) -> int:
    """A file descriptor of `path`, which is relative to the descriptor `folder`; "" is the folder itself.
    `links`: follow those that stay within the folder.

    Raises OSError, and PermissionError where the path leads out of the folder, or by a link that isn't followed.
    """
    flags |= os.O_CLOEXEC | (0 if flags & os.O_PATH else os.O_NOCTTY)
    try:
        if has_openat2():
            return _openat2(folder, path or ".", flags, mode, links)
        return _by_parts(folder, path, flags, mode)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise PermissionError(errno.EACCES, "a symbolic link leads out of its mount") from None
        if error.errno == errno.ELOOP and not links:
            raise PermissionError(errno.EACCES, "a symbolic link may lead out of what was granted") from None
        raise


def link_of(folder: int, name: str) -> str | None:
    """Where a symbolic link leads; None for what is none."""
    try:
        return os.readlink(name, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def _openat2(folder: int, path: str, flags: int, mode: int, links: bool = True) -> int:
    resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (0 if links else RESOLVE_NO_SYMLINKS)
    how = struct.pack("QQQ", flags, mode if flags & os.O_CREAT else 0, resolve)
    for _ in range(TRIES):
        opened: int = _library.syscall(OPENAT2, folder, os.fsencode(path), how, ctypes.c_size_t(len(how)))
        if opened >= 0:
            return opened
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code))
    raise OSError(errno.EAGAIN, "its folders are renamed without end")


def _by_parts(folder: int, path: str, flags: int, mode: int) -> int:
    *parents, last = path.split("/") if path else ["."]
    here = os.dup(folder)
    try:
        for part in parents:
            inner = _no_link(here, part, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0)
            os.close(here)
            here = inner
        return _no_link(here, last, flags, mode)
    finally:
        os.close(here)


def _no_link(folder: int, part: str, flags: int, mode: int) -> int:
    """Raises OSError with EXDEV for a symbolic link: where it leads is not looked at."""
    if part == "..":
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    try:
        opened = os.open(part, flags | os.O_NOFOLLOW, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(folder, part):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV)) from None
        raise
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return opened


def _is_link(folder: int, part: str) -> bool:
    return stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode)
