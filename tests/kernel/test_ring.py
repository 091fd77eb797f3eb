"""The ring by itself: order, wrapping, bodies outside it, and memory that the other side has written."""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

ring: Any = pytest.importorskip("mukernel.kernel.ring")
CAPACITY, SLOTS, PAGE = 4096, 16, 4096
SLOT = 16  # bytes


class Ends:
    """Both ends of the requests of one channel."""

    def __init__(self) -> None:
        self.memory = ring.create_channel(capacity=CAPACITY, slots=SLOTS)
        self.waiter = ring.Waiter()
        self.sender = ring.Sender(ring.Mapping(os.dup(self.memory)), 0, self.waiter.ringer)
        self.receiver = self.successor()

    def successor(self) -> Any:
        return ring.Receiver(ring.Mapping(os.dup(self.memory)), 0, self.waiter.ringer, table=True)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    os.close(made.memory)


def test_messages_come_whole_and_in_order_round_and_round(ends: Ends) -> None:
    for number in range(1, 2000):
        assert ends.sender.send(0, number, b"x" * (number % 300))
        message = ends.receiver.receive()
        assert (message.call, message.body) == (number, b"x" * (number % 300))
        message.finished()


def test_what_was_not_taken_is_there_for_a_successor(ends: Ends) -> None:
    for number in (1, 2, 3):
        ends.sender.send(0, number, b"body")
    assert ends.receiver.receive().call == 1
    assert ends.receiver.peek().call == 2  # looked at, not taken
    successor = ends.successor()
    assert [call for call, _, _ in successor.interrupted()] == [1]
    assert [successor.receive().call, successor.receive().call, successor.receive()] == [2, 3, None]


def test_a_ring_that_is_full_of_items_has_room_for_what_ends_calls(ends: Ends) -> None:
    item, cancel = 4, 7
    while ends.sender.send(item, 1, b"x" * 200):
        pass
    cancelled = 0
    while ends.sender.send(cancel, 1 + cancelled, b""):
        cancelled += 1
    assert cancelled >= CAPACITY // 4 // 64  # one line each


@pytest.mark.parametrize("field", ["sleeping", "starving"])
def test_who_takes_over_rings_for_one_that_died_before_it_did(ends: Ends, field: str) -> None:
    replies = ring.Receiver(ring.Mapping(os.dup(ends.memory)), 1, ends.waiter.ringer)
    ends.waiter.add(replies)
    mapping, deaf = ring.Mapping(os.dup(ends.memory)), ring.Waiter()
    if field == "sleeping":
        assert ends.waiter.arm()
        assert ring.Sender(mapping, 1, deaf.ringer).send(4, 1, b"reply")
    else:
        ends.sender.send(0, 1, b"")
        assert not ends.sender.want_room()
        ring.Receiver(mapping, 0, deaf.ringer, table=True).receive()
    assert not heard(ends.waiter) and heard(deaf)
    ends.successor().interrupted()
    assert heard(ends.waiter)


def heard(waiter: Any) -> bool:
    return bool(select.select([waiter.bell], [], [], 0)[0])


def test_a_large_body_lies_outside_until_it_is_taken_and_then_gives_its_memory_back(ends: Ends) -> None:
    body = os.urandom(1 << 20)
    ends.sender.send(0, 1, body)
    full = os.fstat(ends.memory).st_blocks
    ends.receiver.peek()  # its reader dies here
    message = ends.successor().receive()
    assert message.body == body
    assert os.fstat(ends.memory).st_blocks < full


def test_neither_side_can_shrink_the_memory(ends: Ends) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(ends.memory, 0)
    assert fcntl.fcntl(ends.memory, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK


def test_a_table_that_the_other_side_filled_is_garbage_not_a_hang(ends: Ends) -> None:
    with mmap.mmap(ends.memory, PAGE + SLOTS * SLOT) as memory:
        for slot in range(SLOTS):
            memory[PAGE + slot * SLOT : PAGE + slot * SLOT + 8] = b"\xff" * 8
    ends.sender.send(0, 1, b"")
    with pytest.raises(ring.Garbage):
        ends.receiver.receive()


def test_a_record_that_does_not_fit_where_it_stands_is_garbage(ends: Ends) -> None:
    ends.sender.send(0, 1, b"body")
    with mmap.mmap(ends.memory, 2 * PAGE + 64) as memory:
        memory[2 * PAGE : 2 * PAGE + 4] = (1 << 31).to_bytes(4, "little")
    with pytest.raises(ring.Garbage):
        ends.receiver.peek()
    with pytest.raises(ring.Garbage):
        ring.Mapping(os.memfd_create("other"))


def test_where_the_memory_lies_is_told_by_what_no_side_can_write(ends: Ends) -> None:
    ends.sender.send(0, 1, b"body")
    os.pwrite(ends.memory, b"\0" * 512, 0)  # all that lies before the counters
    assert ends.successor().receive().body == b"body"
    assert ring.ledger(ends.memory) == (1, 1, 0, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(ends.memory, os.fstat(ends.memory).st_size + 1)


def test_a_place_between_two_lines_is_none(ends: Ends) -> None:
    """A predecessor's marks are read from memory that both sides write: else one could lead out of the ring."""
    at = PAGE // 8
    os.pwrite(ends.memory, (100).to_bytes(8, "little"), at)  # the field `tail`
    os.pwrite(ends.memory, (100).to_bytes(8, "little"), at + 128)  # the field `head`
    ends.sender.adopt()
    assert ends.sender.send(0, 1, b"body")
    assert int.from_bytes(os.pread(ends.memory, 8, at), "little") == 64 + 128
    assert ends.successor().receive().body == b"body"


def test_a_body_without_memory_for_it_is_taken_all_the_same(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing behind it could ever be had."""
    size = 100_000
    ends.sender.send(0, 1, b"x" * size)
    ends.sender.send(0, 2, b"small")
    full = os.fstat(ends.memory).st_blocks
    message = ends.receiver.peek()
    with monkeypatch.context() as poor:
        poor.setattr(os, "pread", no_memory)
        for _ in range(2):
            with pytest.raises(MemoryError, match=f"no memory for a body of {size} bytes"):
                message.take()
    message.finished(True)
    assert os.fstat(ends.memory).st_blocks < full
    assert ends.receiver.receive().body == b"small"
    assert ring.ledger(ends.memory) == (2, 2, 0, 1)


def test_a_call_that_is_never_run_needs_no_slot(ends: Ends) -> None:
    for number in range(1, SLOTS + 3):
        ends.sender.send(0, number, b"body")
    running = [ends.receiver.receive() for _ in range(SLOTS)]
    unwanted, waiting = ends.receiver.peek(), ends.receiver.peek()
    assert ends.receiver.full
    unwanted.discard()
    assert unwanted.body == b"body"
    assert ring.ledger(ends.memory) == (SLOTS + 2, SLOTS + 1, 0, 1)
    running.pop().finished()
    waiting.take()
    successor = ends.successor()
    interrupted = [call for call, _, _ in successor.interrupted()]
    assert sorted(interrupted) == [*range(1, SLOTS), SLOTS + 2] and successor.peek() is None
    for call in interrupted:
        successor.forget(call)
    assert ring.ledger(ends.memory) == (SLOTS + 2, SLOTS + 2, 1, SLOTS + 1)


def no_memory(*arguments: object) -> bytes:
    raise MemoryError


OVER_THE_EDGE = """
import ctypes, os, struct
from mukernel.kernel import ring

CAPACITY, SLOTS = 1 << 26, 16
LENGTH = 4096 + 4096 + 2 * CAPACITY
system = ctypes.CDLL(None)
system.mmap.restype = ctypes.c_void_p
system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
system.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
start = system.mmap(None, LENGTH + 4096, 0, 0x22, -1, 0)  # private, anonymous, and nobody may read it
system.munmap(start, LENGTH)  # here the channel is mapped now, and what lies behind it can't be read
memory, waiter = ring.create_channel(capacity=CAPACITY, slots=SLOTS), ring.Waiter()
receiver = ring.Receiver(ring.Mapping(memory), 1, waiter.ringer)
assert any(line.startswith(f"{start:x}-") and "mukernel-channel" in line for line in open("/proc/self/maps"))
replies = 8192 + CAPACITY
os.pwrite(memory, struct.pack("<IBBbB", CAPACITY - 128, 0, 0, 0, 2), replies)  # padding up to the last line
os.pwrite(memory, struct.pack("<IBBbB", 0, 8, 0x80, 0, 1), replies + CAPACITY - 64)  # a large body, in 0 bytes
os.pwrite(memory, struct.pack("<Q", CAPACITY), 1024)  # the field `tail` of the replies
try:
    receiver.peek().take()
except ring.Garbage:
    print("garbage")
"""


def test_a_large_body_announced_in_the_last_line_is_not_read_beyond_the_memory() -> None:
    done = subprocess.run([sys.executable, "-c", OVER_THE_EDGE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "garbage\n", "")


def test_a_bell_is_rung_and_hushed_without_waiting_whatever_its_flags_are(ends: Ends) -> None:
    """Who shares an open file may clear its O_NONBLOCK, fill the pipe, or take out what was in it."""
    bell, ringer = ends.waiter.bell, ends.waiter.ringer
    with open("/proc/sys/fs/pipe-max-size") as file:
        most = int(file.read())
    with suppress(BlockingIOError):
        while most > 0:
            most -= os.write(ringer, bytes(4096))
    os.set_blocking(ringer, True)
    os.set_blocking(bell, True)
    with mmap.mmap(ends.memory, PAGE) as memory:
        memory[512 + 256] = 1  # its consumer sleeps, and wants to be rung for
        assert ends.sender.send(0, 1, b"body")
        assert memory[512 + 256] == 0
    assert os.read(bell, 1 << 20)
    ring.hush(bell)
