"""Link: how the kernel and a process command each other, and hand on the rights to channels."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

LARGEST_CONTROL_MESSAGE = 128 * 1024  # bytes; more travels in a memfd of its own
LARGEST_RIGHTS = 250  # file descriptors in one message (SCM_MAX_FD is 253)


class Link:
    """A control connection between the kernel and a process: whole messages, with file descriptors.

    Writes never block: what the socket won't take waits in order and leaves by `flush`, which the owner calls when the
    socket is writable (`backlog` says whether that is needed).
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.backlog: list[tuple[bytes, list[int]]] = []

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
        loop.add_reader(self.socket, readable)

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self.socket)
        loop.remove_writer(self.socket)

    def send(self, data: bytes, rights: Sequence[int] = ()) -> None:
        """Send one message; `rights` are duplicated, the caller keeps its own. Raises OSError when the peer is gone."""
        held = [os.dup(fd) for fd in rights]
        large = len(data) > LARGEST_CONTROL_MESSAGE
        if large:
            held.append(os.memfd_create("mukernel-control", os.MFD_CLOEXEC))
            os.write(held[-1], data)
        self.backlog.append((b"\x01" if large else b"\x00" + data, held))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self.backlog:
            data, held = self.backlog[0]
            try:
                socket.send_fds(self.socket, [data], held)
            except (BlockingIOError, InterruptedError):
                return
            self.backlog.pop(0)
            for fd in held:
                os.close(fd)

    def receive(self) -> tuple[bytes, list[int]] | None:
        """One message and the rights that came with it (owned by the caller); None when there is none now.

        Raises ConnectionError when the peer has closed.
        """
        try:
            data, fds, _, _ = socket.recv_fds(
                self.socket, LARGEST_CONTROL_MESSAGE + 1, LARGEST_RIGHTS, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise ConnectionError(str(error)) from None
        if not data:
            raise ConnectionError("the peer has closed the link")
        if data[0] == 1 and fds:
            memory = fds.pop()
            try:
                return os.pread(memory, os.fstat(memory).st_size, 0), fds
            finally:
                os.close(memory)
        return data[1:], fds

    def close(self) -> None:
        """Close the link and every right that was not sent."""
        for _, held in self.backlog:
            for fd in held:
                os.close(fd)
        self.backlog.clear()
        self.socket.close()
