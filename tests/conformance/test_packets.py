"""The table of calls under a channel of packets: a server may die between any two of its steps."""

from __future__ import annotations

import asyncio
import os

import pytest

from mukernel.transports.kind import Kind
from mukernel.transports.packet_table import CallTable, make_table, read_counts
from mukernel.transports.packet_wire import PacketWire
from mukernel.transports.packets import (
    INLINE,
    Garbage,
    PacketEnd,
    look,
    make_channel,
    receive_packet,
    send_packet,
)
from mukernel.transports.serving import Server


@pytest.fixture
def table() -> CallTable:
    memory = make_table()
    made = CallTable(memory)
    os.close(memory)
    made.accept(3)
    return made


def test_a_call_that_was_looked_at_waits_as_before(table: CallTable) -> None:
    table.begin(7, 0, 1, True)  # and it dies before the call is out of the socket
    assert table.recover(next_call=7) == []
    assert table.counts() == (3, 0, 0, 0)


def test_a_call_that_was_taken_out_was_being_run(table: CallTable) -> None:
    table.begin(7, 2, 1, True)  # it dies before it has counted the call
    assert table.recover(next_call=8) == [(7, 2, 1)]
    table.forget(7)
    assert table.counts() == (3, 1, 0, 1)


def test_a_call_that_was_counted_was_being_run(table: CallTable) -> None:
    table.taken_out(table.begin(7, 0, 1, True), True)
    assert table.recover(next_call=None) == [(7, 0, 1)]
    assert table.recover(next_call=None) == [(7, 0, 1)]  # until its caller was told
    table.forget(7)
    assert table.counts() == (3, 1, 0, 1)
    assert table.recover(next_call=None) == []


@pytest.mark.parametrize("counted", [False, True])
def test_a_one_way_call_is_answered_when_it_is_taken(table: CallTable, counted: bool) -> None:
    slot = table.begin(7, 0, 1, False)
    if counted:
        table.taken_out(slot, False)
    assert table.recover(next_call=8) == []
    assert table.counts() == (3, 1, 1, 0)


@pytest.mark.parametrize("refused", [False, True])
def test_an_end_is_counted_once_wherever_it_was_cut_off(table: CallTable, refused: bool) -> None:
    slot = table.begin(7, 0, 1, True)
    table.taken_out(slot, True)
    settle = table.settle
    table.settle = lambda slot: None  # type: ignore[method-assign]  # it dies after the journal
    table.end(slot, refused)
    table.settle = settle  # type: ignore[method-assign]
    assert table.recover(next_call=None) == []
    assert table.counts() == (3, 1, int(not refused), int(refused))


class Dead(BaseException):
    """The process was killed."""


class Fields:
    """The fields of a table, in a process that dies at the store after the next `left`."""

    def __init__(self, fields: memoryview, left: int) -> None:
        self.fields, self.left = fields, left

    def __getitem__(self, index: int) -> int:
        return self.fields[index]

    def __setitem__(self, index: int, value: int) -> None:
        if not self.left:
            raise Dead
        self.left -= 1
        self.fields[index] = value


@pytest.mark.parametrize("reply_wanted", [True, False])
def test_whatever_store_it_dies_at_each_call_is_counted_once(reply_wanted: bool) -> None:
    """A server takes a call and answers it; it is killed at its first, second, ... store, and so is the successor."""
    stores = 0
    while True:
        for stores_of_successor in range(30):
            memory = make_table()
            table = CallTable(memory)
            table.accept(1)
            table.fields, whole = Fields(table.fields, stores), table.fields  # type: ignore[assignment]
            in_socket, running = True, False
            try:
                slot = table.begin(7, 2, 1, reply_wanted)
                in_socket, running = False, reply_wanted
                table.taken_out(slot, reply_wanted)
                running = False
                if reply_wanted:
                    table.end(slot, False)
                ended = True
            except Dead:
                ended = False
            table.fields = whole
            next_call = 7 if in_socket else None
            successor = CallTable(memory)
            successor.fields, whole = Fields(successor.fields, stores_of_successor), successor.fields  # type: ignore[assignment]
            try:
                found = successor.recover(next_call)
                successor.forget(7)
            except Dead:
                found = None
            successor.fields = whole
            last = CallTable(memory)
            found_last = last.recover(next_call)
            if in_socket:
                assert found in (None, []) and found_last == []
            elif running:
                assert found in (None, [(7, 2, 1)])
            last.forget(7)
            accepted, taken, replied, refused = last.counts()
            assert (accepted, taken) == (1, int(not in_socket))
            assert replied + refused == taken, (stores, stores_of_successor)
            if not reply_wanted and taken:
                assert replied == 1
            assert sorted(last.unused) == list(range(1024))
        if ended:
            return
        stores += 1


def test_whatever_store_it_dies_at_a_call_that_is_discarded_is_counted_once() -> None:
    stores, ended = 0, False
    while not ended:
        memory = make_table()
        table = CallTable(memory)
        table.accept(1)
        table.unused.clear()  # it needs none
        table.fields, in_socket = Fields(table.fields, stores), True  # type: ignore[assignment]
        try:
            table.discard(7)
            in_socket = False
            table.discarded()
            ended = True
        except Dead:
            stores += 1
        for _ in range(2):  # the second as its successor
            successor = CallTable(memory)
            assert successor.recover(7 if in_socket else None) == []
            assert successor.counts() == (1, int(not in_socket), 0, int(not in_socket)), stores
        os.close(memory)


def test_neither_side_can_make_a_table_unreadable() -> None:
    memory = make_table()
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 0)
    os.pwrite(memory, b"\0" * 16, 0)
    table = CallTable(memory)
    table.accept(3)
    assert read_counts(memory) == table.counts() == (3, 0, 0, 0)
    table.close()
    os.close(memory)


def test_what_is_no_table_is_refused() -> None:
    memory = os.memfd_create("no table")
    with pytest.raises(ConnectionError, match="no table"):
        CallTable(memory)
    os.close(memory)


def test_a_table_cannot_be_cut_short_under_who_has_mapped_it() -> None:
    memory = make_table()
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(memory, size)
    os.close(memory)


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 5 << 20])
def test_packets_carry_bodies_and_what_is_looked_at_stays(size: int) -> None:
    server, caller, owned, _ = make_channel(-1, -1)
    ends = [PacketEnd([os.dup(fd) for fd in rights]) for rights in (server, caller)]
    assert send_packet(ends[1].mailbox, Kind.CALL, 5, b"x" * size, 3, 2, -1)
    for _ in range(2):
        seen = look(ends[0].mailbox)
        assert seen is not None and (seen.call, seen.method, seen.interface, seen.priority) == (5, 3, 2, -1)
    whole = receive_packet(ends[0].mailbox)
    assert whole is not None and whole.body == b"x" * size and whole.flags == 0
    assert receive_packet(ends[0].mailbox) is None
    before = len(os.listdir("/proc/self/fd"))
    for data in (b"short", b"\xff" * 64, b"\xff" * 5000):
        ends[1].mailbox.send(data)
        with pytest.raises(Garbage):
            receive_packet(ends[0].mailbox)
    assert len(os.listdir("/proc/self/fd")) <= before  # fewer: what earlier tests left may have ended meanwhile
    for end in ends:
        end.close()
    for fd in owned:
        os.close(fd)


async def test_a_wire_that_was_closed_still_tells_what_it_counted() -> None:
    """Its caller has gone, and its instance is counted before it has heard of that."""
    rights, _, owned, _ = make_channel(-1, -1)
    try:
        server = PacketWire(asyncio.get_running_loop(), [os.dup(fd) for fd in rights], "server")
        server.table.accept(2)
        server.close()
        assert server.ledger() == (2, 0, 0, 0)
    finally:
        for fd in owned:
            os.close(fd)


async def test_what_was_being_run_is_told_though_the_channel_is_at_its_end() -> None:
    rights, _, owned, _ = make_channel(-1, -1)
    server = PacketWire(asyncio.get_running_loop(), [os.dup(fd) for fd in rights], "server")
    server.table.accept(1)
    server.table.taken_out(server.table.begin(7, 2, 3, reply_wanted=True), reply_wanted=True)
    for fd in owned:
        os.close(fd)
    assert server.interrupted() == [(7, 2, 3)]
    server.end_interrupted(Kind.INTERRUPTED)
    assert server.ledger() == (1, 1, 0, 1)
    server.close()
    assert server.interrupted() == []


def test_counts_that_somebody_overwrote_go_round(table: CallTable) -> None:
    for field in range(4):  # all four counts
        table.fields[field] = (1 << 64) - 1
    table.accept(1)
    table.taken_out(table.begin(7, 2, 1, reply_wanted=False), reply_wanted=False)
    table.end(table.begin(8, 2, 1, reply_wanted=True), refused=True)
    assert table.counts() == (0, 0, 0, 0)


async def test_a_call_that_there_was_no_room_for_yet_waits() -> None:
    """What it lends is on its way, and nobody's leftover."""
    rights, _, owned, _ = make_channel(-1, -1)
    wire = PacketWire(asyncio.get_running_loop(), [os.dup(fd) for fd in rights], "server")
    server = Server(asyncio.get_running_loop(), lambda: 0)
    server.attach(wire, [])
    server.resume()
    assert server.nothing_waits(wire)
    wire.table.accept(1)
    assert not server.nothing_waits(wire)
    wire.close()
    for fd in owned:
        os.close(fd)
