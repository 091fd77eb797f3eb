"""Cancellations over packets come beside the mailbox: before their call, while it waits, or when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mukernel.transports import packet_wire
from mukernel.transports.kind import Kind
from mukernel.transports.packet_table import REMEMBERED
from mukernel.transports.packet_wire import PacketWire
from mukernel.transports.packets import PacketEnd, make_channel, send_packet

LATE, WAITING = REMEMBERED - 10, 20  # calls


@pytest.fixture
def caller() -> Iterator[tuple[PacketEnd, list[int]]]:
    """The caller's end, and the rights of the server's."""
    rights, callers, owned, _ = make_channel(-1, -1)
    end = PacketEnd([os.dup(right) for right in callers])
    yield end, rights
    end.close()
    for right in owned:
        os.close(right)


@contextlib.contextmanager
def server(rights: list[int]) -> Iterator[PacketWire]:
    wire = PacketWire(asyncio.get_running_loop(), [os.dup(right) for right in rights], "server")
    try:
        yield wire
    finally:
        wire.close()


def taken(wire: PacketWire) -> list[int]:
    """Begin and end every call that is not cancelled."""
    calls = []
    while (message := wire.peek()) is not None:
        if message.kind == Kind.CANCEL:
            continue
        message.take()
        message.finished()
        calls.append(message.call)
    return calls


async def test_one_that_comes_between_two_looks_is_heeded(
    caller: tuple[PacketEnd, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    end, rights = caller
    send_packet(end.mailbox, Kind.STREAM, 1, b"")
    looked, times = packet_wire.look, iter((1,))

    def look(where: socket.socket) -> Any:
        found = looked(where)
        for _ in times:  # once
            send_packet(end.side, Kind.CANCEL, 1, b"")
        return found

    monkeypatch.setattr(packet_wire, "look", look)
    with server(rights) as wire:
        came = [message for _ in range(3) if (message := wire.peek()) is not None]
        assert [(each.kind, each.call) for each in came] == [(Kind.STREAM, 1), (Kind.CANCEL, 1)]


async def test_those_that_came_too_late_make_room_for_others(caller: tuple[PacketEnd, list[int]]) -> None:
    end, rights = caller
    first = LATE + 1
    with server(rights) as wire:  # and it dies when it has noted some
        for call in range(1, first):
            send_packet(end.mailbox, Kind.CALL, call, b"")
            assert taken(wire) == [call]
            send_packet(end.side, Kind.CANCEL, call, b"")
        for call in range(first, first + WAITING):
            send_packet(end.mailbox, Kind.CALL, call, b"")
        message = wire.peek()
        assert message is not None and message.call == first
        for call in range(first + 1, first + 5):
            send_packet(end.side, Kind.CANCEL, call, b"")
        assert wire.peek() is None
    for call in range(first + 5, first + WAITING - 1):
        send_packet(end.side, Kind.CANCEL, call, b"")
    with server(rights) as successor:
        assert taken(successor) == [first, first + WAITING - 1]


async def test_more_than_may_wait_stop_nobody(caller: tuple[PacketEnd, list[int]]) -> None:
    end, rights = caller
    last = 3 * REMEMBERED
    send_packet(end.mailbox, Kind.CALL, 1, b"")
    with server(rights) as wire:
        for call in range(2, last + 1):
            send_packet(end.side, Kind.CANCEL, call, b"")
            if not call % 100:
                assert taken(wire) in ([1], [])
        for call in (last, last + 1):
            send_packet(end.mailbox, Kind.CALL, call, b"")
        assert taken(wire) == [last + 1]
