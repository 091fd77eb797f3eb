"""What every wire does, and what it does about a peer that dies or writes garbage."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conformance_wires import TRANSPORTS, Everything, Peer, pair

from mukernel import ContractError, Overloaded, PermissionDenied, PluginCrashed, Unavailable
from mukernel.contract.faults import encode_fault
from mukernel.transports.calling import STREAM_CREDIT, Caller
from mukernel.transports.contract import WHOLE_WIRE, Wire
from mukernel.transports.kind import Kind
from mukernel.transports.message import Message

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)
BODIES = [0, 1, 63, 64, 65, 4095, 16_384, 16_385, 32_768, 32_769, 1 << 17, 1 << 18, (1 << 18) + 1, 1 << 20]


async def gathered(wire: Wire, count: int) -> list[tuple[object, ...]]:
    """The next `count` messages of a wire: every field, and the body."""
    got: list[tuple[object, ...]] = []
    done = asyncio.Event()

    def receive(wire: Wire) -> None:
        while (message := wire.peek()) is not None:
            body = message.take()
            got.append((
                message.kind, message.call, body, message.method, message.interface, message.priority, message.credit,
                message.trace_high, message.trace_low, message.span,
            ))  # fmt: skip
        if len(got) >= count or wire.closed is not None:
            done.set()

    wire.receiver = receive
    receive(wire)
    await done.wait()
    return got


async def test_messages_arrive_whole_in_order_with_every_field(transport: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    async with pair(transport, tmp_path) as wires:
        sent = []
        for number in range(1, 400):
            body = chance.randbytes(chance.choice(BODIES) if number % 20 == 0 else chance.randrange(300))
            trace = tuple(chance.randrange(1, 1 << 64) for _ in range(3))
            fields = chance.randrange(1 << 16), chance.randrange(1 << 16), chance.randrange(-128, 128)
            credit = chance.randrange(1 << 32)
            wires.server.post(Kind.ITEM, number, body, *fields, 0, credit, 0, trace)
            sent.append((Kind.ITEM, number, body, *fields, credit, *trace))
        assert await gathered(wires.caller, len(sent)) == sent


async def test_bodies_of_every_size_both_ways(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        mirror = Peer(wires, Everything)
        pattern = random.Random(1).randbytes(1 << 20)
        for size in BODIES:
            assert await mirror.call("raw", pattern[:size]) == pattern[:size]
        large = pattern * 64
        assert await mirror.call("raw", large) == large


async def test_a_mailbox_holds_as_many_calls_as_it_may(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path, bound=16) as wires:
        peer = Peer(wires)
        peer.server.paused = True
        calls = [asyncio.ensure_future(peer.call("add", 1)) for _ in range(16)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="full"):
            await peer.call("add", 1)
        patient = [asyncio.ensure_future(peer.call("add", 1, wait=True)) for _ in range(100)]
        await asyncio.sleep(0)
        peer.server.resume()
        assert await asyncio.gather(*calls, *patient) == list(range(1, 117)), "they were not served in turn"


async def test_who_waits_for_room_may_give_up(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path, bound=4) as wires:
        peer = Peer(wires)
        peer.server.paused = True
        calls = [asyncio.ensure_future(peer.call("add", 1)) for _ in range(4)]
        waiting = [asyncio.ensure_future(peer.call("add", 1, wait=True)) for _ in range(10)]
        await asyncio.sleep(0)
        for call in waiting[::2]:
            call.cancel()
        peer.server.resume()
        ends = await asyncio.gather(*calls, *waiting, return_exceptions=True)
        assert [end for end in ends if isinstance(end, int)] == list(range(1, 10))


async def test_what_may_not_be_refused_waits_for_room(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        body = bytes(10_000)
        for number in range(1, 1001):  # more than any transport has room for
            wires.server.post(Kind.ITEM, number, body)
        got = await gathered(wires.caller, 1000)
        assert [message[1] for message in got] == list(range(1, 1001))


async def test_a_closed_wire_sends_nothing_and_tells_its_owner_once(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        peer, told = Peer(wires), []
        waiting = [asyncio.ensure_future(peer.call("hold_call", "x")) for _ in range(3)]
        stream = peer.stream("hold")
        await anext(stream)
        closed = wires.caller.on_closed
        wires.caller.on_closed = lambda wire, why: (told.append(why), closed(wire, why))[0]
        wires.caller.close("enough")
        wires.caller.close("again")
        assert told == ["enough"]
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, PluginCrashed) and "enough" in str(end) for end in ends)
        with pytest.raises(PluginCrashed, match="enough"):
            await anext(stream)
        with pytest.raises(Unavailable, match="enough"):
            await peer.call("add", 1)
        assert not wires.caller.send(Kind.ITEM, 1, b"")


async def test_what_the_other_side_said_last_is_heard_though_sending_fails_first(
    transport: str, tmp_path: Path
) -> None:
    async with pair(transport, tmp_path) as wires, asyncio.timeout(10):
        peer = Peer(wires)
        call = asyncio.ensure_future(peer.call("hold_call", "x"))
        await peer.actor.held("x")
        wires.server.post(Kind.ERROR, WHOLE_WIRE, encode_fault(PermissionDenied("revoked")))
        wires.server.close()
        if transport == "packets":
            wires.endings.pop()()  # its other descriptors, as those of a kernel
        late = asyncio.ensure_future(peer.call("add", 1))
        wires.caller.post(Kind.CREDIT, 1, b"", 0, 0, 0, 0, 1)  # before it has read any of that
        for each in (call, late):
            with pytest.raises(PermissionDenied, match="revoked"):
                await each


async def test_a_server_that_is_detached_cancels_what_it_runs(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        call = asyncio.ensure_future(peer.call("hold_call", "x"))
        await peer.actor.held("x")
        wires.server.close("the caller is gone")
        await peer.actor.cancelled("x cancelled")
        call.cancel()


@pytest.mark.parametrize("seed", range(5))
async def test_garbage_closes_the_channel_and_nothing_else(transport: str, tmp_path: Path, seed: int) -> None:
    if transport == "memory":
        return  # objects, not bytes: there is no way to write garbage
    async with pair(transport, tmp_path) as wires, pair(transport, tmp_path) as others:
        peer, other = Peer(wires), Peer(others)
        peer.server = other.server  # one server, two callers
        peer.actor = other.actor
        peer.also_serve(wires.server)
        call = asyncio.ensure_future(peer.call("hold_call", "x"))
        await peer.actor.held("x")
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        detached = wires.server.on_closed
        wires.server.on_closed = lambda wire, why: (closed.set_result(why), detached(wire, why))[1]
        wires.forge(b"\xff" + random.Random(seed).randbytes(299))
        assert await closed
        with pytest.raises((PluginCrashed, Unavailable), match="connection"):
            await call
        await other.actor.cancelled("x cancelled")
        assert await other.call("add", 5) == 5


@pytest.mark.parametrize("body", [b"\xc1", b"", b"\x93\x01\xd9\xff\xa0"])
async def test_an_error_that_is_garbage_ends_its_own_call_alone(transport: str, tmp_path: Path, body: bytes) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        stream, other = peer.stream("hold"), asyncio.ensure_future(peer.call("hold_call", "y"))
        await anext(stream)
        call = asyncio.ensure_future(peer.call("hold_call", "x"))
        await peer.actor.held("x")
        for number in (*peer.caller.streams, max(peer.caller.pending)):
            wires.server.post(Kind.ERROR, number, body)
        for ending in (call, anext(stream)):
            with pytest.raises(ContractError, match=r"Behaviour\.hold\w*: a malformed error arrived"):
                async with asyncio.timeout(5):
                    await ending
        assert await peer.call("add", 5) == 5
        assert wires.caller.closed is None and not other.done()
        other.cancel()


@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.ERROR, Kind.INTERRUPTED, Kind.ITEM])
async def test_an_answer_to_a_call_that_was_never_made_ends_those_that_wait(
    transport: str, tmp_path: Path, kind: Kind
) -> None:
    """A number was overwritten in the channel: the call that it stood for would wait for ever."""
    async with pair(transport, tmp_path) as wires, asyncio.timeout(10):
        peer = Peer(wires)
        stream, call = peer.stream("hold"), asyncio.ensure_future(peer.call("hold_call", "x"))
        await anext(stream)
        await peer.actor.held("x")
        cancelled = asyncio.ensure_future(peer.call("hold_call", "y"))
        await peer.actor.held("y")
        (number,) = {*peer.caller.pending} - {min(peer.caller.pending)}
        cancelled.cancel()
        await asyncio.wait([cancelled])
        wires.server.post(kind, number, b"")  # nobody waits for it any more, but somebody did
        assert await peer.call("add", 5) == 5
        wires.server.post(kind, 99_999, b"")
        for ending in (call, anext(stream)):
            with pytest.raises(PluginCrashed, match="an answer came to a call that was never made"):
                await ending


async def test_more_items_than_there_was_credit_for_break_the_wire(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires, asyncio.timeout(10):
        peer = Peer(wires)
        stream = peer.stream("hold")
        await anext(stream)
        (number,) = peer.caller.streams
        for _ in range(STREAM_CREDIT - 1):
            wires.server.post(Kind.ITEM, number, b"\x07")
        assert await peer.call("add", 5) == 5  # its reply came behind them
        wires.server.post(Kind.ITEM, number, b"\x07")
        with pytest.raises(PluginCrashed, match="more items came than there was credit for: 64"):
            await peer.call("hold_call", "x")
        assert [await anext(stream) for _ in range(STREAM_CREDIT - 1)] == [7] * (STREAM_CREDIT - 1)
        with pytest.raises(PluginCrashed, match="more items came than there was credit for: 64"):
            await anext(stream)
        await peer.actor.cancelled("hold")


async def test_more_inputs_than_there_was_credit_for_break_the_wire(transport: str, tmp_path: Path) -> None:
    async def once() -> AsyncIterator[str]:
        yield "a"
        await asyncio.Event().wait()

    async with pair(transport, tmp_path) as wires, asyncio.timeout(10):
        peer = Peer(wires)
        stream = peer.stream("upper", inputs=once())
        assert await anext(stream) == "A"
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        tell = wires.caller.on_closed
        wires.caller.on_closed = lambda wire, why: (closed.set_result(why), tell(wire, why))[1]
        # The method stands still as soon as nobody reads what it yields: it takes fewer than twice its credit.
        for _ in range(3 * STREAM_CREDIT):
            wires.caller.post(Kind.ITEM, next(iter(peer.caller.streams)), b"\xa1b")
        assert "upper: more items came than there was credit for: 64" in await closed


async def test_more_credit_than_a_stream_has_breaks_the_wire(transport: str, tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "a"
            await asyncio.sleep(0)

    async with pair(transport, tmp_path) as wires, asyncio.timeout(10):
        peer = Peer(wires)
        stream = peer.stream("upper", inputs=endless())
        assert await anext(stream) == "A"
        (number,) = peer.caller.streams
        wires.server.post(Kind.CREDIT, number, b"", 0, 0, 0, 0, 1 << 31)
        with pytest.raises(PluginCrashed, match="more credit came than a stream has: 64"):
            await peer.call("hold_call", "x")


async def test_two_calls_of_one_number_are_garbage(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires, concurrency=1)
        number = peer.remotes["hold_call"].index
        body = peer.remotes["hold_call"].codec.encode_arguments(("x",), {})
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        wires.server.on_closed = lambda wire, why: closed.set_result(why)
        for _ in range(3):
            wires.caller.send(Kind.CALL, 77, body, number)
        assert "call number 77 came twice" in await closed


async def test_a_method_that_does_not_exist_is_an_error(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        peer.remotes["add"].index = 999
        with pytest.raises(Exception, match="no method of number 999"):
            await peer.call("add", 1)


async def test_who_sends_without_end_leaves_the_loop_its_turns(transport: str, tmp_path: Path) -> None:
    """What is left is taken at the next turn."""
    async with pair(transport, tmp_path) as wires:
        loop, looked, clock = asyncio.get_running_loop(), itertools.count(1), itertools.count(0, 1_000_000)
        caller = Caller(wires.caller, loop, lambda: next(clock))

        def endless() -> Message | None:
            count = next(looked)
            assert count < 100_000, "nothing else had a turn"
            return Message(Kind.REPLY, 1 << 40, b"") if count < 5000 else None

        wires.caller.peek = endless  # type: ignore[method-assign]
        caller.drain(wires.caller)
        assert next(looked) < 2000
        while next(looked) < 5000:  # noqa: ASYNC110 - it goes on with the loop's turns
            await asyncio.sleep(0)


async def test_what_can_not_be_handled_fails_its_wire_and_not_the_loop(transport: str, tmp_path: Path) -> None:
    if transport != "ring":
        return  # asyncio itself sees to the others: they are called by it, one by one
    loop, said = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda loop, context: said.append(str(context["exception"])))
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        wires.caller.receiver = confused
        with pytest.raises(PluginCrashed, match="could not be handled: KeyError: 'confused'"):
            await peer.call("add", 5)
        assert wires.caller.closed is not None
    assert said == ["'confused'"]


def confused(wire: Wire) -> None:
    raise KeyError("confused")
