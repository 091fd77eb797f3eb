"""What a channel held is given back as it ends, by both of its sides."""

from __future__ import annotations

import asyncio
import gc
import os

from mukernel import Blocking, Interface, Kernel, Plugin


class Server(Interface, version="1.0"):
    async def open_files(self) -> int: ...
    async def greet(self, name: str) -> str: ...


class NeverCollecting(Plugin, Server):
    def __init__(self) -> None:
        gc.disable()

    async def open_files(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    async def greet(self, name: str) -> str:
        return f"Hello, {name}"


class Client(Interface, version="1.0"):
    async def greet(self) -> str: ...
    async def slowly(self) -> str: ...


class Threaded(Plugin, Client):
    def __init__(self, server: Blocking[Server], one: Server) -> None:
        self.server, self.one = server, one

    def greet(self) -> str:
        return self.server.greet("thread")

    async def slowly(self) -> str:
        return await self.one.greet("loop")


async def test_a_server_has_no_descriptors_of_callers_that_left() -> None:
    """Whether Python's cyclic collector runs there or not: a server that allocates little never runs it."""
    async with Kernel() as kernel:
        await kernel.load(NeverCollecting, name="server", placement="process")
        server = kernel.get(Server)
        before = await server.open_files()
        await kernel.load(Threaded, name="client", placement="process", threads=4)
        client = kernel.get(Client)
        for _ in range(3):
            await asyncio.gather(client.slowly(), *(client.greet() for _ in range(8)))
            assert await server.open_files() > before
            await kernel.swap("client", Threaded)
        await kernel.unload("client")
        for _ in range(10_000):  # it is told of the last ones by and by
            if await server.open_files() == before:
                break
        assert await server.open_files() == before
