"""Peer: RPyC over a Unix socket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from benchmarks.peers import Client, require, server_process

rpyc = require("rpyc", "rpyc")
server = require("rpyc.utils.server", "rpyc")
factory = require("rpyc.utils.factory", "rpyc")


def exposed_echo(_service: object, data: bytes) -> bytes:
    """Return `data`; RPyC passes bytes by value."""
    return data


def serve(address: str) -> None:
    """Echo at the Unix socket `address`."""
    # Built by hand: a class statement cannot derive from a base that a type checker has not seen.
    service = type("EchoService", (rpyc.Service,), {"exposed_echo": exposed_echo})
    listener = server.ThreadedServer(service, socket_path=address)
    # `start` listens and then blocks. Listening by hand before it lets an early client wait in the backlog.
    listener.listener.listen(listener.backlog)
    server_process.ready()
    listener.start()


@contextlib.contextmanager
def connect() -> Iterator[Client]:
    """Start the server and yield a client of it."""
    with (
        server_process.socket_path() as path,
        server_process.running(__name__, path),
        contextlib.closing(factory.unix_connect(path)) as connection,
    ):
        # Looked up once: `connection.root.echo` for every call would be a second round trip.
        yield Client(connection.root.echo)


if __name__ == "__main__":
    server_process.main(serve)
