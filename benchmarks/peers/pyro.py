"""Peer: Pyro5 over a Unix socket, with the quicker of the serialisers that it brings itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from benchmarks.peers import Client, require, server_process

api = require("Pyro5.api", "Pyro5")

OBJECT = "echo"

# Its default, serpent, writes Python literals; marshal takes about half the time for a whole call. The server
# answers in the serialiser of the request.
api.config.SERIALIZER = "marshal"


class Echo:
    """The served object."""

    def echo(self, data: bytes) -> bytes:
        """Return `data`."""
        return data


def serve(address: str) -> None:
    """Echo at the Unix socket `address`."""
    with api.Daemon(unixsocket=address) as daemon:
        daemon.register(api.expose(Echo), OBJECT)
        server_process.ready()
        daemon.requestLoop()


@contextlib.contextmanager
def connect() -> Iterator[Client]:
    """Start the server and yield a client of it."""
    with (
        server_process.socket_path() as path,
        server_process.running(__name__, path),
        api.Proxy(f"PYRO:{OBJECT}@./u:{path}") as proxy,
    ):
        yield Client(proxy.echo)


if __name__ == "__main__":
    server_process.main(serve)
