"""Landlock: a second fence around the files, which holds although the first, the process's own root, had a hole."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from .system import syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION = 1  # a flag: ask which there is
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
READ = EXECUTE | READ_FILE | READ_DIR
ALL_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # rights, by the first version
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15  # truncate and ioctl, too
NETWORK_SINCE, SCOPES_SINCE = 4, 6
ALL_NETWORK = 1 | 2  # bind and connect by TCP
ALL_SCOPES = 1 | 2  # abstract Unix sockets, and signals, of processes outside


def version() -> int:
    """Which version the system has; 0: none."""
    try:
        return syscall("landlock_create_ruleset", CREATE_RULESET, None, 0, VERSION)
    except OSError:
        return 0


def restrict(readable: list[str], writable: list[str]) -> None:
    """From now on this process, and all that it starts, opens nothing but what lies at these paths. Raises OSError."""
    had = version()
    if not had:
        raise OSError(errno.ENOSYS, "landlock_create_ruleset: this system has no Landlock, or it is not enabled")
    files = ALL_FILES[max(since for since in ALL_FILES if since <= had)]
    network = ALL_NETWORK if had >= NETWORK_SINCE else 0
    scopes = ALL_SCOPES if had >= SCOPES_SINCE else 0
    fields = [files, *([network] if network else []), *([scopes] if scopes else [])]
    wanted = struct.pack(f"={len(fields)}Q", *fields)
    rules = syscall("landlock_create_ruleset", CREATE_RULESET, ctypes.c_char_p(wanted), len(wanted), 0)
    try:
        for paths, rights in ((readable, READ), (writable, files)):
            for path in paths:
                add(rules, path, rights & files)
        syscall("landlock_restrict_self", RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def add(rules: int, path: str, rights: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= OF_A_FILE
        rule = struct.pack("=Qi", rights, opened)
        syscall(f"landlock_add_rule({path})", ADD_RULE, rules, PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(opened)
