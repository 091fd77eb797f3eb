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
    async def open_files(self) -> int: ...


class Threaded(Plugin, Client):
    def __init__(self, server: Blocking[Server], one: Server) -> None:
        self.server, self.one = server, one

    def greet(self) -> str:
        return self.server.greet("thread")

    async def slowly(self) -> str:
        return await self.one.greet("loop")

    async def open_files(self) -> int:
        return len(os.listdir("/proc/self/fd"))


class ThreadedAndNeverCollecting(Threaded):
    def __init__(self, server: Blocking[Server], one: Server) -> None:
        gc.disable()
        super().__init__(server, one)


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
        await assert_it_has_open(before, server)


async def test_a_caller_has_no_descriptors_of_servers_that_left() -> None:
    """As above. The kernel, which calls both, is a caller, too."""
    async with Kernel() as kernel:
        await kernel.load(NeverCollecting, name="server", placement="process")
        await kernel.load(ThreadedAndNeverCollecting, name="client", placement="process", threads=4)
        client = kernel.get(Client)

        async def scaled_and_loaded_anew() -> None:
            await kernel.scale("server", 3)
            await asyncio.gather(*(client.slowly() for _ in range(20)), *(client.greet() for _ in range(20)))
            await kernel.scale("server", 1)
            await kernel.unload("server")
            await kernel.load(NeverCollecting, name="server", placement="process")
            await asyncio.gather(*(client.slowly() for _ in range(20)), *(client.greet() for _ in range(20)))

        await scaled_and_loaded_anew()  # every thread has its own by now
        before, here = await client.open_files(), len(os.listdir("/proc/self/fd"))
        gc.disable()
        try:
            for _ in range(3):
                await scaled_and_loaded_anew()
            await assert_it_has_open(before, client)
            assert len(os.listdir("/proc/self/fd")) <= here
        finally:
            gc.enable()


async def assert_it_has_open(files: int, plugin: Server | Client) -> None:
    for _ in range(10_000):  # it is told of the last ones by and by
        if await plugin.open_files() <= files:
            break
    assert await plugin.open_files() <= files
