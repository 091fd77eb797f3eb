"""The filter of system calls (seccomp): what a plug-in in a sandbox can't ask the system for, whatever its rights.

A program for the system's own interpreter (classic BPF), which looks at each call's number and arguments. Calls that
are newer than this list are refused as if the system did not have them.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from .system import MACHINE, MACHINES, NAMESPACES, prctl

PR_SET_SECCOMP, MODE_FILTER = 22, 2
LOAD, EQUAL, GREATER, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # where they lie in what the filter is given; an argument has 8 bytes
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LAST_KNOWN = 469  # file_setattr, Linux 6.17
AF_UNIX, NO_STREAM = 1, 2  # the bit of SOCK_DGRAM, and of SOCK_RAW, which is the same
SET_LEASE = 1024  # F_SETLEASE
PAGE_OUT = 21  # MADV_PAGEOUT
HUGE_MEMFD, HUGE_MAPPING = 0x4, 0x40000  # MFD_HUGETLB, MAP_HUGETLB
GROWING_MAPPING = 0x100  # MAP_GROWSDOWN: counts as a stack, and RLIMIT_DATA does not count those
TERMINAL_INPUT, TERMINAL_COPY = 0x5412, 0x541C  # TIOCSTI, TIOCLINUX: to type for whoever sits at the terminal

# For each: its number on each of MACHINES; None where it is not.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes, their memory and descriptors
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "process_mrelease": (448, 448),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467), "statmount": (457, 457), "listmount": (458, 458),
    # what has been the way out most often
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "personality": (135, 92), "memfd_secret": (447, 447), "modify_ldt": (154, None),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "lookup_dcookie": (212, 18),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "io_setup": (206, 0), "io_submit": (209, 2),
    # the machine
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "create_module": (174, None), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116), "sethostname": (170, 161),
    "setdomainname": (171, 162), "quotactl": (179, 60), "quotactl_fd": (443, 443), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "iopl": (172, None),
    "ioperm": (173, None), "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None), "vhangup": (153, 58),
    "_sysctl": (156, None), "nfsservctl": (180, 42), "mknod": (133, None), "mknodat": (259, 33),
    # memory that no limit of a process counts
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    # what a user may have a small number of in all, all of whose sandboxes would have none any more
    "inotify_init": (253, None), "inotify_init1": (294, 26),
    # sockets that have, or look for, a name: whoever may see a socket in a folder, if only to read, could talk to the
    # service behind it. What it needs it makes in pairs, or was given
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200),
}  # fmt: skip
CALLS = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    "madvise": (28, 233),
    "memfd_create": (319, 279),
    "mmap": (9, 222),
}


# Calls that make or change a file's mode: their numbers, and which argument is the mode, and which the flags if any.
# What a plug-in writes into a folder that it was granted must not be a program with its operator's rights.
MODES: dict[str, tuple[int | None, int | None, int, int | None]] = {
    "open": (2, None, 2, 1), "openat": (257, 56, 3, 2), "creat": (85, None, 1, None), "chmod": (90, None, 1, None),
    "fchmod": (91, 52, 1, None), "fchmodat": (268, 53, 2, None), "fchmodat2": (452, 452, 2, None),
}  # fmt: skip
SET_ID, CREATES = 0o6000, 0x400040  # S_ISUID | S_ISGID; O_CREAT and the bit of its own of O_TMPFILE


def refused_numbers(machine: str) -> list[int]:
    """The numbers of the refused calls on a machine."""
    at = MACHINES.index(machine)
    return sorted(number for each in REFUSED.values() if (number := each[at]) is not None)


def program(machine: str) -> bytes:
    """The filter for a machine. Raises OSError (ENOSYS) where its calls are not known here."""
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known; wanted {' or '.join(MACHINES)}")
    at = MACHINES.index(machine)
    number = {name: numbers[at] for name, numbers in CALLS.items()}
    low = [ARGUMENTS + 8 * argument for argument in range(4)]
    lines = [
        operation(LOAD, ARCHITECTURE), operation(EQUAL, AUDIT[machine], yes=1), operation(RETURN, KILL),
        operation(LOAD, NUMBER),
        operation(GREATER, LAST_KNOWN, no=1), failed(errno.ENOSYS),  # those of x32 too, which has numbers of its own
        operation(EQUAL, number["clone3"], no=1), failed(errno.ENOSYS),  # its flags lie in memory; libc tries clone
        operation(EQUAL, number["openat2"], no=1), failed(errno.ENOSYS),  # and so does its mode
    ]  # fmt: skip
    for each in refused_numbers(machine):
        lines += [operation(EQUAL, each, no=1), failed(errno.EPERM)]
    lines += on(number["clone"], [
        operation(LOAD, low[0]), operation(ANY_BIT, NAMESPACES, no=1), failed(errno.EPERM),
    ])  # fmt: skip
    lines += on(number["socketpair"], [
        operation(LOAD, low[0]), operation(EQUAL, AF_UNIX, yes=1), failed(errno.EPERM),
        operation(LOAD, low[1]), operation(ANY_BIT, NO_STREAM, no=1), failed(errno.EPERM),  # each packet may name one
    ])  # fmt: skip
    lines += on(number["fcntl"], [
        operation(LOAD, low[1]), operation(EQUAL, SET_LEASE, no=1), failed(errno.EPERM),  # who opens it would wait
    ])  # fmt: skip
    lines += on(number["madvise"], [
        operation(LOAD, low[2]), operation(EQUAL, PAGE_OUT, no=1), failed(errno.EPERM),  # a receiver would pay for them
    ])  # fmt: skip
    for call, given, bits in (
        ("memfd_create", low[1], HUGE_MEMFD), ("mmap", low[3], HUGE_MAPPING | GROWING_MAPPING),
    ):  # fmt: skip
        lines += on(number[call], [  # memory that no limit of a process counts
            operation(LOAD, given), operation(ANY_BIT, bits, no=1), failed(errno.EPERM),
        ])  # fmt: skip
    lines += on(number["ioctl"], [
        operation(LOAD, low[1]),
        operation(EQUAL, TERMINAL_INPUT, no=1), failed(errno.EPERM),
        operation(EQUAL, TERMINAL_COPY, no=1), failed(errno.EPERM),
    ])  # fmt: skip
    for x86_64, aarch64, mode, flags in MODES.values():
        changes = (x86_64, aarch64)[at]
        if changes is not None:
            created = [] if flags is None else [operation(LOAD, low[flags]), operation(ANY_BIT, CREATES, no=3)]
            lines += on(changes, [
                *created, operation(LOAD, low[mode]), operation(ANY_BIT, SET_ID, no=1), failed(errno.EPERM),
            ])  # fmt: skip
    return b"".join([*lines, operation(RETURN, ALLOW)])


def operation(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One line; `yes`, `no`: how many lines a comparison skips."""
    return struct.pack("=HBBI", code, yes, no, value)


def failed(number: int) -> bytes:
    return operation(RETURN, FAIL | number)


def on(number: int, rest: list[bytes]) -> list[bytes]:
    """Lines for one call alone, which end in leave."""
    lines = [*rest, operation(RETURN, ALLOW)]
    return [operation(EQUAL, number, no=len(lines)), *lines]


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_char_p)]


def filter_system_calls() -> None:
    """From now on, for this process and all that it starts. There is no way back. Raises OSError."""
    lines = program(MACHINE)
    given = Program(len(lines) // 8, lines)
    prctl("PR_SET_SECCOMP", PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(given))
