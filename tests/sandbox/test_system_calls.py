"""The filter of system calls, run here line by line as the system would, for machines that this one is not, too."""

from __future__ import annotations

import errno
import struct

import pytest

from mukernel.sandbox.system_calls import ALLOW, AUDIT, FAIL, KILL, REFUSED, program

PERMITTED = {"x86_64": {"read": 0, "mmap": 9, "clone": 56, "getpid": 39}, "aarch64": {"read": 63, "mmap": 222}}
NUMBERS = {"x86_64": {"socketpair": 53, "clone": 56, "openat": 257, "ioctl": 16, "fcntl": 72,
                      "madvise": 28, "memfd_create": 319, "mmap": 9},
           "aarch64": {"socketpair": 199, "clone": 220, "openat": 56, "ioctl": 29, "fcntl": 25,
                       "madvise": 233, "memfd_create": 279, "mmap": 222}}  # fmt: skip
MACHINES = ("x86_64", "aarch64")


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter says of a call."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    given = struct.pack("=IIQ6Q", number, architecture or AUDIT[machine], 0, *padded)
    lines = list(struct.iter_unpack("=HBBI", program(machine)))
    at = loaded = 0
    while True:
        code, yes, no, value = lines[at]
        at += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("=I", given, value)
            case 0x15:
                at += yes if loaded == value else no
            case 0x25:
                at += yes if loaded > value else no
            case 0x45:
                at += yes if loaded & value else no
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"line {at}: {code:#x}")


@pytest.mark.parametrize("machine", MACHINES)
def test_every_refused_call_is_refused_and_others_are_not(machine: str) -> None:
    at = MACHINES.index(machine)
    for name, numbers in REFUSED.items():
        if (number := numbers[at]) is not None:
            assert answer(machine, number) == FAIL | errno.EPERM, name
    for name, number in PERMITTED[machine].items():
        assert answer(machine, number) == ALLOW, name


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_are_told_apart_by_their_arguments(machine: str) -> None:
    number = NUMBERS[machine]
    refused = FAIL | errno.EPERM
    close_on_exec = 0o2000000
    for kind, expected in ((1, ALLOW), (5, ALLOW), (2, refused), (3, refused)):  # streams and packets, not datagrams
        assert answer(machine, number["socketpair"], 1, kind | close_on_exec) == expected  # AF_UNIX
    assert answer(machine, number["socketpair"], 2, 1) == refused
    assert answer(machine, number["fcntl"], 3, 1024, 1) == refused  # F_SETLEASE
    assert answer(machine, number["fcntl"], 3, 6, 0) == ALLOW  # F_SETLK
    assert answer(machine, number["madvise"], 0, 4096, 21) == refused  # MADV_PAGEOUT
    assert answer(machine, number["madvise"], 0, 4096, 4) == ALLOW  # MADV_DONTNEED
    assert answer(machine, number["memfd_create"], 0, 4) == refused  # MFD_HUGETLB
    assert answer(machine, number["memfd_create"], 0, 3) == ALLOW  # MFD_CLOEXEC, MFD_ALLOW_SEALING
    assert answer(machine, number["mmap"], 0, 4096, 3, 0x40022) == refused  # MAP_HUGETLB
    assert answer(machine, number["mmap"], 0, 4096, 3, 0x20122) == refused  # MAP_GROWSDOWN
    assert answer(machine, number["mmap"], 0, 4096, 3, 0x20022) == ALLOW  # MAP_STACK, as threads have it
    assert answer(machine, number["clone"], 0x3D0F00) == ALLOW  # a thread
    assert answer(machine, number["clone"], 0x10000000) == refused  # a user namespace
    assert answer(machine, number["ioctl"], 0, 0x5421) == ALLOW
    assert answer(machine, number["ioctl"], 0, 0x5412) == refused
    assert answer(machine, number["openat"], 0, 0, 0x40, 0o755) == ALLOW
    assert answer(machine, number["openat"], 0, 0, 0x40, 0o4755) == refused
    assert answer(machine, number["openat"], 0, 0, 0, 0o4755) == ALLOW  # it makes nothing, so that there is no mode


@pytest.mark.parametrize("machine", MACHINES)
def test_what_nobody_knows_is_not_there(machine: str) -> None:
    assert answer(machine, 5_000) == FAIL | errno.ENOSYS
    assert answer(machine, 435) == FAIL | errno.ENOSYS  # clone3
    assert answer(machine, 0, architecture=0x40000003) == KILL  # the calls of 32 bits


def test_another_machine_is_named() -> None:
    with pytest.raises(OSError, match="riscv64"):
        program("riscv64")
