"""What only sockets have: addresses, greetings, peers that are no peers, and code that blocks."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conformance_actor import Actor, Behaviour, Refused
from conformance_wires import NOW

from mukernel import ContractError, DeadlineExceeded, PluginCrashed, Unavailable, deadline
from mukernel.contract import MethodCodec, RemoteError
from mukernel.kernel.clock import Clock
from mukernel.transports.blocking import BlockingCaller
from mukernel.transports.blocking_socket import BlockingSocketWire
from mukernel.transports.calling import Caller
from mukernel.transports.frame import GREETING, HELLO, LARGEST_GREETING, pack
from mukernel.transports.listening import Address, Listener, connect, connect_blocking, listen
from mukernel.transports.remote import RemoteMethod
from mukernel.transports.served import ServedMethod
from mukernel.transports.serving import Server
from mukernel.transports.socket import LARGEST_BODY, SocketWire

METHODS = {method.name: RemoteMethod(method, MethodCodec(method)) for method in Behaviour.__contract__.methods.values()}


@asynccontextmanager
async def serving(address: str, bound: int = 1024) -> AsyncIterator[tuple[Listener, Actor]]:
    """An actor that is served to whoever connects."""
    actor, server = Actor(), Server(asyncio.get_running_loop(), NOW)
    server.paused = False
    served = [
        ServedMethod(method, MethodCodec(method), getattr(actor, method.name))
        for method in Behaviour.__contract__.methods.values()
    ]

    def accept(wire: SocketWire) -> None:
        server.attach(wire, served)
        wire.listen()

    listener = await listen(address, accept, greeting=b"an actor", bound=bound)
    try:
        yield listener, actor
    finally:
        listener.close()


def arguments(name: str, *values: object) -> bytes:
    return METHODS[name].codec.encode_arguments(values, {})


def blocking_call(caller: BlockingCaller, name: str, *values: object) -> object:
    method = METHODS[name]
    return method.codec.decode_result(caller.call(method, arguments(name, *values)))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/a", Address(path="/run/a")), ("unix:run/a", Address(path="run/a")), ("./a", Address(path="./a")),
        ("tcp:localhost:80", Address(host="localhost", port=80)), ("tcp:[::1]:0", Address(host="::1", port=0)),
    ],
)  # fmt: skip
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "a", "tcp:", "tcp:host", "tcp:host:", "tcp:host:99999", "udp:a:1", "unix:"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="address: got"):
        Address.parse(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
async def test_tcp_is_for_this_machine_unless_it_is_said_otherwise(host: str) -> None:
    with pytest.raises(ContractError, match="public=True"):
        await listen(f"tcp:{host}:0", lambda wire: None)


async def test_a_unix_socket_is_its_owners_alone_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(Unavailable, match="already"):
            await listen(str(path), lambda wire: None)
        assert path.exists()
    assert not path.exists()


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    async with serving(str(path)):
        wire = await connect(str(path))
        assert wire.peer_greeting == b"an actor"
        wire.close()


async def test_nobody_there(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/none", "tcp:127.0.0.1:1"):
        with pytest.raises(Unavailable, match="nobody listens"):
            await connect(address)
        with pytest.raises(Unavailable, match="nobody listens"):
            connect_blocking(address)


async def test_who_knocks_while_there_is_no_descriptor_left_is_let_in_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: asyncio.Future[SocketWire] = asyncio.get_running_loop().create_future()

    def accept(wire: SocketWire) -> None:
        wire.listen()
        accepted.set_result(wire)

    listener = await listen(str(tmp_path / "socket"), accept)
    tries, tried = 0, asyncio.Event()
    knocked = listener.knocked

    def counted() -> None:
        nonlocal tries
        tries += 1
        tried.set()
        knocked()

    monkeypatch.setattr(listener, "knocked", counted)
    listener.loop.remove_reader(listener.socket)
    listener.await_peers()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    lowest = os.dup(connection.fileno())
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        await asyncio.get_running_loop().sock_connect(connection, str(tmp_path / "socket"))
        await tried.wait()
        for _ in range(1000):  # turns in which it does not try again
            await asyncio.sleep(0)
        assert tries < 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    wire = SocketWire(connection, listener.loop)
    wire.listen()
    await accepted
    wire.close()
    listener.close()


async def test_a_peer_that_speaks_something_else(tmp_path: Path) -> None:
    async with serving("tcp:127.0.0.1:0") as (listener, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        answer = await reader.read()  # ends: it was told, and closed
        assert b"no message of mukernel" in answer
        writer.close()
        caller = Caller(wire := await connect(listener.address), asyncio.get_running_loop(), NOW)
        wire.listen()
        assert await caller.call(METHODS["add"], arguments("add", 2))
        wire.close()


async def test_a_greeting_is_bounded() -> None:
    """For what a peer announces that nobody knows yet no memory is reserved."""
    async with serving("tcp:127.0.0.1:0") as (listener, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.address.port)
        writer.write(pack(HELLO, 1 << 30, GREETING, credit=1, deadline=LARGEST_BODY))
        answer = await reader.read()
        assert f"a body of {1 << 30} bytes was announced; at most {LARGEST_GREETING}".encode() in answer
        writer.close()
        wire = await connect(listener.address, greeting=bytes(LARGEST_GREETING))
        assert wire.send(0, 1, bytes(LARGEST_GREETING + 1))  # what comes after that may be larger
        wire.close()
        with pytest.raises(ValueError, match="at most"):
            await connect(listener.address, greeting=bytes(LARGEST_GREETING + 1))


async def test_a_listener_that_speaks_something_else() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP, at your service, and whatever else it takes to be long enough\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match="no message of mukernel"):
        await connect(f"tcp:127.0.0.1:{port}")
    with pytest.raises(Unavailable, match="no message of mukernel"):
        await asyncio.to_thread(connect_blocking, f"tcp:127.0.0.1:{port}")
    server.close()
    await server.wait_closed()


async def test_a_body_that_is_too_large_is_refused_on_this_side(tmp_path: Path) -> None:
    def accept(wire: SocketWire) -> None:
        wire.listen()

    listener = await listen(f"unix:{tmp_path}/s", accept, largest=1000)
    wire = await connect(listener.address, bound=2)
    blocking = await asyncio.to_thread(connect_blocking, listener.address, bound=2)
    for sends in (wire, blocking):
        for body in (bytes(1001), bytearray(1001), memoryview(bytes(8008)).cast("d")):
            with pytest.raises(ValueError, match=r"a body of \d+ bytes; at most 1000"):
                sends.send(0, 1, body)
        # No place in the mailbox went to what was not sent.
        assert [sends.send(0, number, bytes(1000)) for number in (1, 2, 3)] == [True, True, False]
    listener.close()
    wire.close()
    blocking.close()


@pytest.mark.parametrize("address", ["unix:{}/s", "tcp:127.0.0.1:0"])
async def test_a_peer_that_dies_ends_every_call(tmp_path: Path, address: str) -> None:
    async with serving(address.format(tmp_path)) as (listener, actor):
        caller = Caller(wire := await connect(listener.address), asyncio.get_running_loop(), NOW)
        wire.listen()
        calls = [
            asyncio.ensure_future(caller.call(METHODS["hold_call"], arguments("hold_call", str(n)))) for n in range(5)
        ]
        stream = caller.stream(METHODS["hold"], arguments("hold"))
        await anext(stream)
        await actor.held("4")
        listener.close()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, PluginCrashed) for end in ends), ends
        with pytest.raises(PluginCrashed):
            await anext(stream)
        with pytest.raises(Unavailable):
            await caller.call(METHODS["add"], arguments("add", 1))
        await actor.cancelled("4 cancelled")


@pytest.mark.parametrize("address", ["unix:{}/s", "tcp:127.0.0.1:0"])
async def test_threads_call_without_an_event_loop(tmp_path: Path, address: str) -> None:
    async with serving(address.format(tmp_path), bound=4) as (listener, actor):

        def work() -> None:
            wire = connect_blocking(listener.address)
            assert wire.peer_greeting == b"an actor"
            caller = BlockingCaller(wire, NOW)
            assert [blocking_call(caller, "add", 1) for _ in range(20)] == list(range(1, 21))
            for number in range(50):
                caller.oneway(METHODS["note"], arguments("note", str(number)), wait=True)
            assert list(caller.stream(METHODS["count"], arguments("count", 300), wait=True)) == list(range(300))
            upper = caller.stream(METHODS["upper"], arguments("upper"), iter("abc" * 100))
            assert list(upper) == [*("ABC" * 100)]
            with pytest.raises(Refused, match="no"):
                blocking_call(caller, "refuse", "no")
            with pytest.raises(RemoteError, match="nothing"):
                blocking_call(caller, "fail", "nothing")
            with pytest.raises(DeadlineExceeded), deadline(0.3):
                blocking_call(caller, "hold_call", "slow")
            assert len(blocking_call(caller, "notes", 50)) == 50  # type: ignore[arg-type]
            wire.close()

        await asyncio.to_thread(work)
        await actor.cancelled("slow cancelled")


async def test_a_thread_whose_server_dies_is_told(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/s") as (listener, actor):

        def work() -> None:
            caller = BlockingCaller(connect_blocking(listener.address), NOW)
            with pytest.raises(PluginCrashed):
                blocking_call(caller, "hold_call", "x")
            with pytest.raises(Unavailable):
                blocking_call(caller, "add", 1)

        thread = asyncio.create_task(asyncio.to_thread(work))
        await actor.held("x")
        listener.close()
        await thread


def test_this_suite_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    async def once() -> None:
        async with serving(f"unix:{tmp_path}/s") as (listener, _):
            wire = await connect(listener.address)
            wire.close()

    asyncio.run(once())
    gc.collect()  # what earlier tests have left in cycles is not this one's
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        asyncio.run(once())
    assert len(os.listdir("/proc/self/fd")) <= before  # fewer: what earlier tests left may have ended meanwhile


class InterruptedSocket(socket.socket):
    """A signal handler raises when a part of a message was sent."""

    def sendmsg(self, buffers: Any, *rest: Any) -> int:
        parts = [bytes(each) for each in buffers]
        if sum(map(len, parts)) < 1000:
            return super().sendmsg(parts, *rest)
        self.send(parts[0][:10])
        raise KeyboardInterrupt


def test_a_connection_in_which_half_a_message_lies_is_not_used_again() -> None:
    ours, theirs = socket.socketpair()
    caller = BlockingCaller(BlockingSocketWire(InterruptedSocket(fileno=ours.detach())), Clock().now_ns)
    theirs.recv(1000)  # its greeting
    method = Behaviour.__contract__.methods["add"]
    remote = RemoteMethod(method, MethodCodec(method))
    with pytest.raises(KeyboardInterrupt):
        caller.call(remote, b"x" * 5000)
    assert not caller.reusable
    assert len(theirs.recv(1000)) == 10 and theirs.recv(1000) == b""
    theirs.close()


def test_who_waits_for_room_that_was_told_of_meanwhile_goes_on() -> None:
    ours, theirs = socket.socketpair()
    wire = BlockingSocketWire(ours)
    wire.accepted = wire.bound
    wire.reader.taken = 1  # as has just been read
    wire.wait_for_room(-1)  # nobody will say so again
    wire.close()
    theirs.close()
