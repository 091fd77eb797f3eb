"""The log of a stream: offsets, segments, retention, and what it says of files that are torn or damaged."""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path

import pytest

from mukernel.servers.events import records
from mukernel.servers.events.interface import LogDamaged
from mukernel.servers.events.log import AWAKE, Log, Retention
from mukernel.servers.events.records import FRAME, HEADER_SIZE, framed, mark_of
from mukernel.servers.events.segment import Record, Segment, encode_record

SECOND = 1_000_000_000


def opened(folder: Path, segment: int = 1 << 20, given: int = 0, **retention: int) -> Log:
    return Log("orders", folder, Retention(**retention), segment, given)


def append(log: Log, *bodies: bytes, at: int = 0) -> None:
    first = log.end
    log.write(
        [Record(first + i, at or (first + i) * SECOND, "orders.new", body) for i, body in enumerate(bodies)], sync=True
    )


def bodies(log: Log, offset: int | None = None) -> list[bytes]:
    found: list[bytes] = []
    offset = log.first if offset is None else offset
    while records := log.read(offset, 100):
        assert [each.offset for each in records] == list(range(offset, offset + len(records)))
        found += [each.body for each in records]
        offset += len(records)
    return found


def only_file(folder: Path) -> Path:
    [path] = folder.glob("*.log")
    return path


@pytest.mark.parametrize("segment", [1, 200, 1 << 20])
def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path, segment: int) -> None:
    written = [str(number).encode() for number in range(50)]
    log = opened(tmp_path, segment)
    append(log, *written)
    assert bodies(log) == written
    log.close()
    log = opened(tmp_path, segment)
    assert (log.first, log.end, log.torn, log.damaged) == (1, 51, 0, 0)
    assert bodies(log) == written
    append(log, b"more")
    assert bodies(log, 50) == [b"49", b"more"]
    assert (len(log.segments) > 5) is (segment < 1000)
    log.close()


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_a_torn_last_record_is_cut_off_and_reported(
    tmp_path: Path, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(tmp_path)
    append(log, b"one", b"two")
    whole = log.size
    append(log, b"x" * 60)
    log.close()
    path = only_file(tmp_path)
    with path.open("r+b") as file:
        file.truncate(whole + left)
    with caplog.at_level(logging.WARNING):
        log = opened(tmp_path)
    assert (log.torn, log.torn_bytes, log.damaged) == (1, left, 0)
    assert "cut off" in caplog.text and f"{left} bytes" in caplog.text
    assert bodies(log) == [b"one", b"two"]
    assert path.stat().st_size == whole
    append(log, b"three")
    log.close()
    log = opened(tmp_path)
    assert (bodies(log), log.torn) == ([b"one", b"two", b"three"], 0)
    log.close()


def test_zeros_and_rubbish_at_the_end_are_torn_too(tmp_path: Path) -> None:
    for number in range(3):
        log = opened(tmp_path / str(number))
        append(log, b"one")
        log.close()
        mark = mark_of(log.segments[0].salt)
        rubbish = (b"\0" * 5000, mark * 40, FRAME.pack(mark, 2**32 - 1, 0))[number]
        with only_file(tmp_path / str(number)).open("ab") as file:
            file.write(rubbish)
        log = opened(tmp_path / str(number))
        assert (bodies(log), log.torn_bytes) == ([b"one"], len(rubbish))
        log.close()


def test_a_torn_record_is_searched_for_no_frames_that_its_publisher_can_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path / "other")
    append(log, b"one")
    log.close()
    frame = only_file(tmp_path / "other").read_bytes()[HEADER_SIZE:]
    log = opened(tmp_path / "torn")
    append(log, b"one")
    append(log, frame * 1000)
    log.close()
    path = only_file(tmp_path / "torn")
    os.truncate(path, path.stat().st_size - 1)
    looks: list[int] = []

    def frame_at(data: bytes, position: int, salt: int) -> bytes | None:
        looks.append(position)
        return found(data, position, salt)

    found = records.frame_at
    monkeypatch.setattr(records, "frame_at", frame_at)
    log = opened(tmp_path / "torn")
    assert (bodies(log), log.torn, len(looks)) == ([b"one"], 1, 2)
    log.close()


def test_a_log_of_the_format_before_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    log = opened(tmp_path)
    append(log, b"one")
    log.close()
    path = only_file(tmp_path)
    head = records.MAGIC_BEFORE + path.read_bytes()[8 : HEADER_SIZE - 4]
    before = head + zlib.crc32(head).to_bytes(4, "little") + b"records"
    path.write_bytes(before)
    with pytest.raises(OSError, match=r"format of a version before 0\.1\.0"):
        opened(tmp_path)
    assert path.read_bytes() == before


def damage(path: Path, what: bytes) -> None:
    data = path.read_bytes()
    place = data.index(what)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(255 - byte for byte in what))


def test_damage_in_the_middle_is_told_to_every_reader(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = opened(tmp_path)
    append(log, b"first", b"second", b"third", b"fourth")
    log.close()
    damage(only_file(tmp_path), b"second")
    damage(only_file(tmp_path), b"third")
    log = opened(tmp_path)
    assert "2 records" in caplog.text and "damaged" in caplog.text
    assert (log.damaged, log.torn, log.end) == (2, 0, 5)
    assert [each.body for each in log.read(1, 10)] == [b"first"]
    with pytest.raises(LogDamaged, match="offsets 2 to 3") as told:
        log.read(2, 10)
    assert (told.value.first, told.value.last) == (2, 3)
    assert bodies(log, 4) == [b"fourth"]
    log.close()


def test_damage_while_it_is_open_and_in_sealed_segments_is_found_by_reading(tmp_path: Path) -> None:
    log = opened(tmp_path, 60)
    append(log, b"first")
    append(log, b"second")
    append(log, b"third")
    assert len(log.segments) == 3
    damage(log.segments[1].path, b"second")
    with pytest.raises(LogDamaged, match="offsets 2 to 2"):
        log.read(2, 10)
    assert bodies(log, 3) == [b"third"]
    log.close()
    log = opened(tmp_path, 60)
    with pytest.raises(LogDamaged):
        log.read(2, 10)
    log.close()


def test_what_lies_damaged_side_by_side_is_told_at_once_and_counted_once(tmp_path: Path) -> None:
    log = opened(tmp_path, 300)
    append(log, *[b"<%d>" % offset for offset in range(1, 61)])
    assert len(log.segments) > AWAKE + 1
    sealed = log.segments[1]
    first, last = sealed.base + 1, sealed.end - 2
    assert first < last
    for offset in range(first, last + 1):
        damage(sealed.path, b"<%d>" % offset)
    for _ in range(3):
        assert log.read(sealed.base, 10)[-1].offset == sealed.base
        with pytest.raises(LogDamaged) as told:
            log.read(first, 10)
        assert (told.value.first, told.value.last) == (first, last)
        for offset in range(last + 1, 61):  # so that the damaged segment rests
            assert log.read(offset, 1)[0].body == b"<%d>" % offset
        assert log.damaged == last + 1 - first
    log.close()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_record_that_can_t_be_decoded_is_damaged(tmp_path: Path, sealed: bool) -> None:
    log = opened(tmp_path)
    append(log, b"one")
    log.write([Record(2, 2 * SECOND, "orders.new", b"two", {"number": 5})], sync=True)  # type: ignore[dict-item]
    append(log, b"three")
    if sealed:
        log.segments[-1].seal()
        log.segments.append(Segment.create(tmp_path, 4))
    for _ in range(2):
        assert bodies(log, 3) == [b"three"] and log.read(1, 10)[0].body == b"one"
        with pytest.raises(LogDamaged, match="offsets 2 to 2"):
            log.read(2, 10)
        assert log.damaged == 1
        log.close()
        log = opened(tmp_path)
    log.close()


def test_a_body_that_looks_like_a_record_is_none(tmp_path: Path) -> None:
    log = opened(tmp_path)
    forged = framed(encode_record(Record(900, 1, "orders.new", b"forged")), 0)
    append(log, b"begin" + forged, b"end")
    log.close()
    damage(only_file(tmp_path), b"begin")
    log = opened(tmp_path)
    assert (log.end, log.damaged) == (3, 1)
    assert bodies(log, 2) == [b"end"]
    log.close()


def test_a_segment_that_is_gone_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = opened(tmp_path, 60)
    for number in range(3):
        append(log, b"%d" % number * 40)
    gone = log.segments[1]
    log.close()
    gone.remove()
    log = opened(tmp_path, 60)
    assert log.damaged == 1 and "missing" in caplog.text
    with pytest.raises(LogDamaged, match="offsets 2 to 2"):
        log.read(2, 1)
    log.close()


@pytest.mark.parametrize("places", [range(8), range(12, 24), range(24 - 4, 24)])
@pytest.mark.parametrize("segment", [60, 1 << 20])
def test_a_segment_whose_header_is_damaged_is_mended(
    tmp_path: Path, places: range, segment: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(tmp_path, segment)
    append(log, *[b"%d" % number * 40 for number in range(5)])
    log.close()
    for path in tmp_path.glob("*.log"):
        data = bytearray(path.read_bytes())
        for place in places:
            data[place] ^= 255
        path.write_bytes(data)
    log = opened(tmp_path, segment)
    assert "header" in caplog.text and "was damaged" in caplog.text
    assert (log.first, log.end, log.damaged, log.torn) == (1, 6, 0, 0)
    append(log, b"after")
    log.close()
    caplog.clear()
    log = opened(tmp_path, segment)
    assert bodies(log) == [*(b"%d" % number * 40 for number in range(5)), b"after"]
    assert not caplog.text
    log.close()


@pytest.mark.parametrize("left", [0, 3, 23, None])
@pytest.mark.parametrize("given", [0, 7, 1 << 30])
def test_a_last_segment_without_a_header_is_set_aside_and_its_offsets_never_come_again(
    tmp_path: Path, left: int | None, given: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(tmp_path)
    append(log, *[b"body"] * 10)
    log.close()
    path = only_file(tmp_path)
    path.write_bytes((b"\0" * 24 + path.read_bytes()[24:])[:left])
    log = opened(tmp_path, given=given)
    assert log.end > max(10, given) and log.damaged == log.end - 1
    assert (log.torn, log.torn_bytes) == (0, 0)
    assert "are lost" in caplog.text and "unfinished" not in caplog.text
    assert list(tmp_path.glob("*.damaged"))
    first = log.end
    append(log, b"after")
    log.close()
    log = opened(tmp_path)
    assert (log.first, bodies(log)) == (first, [b"after"])
    log.close()


@pytest.mark.parametrize("lost", [[0], [0, 1], [1]])
def test_a_segment_that_is_set_aside_is_counted(
    tmp_path: Path, lost: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(tmp_path, segment=200)
    append(log, *[b"body"] * 30)
    bases = [each.base for each in log.segments]
    log.close()
    for each in lost:
        sorted(tmp_path.glob("*.log"))[each].write_bytes(b"\0" * 30)
    log = opened(tmp_path, segment=200)
    assert log.damaged == bases[lost[-1] + 1] - bases[lost[0]]
    assert f"the {log.damaged} records before" in caplog.text
    log.close()


def test_what_is_lost_is_no_reason_to_remove_what_is_there(tmp_path: Path) -> None:
    log = opened(tmp_path, count=20)
    append(log, *[b"body"] * 7)
    log.close()
    last = max(tmp_path.glob("*.log"))
    last.write_bytes(b"")
    log = opened(tmp_path, count=20, given=5000)
    assert log.end == 5001
    append(log, b"after")
    log.retain(log.end * SECOND)
    assert bodies(log, 5001) == [b"after"] and log.read(1, 10)[0].offset == 1
    with pytest.raises(LogDamaged, match=f"offsets {int(last.stem)} to 5000"):
        log.read(int(last.stem), 1)
    log.close()


@pytest.mark.parametrize("cut", [1, 30, 70, 130])
def test_a_log_that_ends_before_what_was_settled_goes_on_after_that_and_says_so(
    tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(tmp_path)
    append(log, *[b"x" * 60] * 5)
    log.close()
    path = only_file(tmp_path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    log = opened(tmp_path, given=5)
    left = 4 - (cut > 100)
    assert (log.end, log.damaged, log.torn, log.torn_bytes) == (6, 5 - left, 0, 0)
    assert f"offsets {left + 1} to 5 are lost" in caplog.text and "nothing" not in caplog.text
    append(log, b"after")
    log.close()
    log = opened(tmp_path, given=5)
    assert log.damaged == 5 - left
    assert len(log.read(1, 10)) == left
    with pytest.raises(LogDamaged, match=f"offsets {left + 1} to 5"):
        log.read(left + 1, 1)
    assert bodies(log, 6) == [b"after"]
    log.close()


def test_a_log_without_a_file_goes_on_after_what_was_settled(tmp_path: Path) -> None:
    log = opened(tmp_path, given=5)
    assert (log.first, log.end, log.damaged) == (6, 6, 5)
    log.close()


@pytest.mark.parametrize("written", [0, 10, 24])
def test_a_segment_that_was_just_being_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    log = opened(tmp_path, 60)
    append(log, b"one" * 20)
    append(log, b"two" * 20)

    def killed(descriptor: int, data: bytes, position: int) -> None:
        import os

        os.pwrite(descriptor, data[:written], position)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mukernel.servers.events.disk.write_all", killed)
        with pytest.raises(KeyboardInterrupt):
            append(log, b"three")
    log.close()
    log = opened(tmp_path, 60)
    assert (log.torn, log.end, log.damaged) == (0, 3, 0)
    append(log, b"three")
    assert bodies(log, 3) == [b"three"]
    assert not list(tmp_path.glob("*.new"))
    log.close()


def test_an_index_that_does_not_fit_is_not_believed(tmp_path: Path) -> None:
    log = opened(tmp_path, 60)
    for number in range(3):
        append(log, b"%d" % number * 40)
    indices = sorted(tmp_path.glob("*.index"))
    assert len(indices) == 2
    log.close()
    indices[0].write_bytes(indices[1].read_bytes())
    indices[1].write_bytes(b"rubbish")
    log = opened(tmp_path, 60)
    assert bodies(log) == [b"0" * 40, b"1" * 40, b"2" * 40]
    log.close()


def test_retention_by_count_size_and_age(tmp_path: Path) -> None:
    log = opened(tmp_path / "count", count=100)
    for _ in range(1000):
        append(log, b"body")
        log.retain(log.end * SECOND)
    assert 75 <= log.end - log.first <= 100
    assert len(bodies(log)) == log.end - log.first
    log.close()
    log = opened(tmp_path / "size", size=10_000)
    for _ in range(200):
        append(log, b"b" * 200)
        log.retain(log.end * SECOND)
    assert 7_000 <= log.size <= 10_000
    assert sum(path.stat().st_size for path in (tmp_path / "size").glob("*.log")) == log.size
    log.close()
    log = opened(tmp_path / "age", age=100 * SECOND)
    for _ in range(1000):
        append(log, b"body")
        log.retain(log.end * SECOND)
    assert 100 <= log.end - log.first <= 130
    log.close()


def test_offsets_are_found_by_time(tmp_path: Path) -> None:
    log = opened(tmp_path, 200)
    append(log, *[b"body"] * 20)
    assert [log.offset_at(second * SECOND) for second in (0, 1, 7, 20, 21)] == [1, 1, 7, 20, 21]
    assert log.offset_at(7 * SECOND - 1) == 7
    log.close()


@pytest.mark.parametrize("segment", [1, 200, 1 << 20])
@pytest.mark.parametrize("lost", [{2, 3}, {10, 11}, {10, 12}, {19, 20}, {1, 2}, set(range(5, 16)), set(range(1, 21))])
def test_offsets_are_found_by_time_though_many_are_damaged(tmp_path: Path, segment: int, lost: set[int]) -> None:
    """Also while they are not known to be damaged: sealed segments are looked at when they are read."""
    log = opened(tmp_path, segment)
    append(log, *[b"<%d>" % offset for offset in range(1, 21)])
    for each in log.segments:
        for offset in lost:
            if each.base <= offset < each.end:
                damage(each.path, b"<%d>" % offset)
    for second in (0, 1, 7, 10, 20, 21):
        earlier = [offset for offset in range(1, 21) if offset not in lost and offset < second]
        assert log.offset_at(second * SECOND) == max(earlier, default=0) + 1, "what may be as late is there"
    log.close()


def test_what_a_full_disk_had_no_room_for_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    append(log, b"one")
    size = log.size

    def full(descriptor: int, data: bytes, position: int) -> None:
        import os

        os.pwrite(descriptor, data[:7], position)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mukernel.servers.events.segment.write_all", full)
        with pytest.raises(OSError, match="No space"):
            append(log, b"two")
    assert log.segments[-1].path.stat().st_size == size
    append(log, b"three")
    log.close()
    log = opened(tmp_path)
    assert (bodies(log), log.torn) == ([b"one", b"three"], 0)
    log.close()


def test_files_that_are_not_ours_are_named_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = opened(tmp_path, 60)
    append(log, b"one", b"two")
    log.close()
    whole = (tmp_path / f"{1:020}.log").read_bytes()
    odd = [
        "backup.log",
        "1.log",
        f"{1:020}.copy.log",
        f"{2**64 - 1}.log",
        f"{0:020}.log",
        "9" * 20 + ".log",
        "\u0661.log",
    ]
    others = ["mine.new", f"{1:020}.damaged", "notes.index"]
    for name in [*odd, *others]:
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "folder.new").mkdir()
    with caplog.at_level(logging.WARNING, "mukernel.events"):
        log = opened(tmp_path, 60)
    assert (bodies(log), log.damaged, log.torn) == ([b"one", b"two"], 0, 0)
    append(log, b"three")
    assert bodies(log) == [b"one", b"two", b"three"]
    log.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(odd) and all(any(str(tmp_path / name) in line for line in told) for name in odd)
    assert all((tmp_path / name).read_bytes() == whole for name in [*odd, *others])
