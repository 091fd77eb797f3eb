"""Peer: `multiprocessing.Pipe`, whose `send` and `recv` pickle: what a script without a library would do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from benchmarks.peers import Client, server_process


def serve(address: str) -> None:
    """Echo over the connection whose file descriptor is `address`."""
    connection: Connection = Connection(int(address))
    server_process.ready()
    with contextlib.suppress(EOFError):
        while True:
            connection.send(connection.recv())


@contextlib.contextmanager
def connect() -> Iterator[Client]:
    """Start the server and yield a client of it."""
    ours, theirs = Pipe()
    with ours, theirs:
        descriptor = theirs.fileno()
        with server_process.running(__name__, str(descriptor), pass_fds=(descriptor,)):
            # With our copy closed, a server that dies is an EOFError here and not a wait without end.
            theirs.close()

            def call(data: bytes) -> bytes:
                ours.send(data)
                reply: bytes = ours.recv()
                return reply

            yield Client(call)


if __name__ == "__main__":
    server_process.main(serve)
