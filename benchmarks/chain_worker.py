"""One chain, in processes of its own whose rings all wait by one policy: `python -m benchmarks.chain_worker`.

The policy is chosen when the ring is imported, so each policy needs processes of its own. The worker is told
what to measure over a socket, one line of JSON each way, and sleeps between.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket

from benchmarks.peers import server_process

WAITING = "MUKERNEL_WAITING"
"""The environment variable that the ring reads: a fixed policy, or empty for mukernel's own."""


def serve(address: str) -> None:
    """`address`: the policy, a colon, the file descriptor of the socket."""
    policy, _, descriptor = address.partition(":")
    os.environ[WAITING] = policy
    asyncio.run(measure_as_told(socket.socket(fileno=int(descriptor))))


async def measure_as_told(connection: socket.socket) -> None:
    # Only now: the ring reads the environment when it is imported.
    from benchmarks.chain_plugins import LINKS, Driver, Driving
    from mukernel import Kernel

    async with Kernel() as kernel:
        for link in reversed(LINKS):
            await kernel.load(link, placement="process")
        await kernel.load(Driver, placement="process")
        driver = kernel.get(Driving)
        reader, writer = await asyncio.open_connection(sock=connection)
        server_process.ready()
        while line := await reader.readline():
            depth, seconds = json.loads(line)
            writer.write(json.dumps(await driver.measure(depth, seconds)).encode() + b"\n")


if __name__ == "__main__":
    server_process.main(serve)
