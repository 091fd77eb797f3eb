"""Peer: grpcio, blocking unary calls over a Unix socket.

Raw bytes: no generated code is needed, and no protobuf is timed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.peers import Client, require, server_process

grpc = require("grpc", "grpcio")

SERVICE = "benchmarks.Echo"
METHOD = "Echo"


def serve(address: str) -> None:
    """Echo at the Unix socket `address`."""

    def echo(data: bytes, _context: Any) -> bytes:
        return data

    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{address}")
    server.start()
    server_process.ready()
    server.wait_for_termination()


@contextlib.contextmanager
def connect() -> Iterator[Client]:
    """Start the server and yield a client of it."""
    with (
        server_process.socket_path() as path,
        server_process.running(__name__, path),
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        yield Client(channel.unary_unary(f"/{SERVICE}/{METHOD}"))


if __name__ == "__main__":
    server_process.main(serve)
