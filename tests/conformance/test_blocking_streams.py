"""Streams that a thread reads: what its server may send is bounded, whatever it does."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conformance_actor import Behaviour

from mukernel import Overloaded, PluginCrashed
from mukernel.contract import MethodCodec
from mukernel.kernel.clock import Clock
from mukernel.transports import packets
from mukernel.transports.blocking import BlockingCaller, NotTaken
from mukernel.transports.blocking_socket import BlockingSocketWire
from mukernel.transports.calling import STREAM_CREDIT
from mukernel.transports.contract import WHOLE_WIRE
from mukernel.transports.frame import hello, pack
from mukernel.transports.kind import Kind
from mukernel.transports.message import Message
from mukernel.transports.packet_wire import BlockingPacketWire
from mukernel.transports.remote import RemoteMethod

METHODS = {each.name: RemoteMethod(each, MethodCodec(each)) for each in Behaviour.__contract__.methods.values()}
SEVEN = b"\x07"


class Server:
    """A wire whose other end sends what `answer` gives for each message that it gets; it knows no credit."""

    def __init__(self, answer: Callable[[int, int], Iterator[Message]]) -> None:
        self.answer, self.closed, self.lane = answer, None, None
        self.coming: deque[Iterator[Message]] = deque()
        self.sent: list[int] = []

    def send(self, kind: int, call: int, *rest: Any) -> bool:
        self.sent.append(kind)
        self.coming.append(self.answer(kind, call))
        return True

    def receive(self) -> Message | None:
        while self.coming:
            message = next(self.coming[0], None)
            if message is not None:
                return message
            self.coming.popleft()
        return None

    def wait(self, limit: int) -> bool:
        assert self.coming or limit >= 0, "it would wait for ever"
        return bool(self.coming)

    def wait_for_room(self, limit: int) -> None:
        pass

    def close(self, why: str = "closed") -> None:
        self.closed = self.closed or why  # type: ignore[assignment,func-returns-value]


def arguments(name: str, *args: Any) -> bytes:
    return METHODS[name].codec.encode_arguments(args, {})


def test_more_items_than_there_was_credit_for_break_the_wire() -> None:
    counted = 0

    def answer(kind: int, call: int) -> Iterator[Message]:
        nonlocal counted
        if kind == Kind.STREAM:
            yield Message(Kind.ITEM, call, SEVEN)
        if kind == Kind.CALL:  # to which it answers never, and sends items of the stream
            while True:
                counted += 1
                yield Message(Kind.ITEM, call - 1, SEVEN)

    caller = BlockingCaller(Server(answer), Clock().now_ns)
    stream = caller.stream(METHODS["hold"], arguments("hold"))
    assert next(stream) == 7
    with pytest.raises(PluginCrashed, match="hold: more items came than there was credit for: 64"):
        caller.call(METHODS["add"], arguments("add", 1))
    assert counted == STREAM_CREDIT
    assert [next(stream) for _ in range(STREAM_CREDIT - 1)] == [7] * (STREAM_CREDIT - 1)
    with pytest.raises(PluginCrashed, match="hold: more items came than there was credit for: 64"):
        next(stream)
    assert counted == STREAM_CREDIT


def test_a_server_that_heeds_its_credit_may_send_as_much_as_there_is_time_for() -> None:
    def answer(kind: int, call: int) -> Iterator[Message]:
        for _ in range({Kind.STREAM: STREAM_CREDIT, Kind.CREDIT: STREAM_CREDIT // 2}.get(Kind(kind), 0)):
            yield Message(Kind.ITEM, call, SEVEN)

    stream = BlockingCaller(Server(answer), Clock().now_ns).stream(METHODS["hold"], arguments("hold"))
    assert [next(stream) for _ in range(1000)] == [7] * 1000


def test_more_credit_than_a_stream_has_breaks_the_wire() -> None:
    def answer(kind: int, call: int) -> Iterator[Message]:
        if kind == Kind.CHANNEL:
            yield Message(Kind.CREDIT, call, b"", credit=STREAM_CREDIT + 1)

    server = Server(answer)
    with pytest.raises(PluginCrashed, match="upper: more credit came than a stream has: 64"):
        next(BlockingCaller(server, Clock().now_ns).stream(METHODS["upper"], arguments("upper"), iter("abc")))
    assert Kind.ITEM not in server.sent


def test_an_answer_to_a_call_that_was_never_made_breaks_the_wire() -> None:
    server = Server(lambda kind, call: iter([Message(8, call + 99_999, SEVEN)]))
    with pytest.raises(PluginCrashed, match="an answer came to a call that was never made"):
        BlockingCaller(server, Clock().now_ns).call(METHODS["add"], arguments("add", 1))


def test_what_comes_after_the_end_of_a_stream_is_not_kept() -> None:
    def answer(kind: int, call: int) -> Iterator[Message]:
        if kind == Kind.STREAM:
            yield Message(Kind.ITEM, call, SEVEN)
        if kind == Kind.CALL:
            yield from (Message(Kind.END, call - 1, b"") for _ in range(1000))
            yield Message(8, call, SEVEN)

    caller = BlockingCaller(Server(answer), Clock().now_ns)
    stream = caller.stream(METHODS["hold"], arguments("hold"))
    assert next(stream) == 7
    assert caller.call(METHODS["add"], arguments("add", 1)) == SEVEN
    (kept,) = caller.streams.values()
    assert len(kept.waiting) == 1 and not list(stream)


def test_a_stream_that_is_refused_leaves_nothing_behind() -> None:
    class Full(Server):
        def send(self, kind: int, call: int, *rest: Any) -> bool:
            assert kind == Kind.STREAM
            return False

    caller = BlockingCaller(Full(lambda kind, call: iter(())), Clock().now_ns)
    with pytest.raises(Overloaded, match="hold: the mailbox is full"):
        next(caller.stream(METHODS["hold"], arguments("hold")))
    assert not caller.streams and caller.reusable


@pytest.mark.parametrize("answers", [True, False])
def test_a_caller_is_as_good_as_new_once_the_server_has_ended_the_stream_that_was_let_go_of(answers: bool) -> None:
    def answer(kind: int, call: int) -> Iterator[Message]:
        if kind == Kind.STREAM:
            yield from (Message(Kind.ITEM, call, SEVEN) for _ in range(STREAM_CREDIT))
        if kind == Kind.CANCEL and answers:
            yield Message(Kind.ERROR, call, b"")

    server = Server(answer)
    caller = BlockingCaller(server, Clock().now_ns)
    stream = caller.stream(METHODS["hold"], arguments("hold"))
    assert next(stream) == 7
    stream.close()  # type: ignore[attr-defined]
    assert server.sent == [Kind.STREAM, Kind.CANCEL] and not caller.streams
    assert caller.reusable is answers


def test_what_comes_while_a_packet_waits_to_be_sent_keeps_its_order() -> None:
    server, caller, owned, _ = packets.make_channel(-1, -1)
    wire = BlockingPacketWire([os.dup(fd) for fd in caller])
    other = packets.PacketEnd([os.dup(fd) for fd in server])
    try:
        for number in (1, 2, 3):
            packets.send_packet(other.side, Kind.ITEM, number, SEVEN)
        wire.kept = [wire.receive(), wire.receive()]  # type: ignore[list-item]  # while it waited for room
        assert wire.read(-1)
        assert [wire.receive().call for _ in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
        packets.send_packet(other.side, Kind.GONE, 4, b"given up")
        wire.wait_for_room(-1)  # which ends with a message: there may never be room
        assert wire.receive().call == 4  # type: ignore[union-attr]
    finally:
        wire.close()
        other.close()
        for fd in owned:
            os.close(fd)


def test_a_packet_that_can_not_be_sent_any_more_hides_nothing_that_came_before() -> None:
    server, caller, owned, _ = packets.make_channel(-1, -1)
    wire, other = BlockingPacketWire([os.dup(fd) for fd in caller]), packets.PacketEnd([os.dup(fd) for fd in server])
    for fd in owned:
        os.close(fd)
    packets.send_packet(other.side, Kind.ERROR, WHOLE_WIRE, b"revoked")
    other.close()
    assert not wire.send(Kind.CREDIT, 1, b"")
    assert wire.receive().kind == Kind.ERROR  # type: ignore[union-attr]
    assert wire.receive() is None and wire.closed is not None


def test_what_a_socket_can_not_send_any_more_hides_nothing_that_came_before() -> None:
    here, there = socket.socketpair()
    with there:
        wire = BlockingSocketWire(here)
        there.sendall(hello(b"", 8, 1024) + pack(Kind.ERROR, 7, WHOLE_WIRE) + b"revoked")
    wire.send(Kind.CREDIT, 1, b"")
    assert wire.receive().kind == Kind.ERROR  # type: ignore[union-attr]
    assert wire.receive() is None and wire.closed is not None
    wire.close()


def test_a_one_way_call_goes_elsewhere_when_its_mailbox_is_gone() -> None:
    """Nobody would say so afterwards: it would be accepted and lost."""
    server = Server(lambda kind, call: iter(()))
    server.coming.append(iter([Message(Kind.NOT_STARTED, WHOLE_WIRE, b"it has fewer replicas now")]))
    with pytest.raises(NotTaken, match="it has fewer replicas now"):
        BlockingCaller(server, Clock().now_ns).oneway(METHODS["note"], arguments("note", "x"))
    assert server.sent == []


def test_a_call_that_was_sent_when_a_signal_handler_raised_is_cancelled() -> None:
    """Between the moment in which it was sent, and that in which its thread begins to wait."""
    server = Server(lambda kind, call: iter(()))
    sent = server.send

    def interrupted(kind: int, call: int, *rest: Any) -> bool:
        sent(kind, call, *rest)
        if kind == Kind.CALL:
            raise KeyboardInterrupt
        return True

    server.send = interrupted  # type: ignore[method-assign]
    caller = BlockingCaller(server, Clock().now_ns)
    with pytest.raises(KeyboardInterrupt):
        caller.call(METHODS["add"], arguments("add", 1))
    assert server.sent == [Kind.CALL, Kind.CANCEL]
    assert caller.reusable
