"""Segments and the lanes that they travel by: what is refused, and what is let go of."""

from __future__ import annotations

import errno
import fcntl
import gc
import mmap
import os
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import pytest
from conformance_arrays import Arrays

from mukernel import ContractError, Overloaded, Unavailable, shared
from mukernel.contract import MethodCodec
from mukernel.contract.lending import MARK, Outgoing
from mukernel.transports import segment
from mukernel.transports.back_pressure import attempt
from mukernel.transports.carriers import available, new_port
from mukernel.transports.lane import CALLER, SERVER, UNCLAIMED, Lane, LaneEnd, loaded, open_lane
from mukernel.transports.segment import MADE_IN_PLACE, Share, account, new_segment, received_segment

LARGE = 1 << 20  # bytes
CODEC = MethodCodec(Arrays.__contract__.methods["echo"])


@pytest.fixture
def lanes() -> Iterator[tuple[Lane, Lane]]:
    """Both ends of a lane: of the caller, and of the server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    both = open_lane(ours.detach(), CALLER, 1 << 40), open_lane(theirs.detach(), SERVER, 1 << 40)
    yield both
    for lane in both:
        lane.close()


def sent(array: numpy.ndarray) -> Any:
    return CODEC.encode_arguments((array,), {})


def got(body: Any) -> numpy.ndarray:
    return CODEC.decode_arguments(body)[0]


def test_messages_are_claimed_in_any_order(lanes: tuple[Lane, Lane]) -> None:
    bodies = [loaded(lanes[0], sent(numpy.full(LARGE, number, "u1"))) for number in range(5)]
    assert [got(bodies[number])[0] for number in (3, 0, 4, 2, 1)] == [3, 0, 4, 2, 1]
    assert not lanes[1].unclaimed


def test_what_was_claimed_is_gone_from_the_lane(lanes: tuple[Lane, Lane]) -> None:
    body = loaded(lanes[0], sent(numpy.zeros(LARGE, "u1")))
    got(body)
    with pytest.raises(Unavailable, match="shared memory of this message is gone"):
        got(body)


def test_a_forged_token_opens_nothing(lanes: tuple[Lane, Lane]) -> None:
    body = loaded(lanes[0], sent(numpy.zeros(LARGE, "u1")))
    forged = body[:10] + bytes(16) + body[26:]
    with pytest.raises(Unavailable):
        got(forged)
    assert got(body).nbytes == LARGE


@pytest.mark.parametrize("cut", [1, 9, 25])
def test_a_malformed_head_is_a_contract_error(lanes: tuple[Lane, Lane], cut: int) -> None:
    body = loaded(lanes[0], sent(numpy.zeros(LARGE, "u1")))
    with pytest.raises(ContractError, match="malformed"):
        got(body[:cut])


def test_another_channel_is_not_looked_into(lanes: tuple[Lane, Lane]) -> None:
    body = loaded(lanes[0], sent(numpy.zeros(LARGE, "u1")))
    with pytest.raises(ContractError, match="by no channel that is open here"):
        got(body[:2] + bytes(8) + body[10:])


def test_a_handle_beyond_its_segment_is_refused(lanes: tuple[Lane, Lane]) -> None:
    message = sent(numpy.zeros(LARGE, "u1"))
    handle = (0).to_bytes(4, "little") + (0).to_bytes(8, "little") + LARGE.to_bytes(8, "little")
    assert handle in message.payload
    for wrong, why in (
        ((0).to_bytes(4, "little") + (1).to_bytes(8, "little") + LARGE.to_bytes(8, "little"), "bytes 1 to 1048577"),
        ((7).to_bytes(4, "little") + handle[4:], "did not come with this message: 7"),
    ):
        forged = Outgoing(message.payload.replace(handle, wrong), message.segments, message.value, message.encode)
        with pytest.raises(ContractError, match=why):
            got(loaded(lanes[0], forged))


def test_a_handle_without_segments_is_refused() -> None:
    with pytest.raises(ContractError, match="did not come with this message"):
        got(sent(numpy.zeros(LARGE, "u1")).payload)


def test_a_full_lane_makes_messages_travel_whole(lanes: tuple[Lane, Lane]) -> None:
    array = shared.empty(LARGE, "u1")
    bodies = []
    while not bodies or bodies[-1].startswith(MARK):
        bodies.append(loaded(lanes[0], sent(array)))
    assert len(bodies[-1]) > LARGE
    assert {got(body).nbytes for body in bodies[:UNCLAIMED]} == {LARGE}
    assert got(bodies[-1]).nbytes == LARGE


def test_a_closed_lane_and_none_at_all_carry_bytes(lanes: tuple[Lane, Lane]) -> None:
    message = sent(numpy.ones(LARGE, "u1"))
    assert got(loaded(None, message)).sum() == LARGE
    lanes[1].socket.shutdown(socket.SHUT_RDWR)
    assert got(loaded(lanes[0], message)).sum() == LARGE


def test_what_is_on_its_way_counts_until_it_is_received(lanes: tuple[Lane, Lane]) -> None:
    bodies = [loaded(lanes[0], sent(numpy.zeros(LARGE, "u1"))) for _ in range(4)]
    assert lanes[0].in_flight() == 4 * LARGE
    got(bodies[0])
    assert lanes[0].in_flight() == 3 * LARGE
    got(bodies[3])
    assert lanes[0].in_flight() == 0


def test_the_quota_holds_for_what_is_on_its_way(lanes: tuple[Lane, Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "limit", account.held + 3 * LARGE)
    for _ in range(3):
        loaded(lanes[0], sent(numpy.zeros(LARGE, "u1")))
    with pytest.raises(Overloaded, match="on their way"):
        sent(numpy.zeros(LARGE, "u1"))


def test_an_item_waits_for_whatever_lane_has_something_on_its_way(
    lanes: tuple[Lane, Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "limit", account.held + 3 * LARGE)
    bodies = [loaded(lanes[0], sent(numpy.zeros(LARGE, "u1"))) for _ in range(3)]
    for _ in range(3):  # of a stream by another lane, which has nothing on its way itself
        assert attempt(sent, numpy.zeros(LARGE, "u1")) is None
    lanes[1].receive()
    lanes[1].unclaimed.clear()
    assert attempt(sent, numpy.zeros(LARGE, "u1")) is not None
    with pytest.raises(Overloaded, match="its quota"):
        attempt(sent, numpy.zeros(4 * LARGE, "u1"))
    assert len(bodies) == 3


def test_the_quota_of_a_receiver_is_an_answer(lanes: tuple[Lane, Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    body = loaded(lanes[0], sent(numpy.zeros(LARGE, "u1")))
    held = account.held
    monkeypatch.setattr(account, "limit", 0)
    with pytest.raises(Overloaded, match="its quota"):
        got(body)
    assert account.held == held


def test_what_is_asked_in_another_thread_is_not_closed_meanwhile(
    lanes: tuple[Lane, Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that is closed is at once that of another file."""
    loaded(lanes[0], sent(numpy.zeros(LARGE, "u1")))
    ask = LaneEnd.waiting_bytes
    opened = []

    def closed_just_before(end: LaneEnd) -> int:
        lanes[0].close()
        opened.extend(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(3))
        return ask(end)

    number = lanes[0].socket.fileno()
    monkeypatch.setattr(LaneEnd, "waiting_bytes", closed_just_before)
    assert lanes[0].in_flight() == LARGE
    assert number not in opened
    assert lanes[0].in_flight() == 0
    with pytest.raises(OSError):
        os.fstat(number)  # nobody looks at it any more
    for each in opened:
        os.close(each)


def test_threads_ask_while_others_open_send_and_close() -> None:
    before, ended = sys.getswitchinterval(), threading.Event()
    array = shared.empty(LARGE, "u1")

    def open_and_close(first: int) -> None:
        for number in range(first, first + 200):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            both = open_lane(ours.detach(), CALLER, number), open_lane(theirs.detach(), SERVER, number)
            for _ in range(3):
                assert got(loaded(both[0], sent(array))).nbytes == LARGE
            for lane in both:
                lane.close()

    def ask() -> int:
        asked = 0
        while not ended.is_set():
            account.check(1)
            asked += 1
        return asked

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(ask) for _ in range(2)]
            working = [pool.submit(open_and_close, (1 << 41) + 1000 * each) for each in range(4)]
            try:
                for each in working:
                    each.result()
            finally:
                ended.set()
            assert all(each.result() for each in asking)
    finally:
        sys.setswitchinterval(before)


def test_what_was_refused_is_let_go_of_at_once(lanes: tuple[Lane, Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    codec = MethodCodec(Arrays.__contract__.methods["many"])
    body = loaded(lanes[0], codec.encode_arguments(([numpy.full(LARGE, n, "u1") for n in range(4)],), {}))
    held = account.held
    monkeypatch.setattr(account, "limit", held + 3 * LARGE)
    gc.disable()
    try:
        with pytest.raises(Overloaded, match="its quota"):
            codec.decode_arguments(body)
        assert account.held == held
    finally:
        gc.enable()


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_WRITE, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW])
def test_a_segment_that_is_not_sealed_is_refused(lanes: tuple[Lane, Lane], seals: int) -> None:
    fd = os.memfd_create("evil", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, LARGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    with pytest.raises(ValueError, match="not sealed"):
        received_segment(fd)
    with pytest.raises(OSError):
        os.fstat(fd)  # it was given up


@pytest.mark.parametrize("written", [0, 1, LARGE // 2])
def test_a_segment_with_holes_is_refused(written: int) -> None:
    fd = os.memfd_create("evil", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, LARGE)
    os.pwrite(fd, b"x" * written, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, MADE_IN_PLACE)
    with pytest.raises(ValueError, match="a segment with holes"):
        received_segment(fd)
    with pytest.raises(OSError):
        os.fstat(fd)  # it was given up


def test_what_is_sent_has_all_of_its_memory_and_keeps_it(lanes: tuple[Lane, Lane]) -> None:
    array = shared.empty(LARGE, "u1")
    message = sent(array)
    (segment,) = message.segments
    fd = segment.fd
    assert os.fstat(fd).st_blocks == 0
    loaded(lanes[0], message)
    assert os.fstat(fd).st_blocks * 512 == LARGE
    mapping = segment.map()
    with pytest.raises(PermissionError):
        mapping.madvise(mmap.MADV_REMOVE)
    assert os.fstat(fd).st_blocks * 512 == LARGE


def test_a_descriptor_that_is_no_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="no shared memory"):
        received_segment(os.open("/dev/null", os.O_RDONLY))


def test_what_is_sent_is_sealed(lanes: tuple[Lane, Lane]) -> None:
    for array in (numpy.zeros(LARGE, "u1"), shared.empty(LARGE, "u1"), numpy.zeros(2 * LARGE, "u1")[::2]):
        message = sent(array)
        loaded(lanes[0], message)
        fd = message.segments[0].fd
        with pytest.raises(OSError):
            os.ftruncate(fd, 10)
        with pytest.raises(OSError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(OSError):
            mmap.mmap(fd, LARGE)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_a_machine_without_memory_is_an_answer(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fails(*arguments: Any) -> int:
        raise OSError(number, os.strerror(number))

    held = account.held
    monkeypatch.setattr(segment.os, "pwrite", fails)
    with pytest.raises(Overloaded, match="could not be had"):
        sent(numpy.zeros(LARGE, "u1"))
    assert account.held == held


def test_a_process_without_descriptors_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(segment.os, "memfd_create", fails)
    with pytest.raises(Overloaded, match="Too many open files"):
        shared.empty(10)


@pytest.mark.parametrize(("shape", "dtype"), [((-1,), "u1"), ((3,), object), (-4, "f8")])
def test_shapes_and_types_that_can_not_be(shape: Any, dtype: Any) -> None:
    with pytest.raises(ValueError, match="got"):
        shared.empty(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("x",), "shape: got 'x'"), ((None,), "shape: got None"), ((2.5,), "shape: got 2.5"),
        (((3, "x"),), r"shape: got \(3, 'x'\)"), ((3, "nonsense"), "dtype: got 'nonsense'"),
        ((3, "f8,("), "dtype: got"), ((3, 7), "dtype: got 7"),
    ],
)  # fmt: skip
def test_what_is_no_shape_or_type_is_named(arguments: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        shared.empty(*arguments)


@pytest.mark.parametrize("size", [(-1, 2), "10", 2.5, None])
def test_what_is_no_size_is_named(size: Any) -> None:
    with pytest.raises(ContractError, match=r"size: got .* wanted a whole number of bytes"):
        shared.buffer(size)


def test_an_empty_array_and_a_small_one_can_be_made() -> None:
    assert shared.empty((0, 5)).shape == (0, 5)
    assert shared.empty(3, "f8").tolist() == [0.0, 0.0, 0.0]
    assert shared.empty(numpy.int64(3), "f8").shape == shared.empty([numpy.uint8(3)]).shape == (3,)
    assert shared.empty(numpy.zeros((2, 3)).shape).shape == (2, 3) and shared.empty(()).shape == ()
    with pytest.raises(ValueError, match="wanted one byte or more"):
        shared.buffer(0)


@pytest.mark.parametrize(
    "part", [lambda made: made, lambda made: made[:500], lambda made: made[:500].reshape(-1), lambda made: made.T]
)  # fmt: skip
def test_what_was_made_in_place_is_not_written_any_more_when_a_part_of_it_was_sent(part: Any) -> None:
    made = shared.empty((1000, 100))
    made[:] = 1
    sent(part(made))
    with pytest.raises(ValueError, match="read-only"):
        made[0, 0] = 2


def test_a_packet_that_nobody_sends_leaves_no_descriptor(lanes: tuple[Lane, Lane]) -> None:
    gc.collect()  # else those of earlier tests may be closed just now
    fds = len(os.listdir("/proc/self/fd"))
    socket.send_fds(lanes[0].socket, [b"short"], [0, 1, 2])
    assert not lanes[1].receive()
    assert len(os.listdir("/proc/self/fd")) == fds


def test_a_share_that_several_threads_count_by_is_right() -> None:
    """Each lane has a thread of its own, and a share has many lanes."""
    before, counted, share = sys.getswitchinterval(), [new_segment(1) for _ in range(3)], Share()

    def count() -> None:
        for _ in range(20_000):
            share.add(counted, False)
            share.give_up(counted)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(count) for _ in range(4)]:
                each.result()
    finally:
        sys.setswitchinterval(before)
    assert (share.held, share.segments) == (0, 0)


def test_what_a_predecessor_had_received_is_not_waited_for(lanes: tuple[Lane, Lane]) -> None:
    end, quiet = lanes[1], False
    end.nothing_waits[end] = lambda: quiet
    end.let_go(bytes(range(16)))
    end.clear(end.tokens())
    assert end.unwanted  # it may lie behind what others lend
    quiet = True
    end.clear(end.tokens())
    assert not end.unwanted


@pytest.mark.parametrize("transport", available())
def test_nobody_can_name_the_lane_of_another(transport: str) -> None:
    """The number of a channel is told to its two sides alone, and leads to no other."""
    port = new_port(transport)
    ringer, bell = os.pipe()
    numbers = [port.mint("caller", bell).number for _ in range(20)]
    assert len(set(numbers)) == 20 and sorted(numbers) != numbers and 1 << 46 < max(numbers) < 1 << 53
    port.close()
    os.close(ringer)
    os.close(bell)
