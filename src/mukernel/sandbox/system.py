"""The system calls that a sandbox is made of and that Python has no names for. Each raises OSError that names it.

Numbers above 423 are the same on every machine. There are kept libraries for parts of this (libseccomp, bubblewrap,
bindings of Landlock), none for a process that is forked with its imports warm, and each is another thing to install.
"""

from __future__ import annotations

import ctypes
import os
import platform

LIBC = ctypes.CDLL(None, use_errno=True)
MACHINE = platform.machine()
MACHINES = ("x86_64", "aarch64")  # those whose system calls are known here, in the order of their numbers

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 4, 24, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL, LAST_CAPABILITY = 4, 63
CAPABILITY_VERSION_3 = 0x20080522

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
SYS_PIVOT_ROOT, SYS_CAPSET = (41, 91) if MACHINE == "aarch64" else (155, 126)
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
MOUNT_RDONLY, MOUNT_NOSUID, MOUNT_NODEV, MOUNT_NOEXEC, MOUNT_IDMAP = 1, 2, 4, 8, 0x00100000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 0x4000, 0x80000
MNT_DETACH = 2


class MountAttributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def checked(call: str, result: int) -> int:
    """What a call returned. Raises OSError that begins with its name."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def syscall(name: str, number: int, *arguments: object) -> int:
    """Make a system call; whole numbers are passed as long."""
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return checked(name, LIBC.syscall(ctypes.c_long(number), *given))


def prctl(name: str, option: int, *arguments: int) -> int:
    """As the C function, with the arguments that are left out as 0."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    return checked(f"prctl({name})", LIBC.prctl(option, *(ctypes.c_ulong(each) for each in padded)))


def unshare(flags: int) -> None:
    """Have namespaces of one's own from now on; those of processes are had by the next child."""
    checked("unshare", LIBC.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    encoded = [None if each is None else os.fsencode(each) for each in (source, target, kind)]
    data = None if options is None else options.encode()
    checked(f"mount({target})", LIBC.mount(*encoded, ctypes.c_ulong(flags), data))


def open_tree(path: str) -> int:
    """A mount of what lies at `path`, and what is mounted below it, that is attached nowhere yet: a descriptor."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_RECURSIVE
    return syscall(f"open_tree({path})", SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags)


def restrict_mount(tree: int, attributes: int, users: int | None = None, recursive: bool = True) -> None:
    """Set attributes of a mount, and of all below it; `users`: the user namespace that its owners are mapped by."""
    wanted = MountAttributes(attributes | (MOUNT_IDMAP if users is not None else 0), 0, 0, users or 0)
    size = ctypes.sizeof(wanted)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(wanted), size)


def attach_mount(tree: int, target: str) -> None:
    flags = MOVE_MOUNT_F_EMPTY_PATH
    syscall(f"move_mount({target})", SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), flags)


def become_root_folder(folder: str) -> None:
    """Let `folder`, a mount, be the root of this mount namespace, and the old root be gone."""
    os.chdir(folder)
    syscall("pivot_root", SYS_PIVOT_ROOT, b".", b".")
    checked("umount2", LIBC.umount2(b".", MNT_DETACH))
    os.chdir("/")


def drop_capabilities() -> None:
    """Have no capability, in one's own user namespace neither, and never get one again."""
    prctl("PR_SET_NO_NEW_PRIVS", PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl("PR_CAPBSET_DROP", PR_CAPBSET_DROP, capability)
        except OSError:  # there are no more of them
            break
    prctl("PR_CAP_AMBIENT", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    syscall("capset", SYS_CAPSET, ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
