"""The ring by itself: order, wrapping, bodies outside it, and memory that the other side has written."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
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
        self.sender = ring.Sender(ring.Mapping(os.dup(self.memory)), 0, self.waiter.bell)
        self.receiver = self.successor()

    def successor(self) -> Any:
        return ring.Receiver(ring.Mapping(os.dup(self.memory)), 0, self.waiter.bell, table=True)


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
