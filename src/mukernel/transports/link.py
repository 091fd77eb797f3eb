"""Link: how the kernel and a process command each other, and hand on the rights to channels."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Sequence

from .context import watch
from .descriptors import close_all, duplicated, none_left

TOO_MANY = (
    "too many descriptors of this user are on their way: some process sends what nobody receives, and the system lets "
    "no process of the same user whose own limit (RLIMIT_NOFILE) is below their number send more"
)
LARGEST_CONTROL_MESSAGE = 128 * 1024  # bytes; more travels in a memfd of its own
LARGEST_MESSAGE = 1 << 30  # bytes, as of a call's body; a memfd may claim to be larger
# Plain integers: to join members of an enumeration takes longer than the call of the system.
RECEIVING = int(socket.MSG_CMSG_CLOEXEC) | int(socket.MSG_DONTWAIT)
CUT_OFF = int(socket.MSG_CTRUNC)
LARGEST_RIGHTS = 250  # file descriptors in one packet (SCM_MAX_FD is 253); more come in packets of their own, before it
MOST_RIGHTS = 4 * 4096  # with one message
WHOLE, IN_MEMORY, RIGHTS = 0, 1, 2  # the first byte of a packet: what it holds; the last, rights of the message to come
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE  # of a message's memfd: it stays as it was sent
BLOCK = 512  # bytes: what the system counts by what a file takes up


class Link:
    """A control connection between the kernel and a process: whole messages, with file descriptors.

    Writes never block: what the socket won't take waits in order and leaves by `flush`, which the owner calls when the
    socket is writable (`backlog` says whether that is needed). `largest`: bytes of a message that is received, and
    `most_rights` how many rights come with it; a larger one is as good as garbage.
    """

    largest, most_rights = LARGEST_MESSAGE, MOST_RIGHTS

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.backlog: list[tuple[bytes, list[int]]] = []
        self.early: list[int] = []  # rights of a message of which not all has come
        self.lacking = False  # some of them could not be received

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 2 * LARGEST_CONTROL_MESSAGE)
        return ends

    def fileno(self) -> int:
        return self.socket.fileno()

    def watch(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        """Let the loop call `readable()` whenever there may be something to receive."""
        watch(loop, self.socket.fileno(), readable)  # selectors make a text of a new object

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self.socket)
        loop.remove_writer(self.socket)

    def send(self, data: bytes, rights: Sequence[int] = ()) -> None:
        """Send one message; `rights` are duplicated, the caller keeps its own. Raises OSError when the peer is gone, or
        Overloaded where this process may open no more files."""
        packet = bytes([WHOLE]) + data
        held: list[int] = []
        try:
            held += duplicated(rights)
            if len(data) > LARGEST_CONTROL_MESSAGE:
                packet = bytes([IN_MEMORY])
                held.append(in_memory(data))
        except OSError as error:
            close_all(held)
            raise none_left(error, "a message and its rights") from None
        while len(held) > LARGEST_RIGHTS:
            self.backlog.append((bytes([RIGHTS]), held[:LARGEST_RIGHTS]))
            del held[:LARGEST_RIGHTS]
        self.backlog.append((packet, held))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self.backlog:
            data, held = self.backlog[0]
            try:
                socket.send_fds(self.socket, [data], held)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    raise OSError(error.errno, TOO_MANY) from None
                raise
            self.backlog.pop(0)
            close_all(held)

    def receive(self) -> tuple[bytes, list[int]] | None:
        """One message and the rights that came with it (owned by the caller); None when there is none now. Where this
        process may not open as many files it gets none of the rights.

        Raises ConnectionError when the peer has closed, or sent what nobody sends.
        """
        while True:
            try:
                data, fds, whole = receive_rights(self.socket, LARGEST_CONTROL_MESSAGE + 1, LARGEST_RIGHTS)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                raise ConnectionError(str(error)) from None
            self.early += fds
            self.lacking |= not whole
            if not data:
                raise ConnectionError("the peer has closed the link")
            if data[0] != RIGHTS:
                break
            if len(self.early) >= self.most_rights or (whole and len(fds) < LARGEST_RIGHTS):
                raise ConnectionError(
                    f"more rights come with a message than {self.most_rights}, or less than announced"
                )
        if self.lacking:
            close_all(self.early)
            self.early, self.lacking = [], False
        fds, self.early = self.early, []
        if data[0] == IN_MEMORY and fds:
            memory = fds.pop()
            try:
                return sealed_content(memory, self.largest), fds
            except OSError as error:  # what it sent can't be read
                close_all(fds)
                raise ConnectionError(str(error)) from None
            except BaseException:
                close_all(fds)
                raise
            finally:
                os.close(memory)
        return data[1:], fds

    def close(self) -> None:
        """Close the link and every right that was not sent."""
        for _, held in self.backlog:
            close_all(held)
        self.backlog.clear()
        close_all(self.early)
        self.early.clear()
        self.socket.close()


def receive_rights(connection: socket.socket, size: int, most: int) -> tuple[bytes, list[int], bool]:
    """One message of at most `size` bytes and the descriptors beside it, at most `most`, which no child inherits; it
    does not wait for one. Last: are these all that came? Not where this process may open no more files.

    Raises OSError. (`socket.recv_fds` forgets its flags, MSG_CMSG_CLOEXEC among them.)
    """
    data, ancillary, found, _ = connection.recvmsg(size, socket.CMSG_SPACE(4 * most), RECEIVING)
    passed = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            passed.frombytes(content[: len(content) // 4 * 4])
    return data, list(passed), not found & CUT_OFF


def sealed_content(memory: int, most: int) -> bytes:
    """What a memfd holds that nobody can change any more. Raises OSError for any other file, which might let its reader
    wait, for one larger than `most` bytes, and for one with holes: to read it would cost what it has cost nobody."""
    if fcntl.fcntl(memory, fcntl.F_GET_SEALS) & SEALS != SEALS:
        raise ConnectionError("a control message in memory that can still be changed")
    found = os.fstat(memory)
    if found.st_size > most:
        raise ConnectionError(f"a control message of {found.st_size} bytes; the largest has {most}")
    if found.st_blocks * BLOCK < found.st_size:
        raise ConnectionError(f"a control message that claims {found.st_size} bytes and holds fewer")
    return os.pread(memory, found.st_size, 0)


def in_memory(data: bytes) -> int:
    """A memfd with a message that stays as it is. Raises OSError."""
    memory = os.memfd_create("mukernel-control", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(memory, data)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(memory)
        raise
    return memory
