"""Pairs of wires of every transport, both ends in one event loop, with a server that a test can reach into."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance_actor import Actor, Behaviour
from conformance_values import Everything, Mirror

from mukernel.contract import Interface, MethodCodec
from mukernel.kernel import ipc
from mukernel.kernel.clock import Clock
from mukernel.transports import memory, packets
from mukernel.transports.calling import Caller
from mukernel.transports.contract import Wire
from mukernel.transports.listening import connect, listen
from mukernel.transports.packet_wire import PacketWire
from mukernel.transports.remote import RemoteMethod
from mukernel.transports.served import ServedMethod
from mukernel.transports.serving import Server
from mukernel.transports.socket import SocketWire

if ipc.ring is not None:
    from mukernel.transports.ring import CallerRingWire, Poller, RingWire, ServerRingWire

TRANSPORTS = ["ring", "packets", "memory", "socket-unix", "socket-tcp"]
MAILBOXES = ["ring", "packets", "memory"]  # whose mailbox outlives its reader
if ipc.ring is None:  # not compiled here
    TRANSPORTS.remove("ring")
    MAILBOXES.remove("ring")
NOW = Clock().now_ns


@dataclass
class Pair:
    """Two ends. `successor()` makes another server's end; `forge(bytes)` writes where the caller does."""

    caller: Wire
    server: Wire
    successor: Callable[[], Wire]
    forge: Callable[[bytes], None]
    endings: list[Callable[[], object]] = field(default_factory=list)


@asynccontextmanager
async def pair(transport: str, folder: Path, bound: int = 1024) -> AsyncIterator[Pair]:
    made = await {"ring": ring_pair, "packets": packet_pair, "memory": memory_pair}.get(transport, socket_pair)(
        transport, folder, bound
    )
    made.caller.listen()
    made.server.listen()
    try:
        yield made
    finally:
        made.caller.close()
        made.server.close()
        for ending in made.endings:
            ending()


async def ring_pair(transport: str, folder: Path, bound: int) -> Pair:
    poller = Poller(asyncio.get_running_loop())
    fd, beside, bell = ipc.ring.create_channel(), ipc.ring.create_channel(slots=1), poller.waiter.ringer

    def end(side: str) -> RingWire:
        kind = CallerRingWire if side == "caller" else ServerRingWire
        return kind(poller, os.dup(fd), os.dup(beside), os.dup(bell), bound)

    def forge(data: bytes) -> None:  # over the first records of the requests, and far beyond
        mapping = ipc.ring.Mapping(os.dup(fd))
        start = 4096 + 1024 * 24
        os.pwrite(mapping.fd, data * (4096 // len(data) + 1), start // 4096 * 4096)
        os.pwrite(mapping.fd, data[:8], 512)  # the field `tail`
        os.write(bell, b"!")

    return Pair(
        end("caller"),
        end("server"),
        lambda: end("server"),
        forge,
        [poller.close, lambda: (os.close(fd), os.close(beside))],
    )


async def packet_pair(transport: str, folder: Path, bound: int) -> Pair:
    loop = asyncio.get_running_loop()
    server, caller, owned, _ = packets.make_channel(-1, -1)

    def end(side: str, rights: list[int]) -> PacketWire:
        return PacketWire(loop, [os.dup(fd) for fd in rights], side, bound)

    return Pair(
        end("caller", caller), end("server", server), lambda: end("server", server),
        lambda data: void(os.write(caller[1], data)), [lambda: [os.close(fd) for fd in owned]],
    )  # fmt: skip


async def memory_pair(transport: str, folder: Path, bound: int) -> Pair:
    loop = asyncio.get_running_loop()
    channel = memory.MemoryChannel()
    ends = [memory.MemoryWire(loop, channel, side, bound) for side in ("caller", "server")]
    return Pair(ends[0], ends[1], lambda: memory.MemoryWire(loop, channel, "server", bound), lambda data: None)


async def socket_pair(transport: str, folder: Path, bound: int) -> Pair:
    accepted: asyncio.Future[SocketWire] = asyncio.get_running_loop().create_future()
    address = f"unix:{folder}/s{len(os.listdir(folder))}" if transport == "socket-unix" else "tcp:127.0.0.1:0"
    listener = await listen(address, accepted.set_result, bound=bound)
    caller = await connect(listener.address, bound=bound)
    return Pair(
        caller, await accepted, lambda: caller, lambda data: void(caller.socket.send(data)), [listener.close]
    )  # fmt: skip


def void(_: object) -> None:
    return None


class Peer:
    """A caller and a server over a pair of wires; `actor` is the plug-in that is served."""

    def __init__(self, wires: Pair, interface: type[Interface] = Behaviour, concurrency: int | None = None) -> None:
        self.wires, self.interface, self.concurrency = wires, interface, concurrency
        self.loop = asyncio.get_running_loop()
        self.caller = Caller(wires.caller, self.loop, NOW)
        self.remotes = {
            method.name: RemoteMethod(method, MethodCodec(method)) for method in interface.__contract__.methods.values()
        }
        self.serve(wires.server)

    def serve(self, wire: Wire) -> None:
        self.actor: Any = Actor() if self.interface is Behaviour else Mirror()
        self.server = Server(self.loop, NOW, concurrency=self.concurrency)
        self.server.paused = False
        self.also_serve(wire)

    def also_serve(self, wire: Wire) -> None:
        methods = self.interface.__contract__.methods.values()
        self.server.attach(
            wire, [ServedMethod(each, MethodCodec(each), getattr(self.actor, each.name)) for each in methods]
        )
        self.server.pump(wire)

    async def call(self, name: str, *args: Any, wait: bool = False) -> Any:
        method = self.remotes[name]
        return method.codec.decode_result(await self.caller.call(method, method.codec.encode_arguments(args, {}), wait))

    def stream(self, name: str, *args: Any, inputs: Any = None) -> AsyncIterator[Any]:
        method = self.remotes[name]
        return self.caller.stream(method, method.codec.encode_arguments(args, {}), inputs)


__all__ = ["MAILBOXES", "TRANSPORTS", "Everything", "Pair", "Peer", "pair"]
