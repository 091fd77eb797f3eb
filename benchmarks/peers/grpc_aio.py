"""Peer: grpcio's asyncio interface, unary calls over a Unix socket, both sides on an event loop.

Raw bytes, as in `grpc_sync`. uvloop in place of asyncio's loop made no difference above the noise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.peers import AsyncClient, require, server_process

grpc = require("grpc", "grpcio")
aio = require("grpc.aio", "grpcio")

SERVICE = "benchmarks.Echo"
METHOD = "Echo"


def serve(address: str) -> None:
    """Echo at the Unix socket `address`."""
    asyncio.run(_serve(address))


async def _serve(address: str) -> None:
    async def echo(data: bytes, _context: Any) -> bytes:
        return data

    server = aio.server()
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{address}")
    await server.start()
    server_process.ready()
    await server.wait_for_termination()


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[AsyncClient]:
    """Start the server and yield a client of it. The loop stands still while the server starts."""
    with server_process.socket_path() as path, server_process.running(__name__, path):
        async with aio.insecure_channel(f"unix:{path}") as channel:
            yield AsyncClient(channel.unary_unary(f"/{SERVICE}/{METHOD}"))


if __name__ == "__main__":
    server_process.main(serve)
