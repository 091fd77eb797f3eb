"""Segments: pieces of shared memory that are written once and then only read, each a sealed memfd without a name.

Whoever holds a segment's descriptor, or has it mapped, holds the memory; nothing else does. So it is free as soon as
the last process lets go, however that comes about, `kill -9` of everybody included: the system counts, not we. What we
count is what this process holds, against its quota.
"""

from __future__ import annotations

import bisect
import ctypes
import fcntl
import mmap
import os
import resource
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from ..contract import Overloaded
from .descriptors import kept_of

FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE, which `fcntl` does not name: no new way to write; that of its maker stays
KEPT_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
WRITTEN = KEPT_SIZE | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
MADE_IN_PLACE = KEPT_SIZE | FUTURE_WRITE
BLOCK = 512  # bytes that `st_blocks` counts by


class NotReceivedYet(Overloaded):
    """There is no room as long as what was sent before has not been received; then there will be."""


class Account:
    """The shared memory that this process holds, in bytes: the whole of each segment of which it looks into a part.
    `limit`: its quota. `in_flight`: asked what it has sent and nobody has received yet, which is its own until then."""

    def __init__(self) -> None:
        self.limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self.allowed = False  # somebody has said how much
        self.held = self.segments = 0
        self.in_flight: Callable[[], int] = lambda: 0

    def allow(self, size: int) -> None:
        """Let `size` bytes be the quota; of several plug-ins in a process, the one that asks for most has its way."""
        self.limit = max(self.limit, size) if self.allowed else size
        self.allowed = True

    def check(self, size: int) -> None:
        """Is there room for `size` bytes more? Raises Overloaded; NotReceivedYet where there will be."""
        held, in_flight = self.held, self.in_flight()
        if held + in_flight + size > self.limit:
            raise (Overloaded if held + size > self.limit else NotReceivedYet)(
                f"there is no room for {size:,} bytes more of shared memory: process {os.getpid()} holds {held:,}, "
                f"has {in_flight:,} on their way, and its quota (shared_memory) is {self.limit:,}; let go of arrays "
                "and Buffers that are not needed, or raise the quota"
            )


account = Account()


class Share:
    """What has come here ahead of its messages, or without any: from one sandbox that calls, or from all that are
    called. Half of the quota and a quarter of the files are the most, as what others send has to find room, too."""

    def __init__(self) -> None:
        self.held = self.segments = 0

    def add(self, segments: Sequence[Segment], ahead: bool) -> None:
        """`ahead`: their message was not taken yet. Raises Overloaded where they are more than it may have then."""
        size, count = size_of(segments), len(segments)
        if ahead:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if self.held + size > account.limit // 2 or self.segments + count > files // 4:
                raise Overloaded(
                    f"process {os.getpid()} keeps {self.held:,} bytes of shared memory, in {self.segments:,} pieces, "
                    f"for messages that it has not taken yet, and may keep half of its quota ({account.limit:,}; "
                    f"shared_memory) and a quarter as many as it may open files ({files:,}; limits.files)"
                )
        self.count(size, count)

    def give_up(self, segments: Sequence[Segment]) -> None:
        self.count(-size_of(segments), -len(segments))

    def count(self, size: int, segments: int) -> None:
        # Several threads do, each for its lanes. Nothing is called between reading a count and writing it: there Python
        # could give another thread its turn, and what that counts would be lost.
        self.held += size
        self.segments += segments


def size_of(segments: Sequence[Segment]) -> int:
    """Bytes of all of them."""
    return sum(segment.size for segment in segments)


class Mapping(mmap.mmap):
    """A segment as it is mapped into this process: all that looks into it keeps it. Found by address while it lives."""

    segment: Segment
    start: int

    def __del__(self) -> None:
        forget(self)


_live: dict[int, weakref.ref[Segment]] = {}  # those that this process holds, for whoever wants to see them


class Segment:
    """A piece of shared memory. `fd` is owned from here on; so is `size`, which is counted."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size = fd, size
        self.sealed = False
        self.final = False  # nobody can write it any more
        self.holds_arrow = False
        self.mapped: weakref.ref[Mapping] | None = None
        self.made = False  # by this process; else it was received
        account.held += size
        account.segments += 1
        _live[id(self)] = weakref.ref(self)

    def __del__(self) -> None:
        _live.pop(id(self), None)
        account.held -= self.size
        account.segments -= 1
        os.close(self.fd)

    def seal(self, seals: int) -> None:
        """From now on it has its size, all of its memory, and no new writer. Raises OSError.

        The system counts a page for whoever first wants it. So who made this pays for what was never written, too, and
        not a receiver by looking at it."""
        if not self.sealed:
            if has_holes(os.fstat(self.fd)):
                os.posix_fallocate(self.fd, 0, self.size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
            self.sealed, self.final = True, bool(seals & fcntl.F_SEAL_WRITE)

    def map(self, writable: bool = False) -> Mapping:
        """The memory. Raises Overloaded where there is no room for it among this process's addresses."""
        mapping = self.mapped() if self.mapped is not None else None
        if mapping is None:
            kind, access = (
                (mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) if writable else (PRIVATE, mmap.PROT_READ)
            )
            try:
                if not WITHOUT_DESCRIPTOR and account.segments > FEW:
                    another = os.dup(self.fd)  # as the mapping is about to open one
                    os.close(another)
                    check_files(another)
                mapping = Mapping(self.fd, self.size, flags=kind, prot=access, **WITHOUT_DESCRIPTOR)
            except OSError as error:
                raise no_room(self.size, error) from None
            mapping.segment = self
            self.mapped = weakref.ref(mapping)
            remember(mapping)
        return mapping

    def view(self, offset: int, length: int) -> memoryview:
        """Read-only, without a copy. Raises ValueError for what does not lie in it, Overloaded."""
        if offset + length > self.size:
            raise ValueError(f"a handle to bytes {offset} to {offset + length} of a segment of {self.size}")
        return memoryview(self.map())[offset : offset + length].toreadonly()


FEW = 16  # segments, of which each may take two descriptors and nobody is short of any
PRIVATE = mmap.MAP_PRIVATE  # of pages that nobody writes: the same ones; MAP_SHARED of a sealed memfd needs Linux 6.7
# From Python 3.13 on a mapping need not have a descriptor of its own.
WITHOUT_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if "trackfd" in (mmap.mmap.__doc__ or "") else {}


def check_files(opened: int) -> None:
    """Raises Overloaded where a descriptor is one of the last that this process may open: those it needs itself."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if opened >= files - kept_of(files):  # all before it are open
        raise Overloaded(
            f"process {os.getpid()} has too many files open for another piece of shared memory: of the {files:,} that "
            "it may open (limits.files; ulimit -n) it keeps the last ones for itself"
        )


def no_room(size: int, error: OSError) -> Overloaded:
    return Overloaded(f"{size:,} bytes of shared memory could not be had: {os.strerror(error.errno or 0)}")


def new_segment(size: int) -> Segment:
    """An empty one. Raises Overloaded where the quota, the memory or the descriptors don't suffice."""
    account.check(size)
    try:
        fd = os.memfd_create("mukernel-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise no_room(size, error) from None
    segment = Segment(fd, size)
    segment.made = True
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        raise no_room(size, error) from None
    return segment


def has_holes(status: os.stat_result) -> bool:
    """Is there less memory in it than it has bytes?"""
    return status.st_blocks * BLOCK < status.st_size


def live_segments() -> list[Segment]:
    """All that this process holds."""
    return [each for each in (reference() for reference in list(_live.values())) if each is not None]


def received_segment(fd: int) -> Segment:
    """One that came from a peer; `fd` is owned from here on. Raises ValueError for what could change its size, be
    written by others than its maker, or cost this process the memory that its maker did not pay for; Overloaded where
    it is beyond the quota, or takes one of the last files that this process may open."""
    try:
        seals, status = fcntl.fcntl(fd, fcntl.F_GET_SEALS), os.fstat(fd)  # in this order: sealed, it gets no hole
    except OSError:
        os.close(fd)
        raise ValueError("a descriptor that is no shared memory") from None
    try:
        if seals & KEPT_SIZE != KEPT_SIZE or not seals & (fcntl.F_SEAL_WRITE | FUTURE_WRITE):
            raise ValueError("a segment that is not sealed against writing, growing and shrinking")
        if has_holes(status):
            raise ValueError(
                f"a segment with holes: {status.st_blocks * BLOCK:,} of its {status.st_size:,} bytes have memory, "
                "wanted all of them, made by who sends it"
            )
        check_files(fd)
        account.check(status.st_size)
    except BaseException:
        os.close(fd)
        raise
    segment = Segment(fd, status.st_size)
    segment.sealed, segment.final = True, bool(seals & fcntl.F_SEAL_WRITE)
    return segment


def copied(content: memoryview) -> Segment:
    """One with this content: copied once, by the system, into pages that were not cleared before. Raises Overloaded."""
    segment = new_segment(content.nbytes)
    SegmentFile(segment).write(content)
    try:
        segment.seal(WRITTEN)
    except OSError as error:
        raise no_room(segment.size, error) from None
    return segment


class SegmentFile:
    """A segment as a binary file that is written from its beginning to its end."""

    def __init__(self, segment: Segment) -> None:
        self.segment, self.done, self.closed = segment, 0, False

    def write(self, content: Any) -> int:
        """All of a bytes-like object. Raises Overloaded."""
        left = memoryview(content).cast("B")
        size = len(left)
        if self.done + len(left) > self.segment.size:
            raise ValueError(f"more than the {self.segment.size:,} bytes of the segment")
        try:
            while left:
                count = os.pwrite(self.segment.fd, left[: 1 << 30], self.done)
                left, self.done = left[count:], self.done + count
        except OSError as error:
            raise no_room(self.segment.size, error) from None
        return size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


# -- which segment an address lies in: how a received array, or a slice of it, is known when it is sent on ----------

_starts: list[int] = []
_mappings: dict[int, weakref.ref[Mapping]] = {}


def remember(mapping: Mapping) -> None:
    mapping.start = address_of(memoryview(mapping))
    _mappings[mapping.start] = weakref.ref(mapping)
    bisect.insort(_starts, mapping.start)


def forget(mapping: Mapping) -> None:
    start = getattr(mapping, "start", None)
    if start is not None and _mappings.pop(start, None) is not None:
        _starts.remove(start)


def segment_at(address: int, size: int) -> tuple[Segment, int] | None:
    """The segment in which these bytes of our memory lie, and where in it. Another thread may let go of mappings
    meanwhile; then another is found than is looked for, or none."""
    place = bisect.bisect_right(_starts, address) - 1
    start = next(iter(_starts[place : place + 1]), None) if place >= 0 else None
    reference = _mappings.get(start) if start is not None else None
    mapping = reference() if reference is not None else None
    if mapping is None or not mapping.start <= address <= mapping.start + mapping.segment.size - size:
        return None
    return mapping.segment, address - mapping.start


class PyBuffer(ctypes.Structure):
    """Py_buffer of Python's C interface, as far as we look into it."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t), ("rest", ctypes.c_void_p * 16),
    )  # fmt: skip


def address_of(view: memoryview) -> int:
    """Where its bytes lie. (`ctypes.from_buffer` takes no read-only ones.)"""
    buffer = PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    address: int = buffer.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address
