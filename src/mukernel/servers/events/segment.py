"""A segment: one file of a stream's log, with the places of its records.

A segment that is written to no more is sealed: the places of its records stand in a file beside it, so that opening a
long log reads only its last segment. Without that file, or where it does not fit, the segment is read instead.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from array import array
from pathlib import Path

import msgspec

from .disk import BEING_MADE, open_file, put_file, read_file, replace_file, write_all
from .records import HEADER_SIZE, frame_at, framed, frames, header_of, new_header, read_header, salt_in

LOST = 2**64 - 1  # the place of a record that can't be read
SMALLEST = 16  # bytes; no record is smaller
_NAME = re.compile(rf"([0-9]{{20}})\.(?:log|index)(?:{re.escape(BEING_MADE)})?")
_INDEX = struct.Struct("<QQQqqQ")  # base, size, salt, time of the first record, of the last one, number of records


class Record(msgspec.Struct, frozen=True, array_like=True):
    """An event as it stands in the log. `at`: ns since 1970, UTC, never less than that of the record before."""

    offset: int
    at: int
    topic: str
    body: bytes
    headers: dict[str, str] = {}
    identity: str = ""


def base_of(path: Path) -> int | None:
    """The first offset of the segment that a file is, or belongs to; None for a file that is none of ours."""
    found = _NAME.fullmatch(path.name)
    base = int(found[1]) if found else 0
    return base if 0 < base < 2**63 else None


encode_record = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def record_in(payload: bytes | None) -> Record | None:
    """None for what is no record, though its checksum may be right."""
    try:
        return None if payload is None else _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class Segment:
    """Records `base` to `base + count - 1`, in one file of `size` bytes.

    `damaged`: how many of them can't be read. `torn`: bytes of an unfinished write that were cut off at the end.
    `mended`: its header could not be read, and was written anew.
    """

    def __init__(self, path: Path, base: int, salt: int) -> None:
        self.path, self.base, self.salt = path, base, salt
        self.size, self.count, self.damaged, self.torn = HEADER_SIZE, 0, 0, 0
        self.first_at = self.last_at = 0
        self.mended = False
        self._places: array[int] | None = array("Q")
        self._marked = False  # the places say more than the index: what reading found damaged
        self._descriptor = -1

    @property
    def end(self) -> int:
        """The offset after its last record."""
        return self.base + self.count

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(".index")

    # -- make and open ----------------------------------------------------------------------------------------

    @staticmethod
    def create(folder: Path, base: int) -> Segment:
        """A new file, which is on the disk under its name before anything is written to it. It gets that name with its
        header: one that has the name and no header was damaged, whatever its size. Raises OSError."""
        path = folder / f"{base:020}.log"
        header = new_header(base)
        segment = Segment(path, base, salt_in(header))
        segment._descriptor = put_file(path, header)
        return segment

    @staticmethod
    def open(path: Path, last: bool) -> Segment | None:
        """What stands in a file; None where its header can't be read, and can't be mended. `last`: others may write on,
        so an unfinished write at its end is cut off; in any other segment it would be damage. Raises OSError."""
        base = int(path.stem)
        with open(path, "rb", opener=open_file) as file:
            header = read_header(file.read(HEADER_SIZE))
        if header is not None:
            if header[0] != base:
                return None
            segment = Segment(path, base, header[1])
        elif (mended := Segment._mended(path, base)) is not None:
            segment = mended
        else:
            return None
        if last or not segment._read_index():
            segment._scan(last)
        return segment

    @staticmethod
    def _mended(path: Path, base: int) -> Segment | None:
        """A segment whose header is damaged, but for the salt, which a record fits to. It gets a new header: what else
        stands there is known from the name of the file. Raises OSError."""
        data = read_file(path)
        if len(data) < HEADER_SIZE:
            return None
        salt = salt_in(data)
        first = next(frames(data, salt), None)
        record = None if first is None else record_in(first.payload)
        if first is None or record is None or not 0 <= record.offset - base <= first.position // SMALLEST:
            return None
        with open(path, "r+b", opener=open_file) as file:
            file.write(header_of(base, salt))
            file.flush()
            os.fsync(file.fileno())
        segment = Segment(path, base, salt)
        segment.mended = True
        return segment

    def _scan(self, last: bool) -> None:
        data = read_file(self.path)
        places, end = array("Q"), HEADER_SIZE
        for frame in frames(data, self.salt):
            record = record_in(frame.payload)
            if record is None:
                places.append(LOST)
                end = frame.end
                continue
            lost = record.offset - self.base - len(places)
            if lost < 0:
                continue  # a number that was given before: nothing that we write
            places.extend([LOST] * lost)
            places.append(frame.position)
            self.first_at, self.last_at, end = self.first_at or record.at, record.at, frame.end
        self._places, self.count, self.damaged = places, len(places), places.count(LOST)
        self.size, self.torn = (end, len(data) - end) if last else (len(data), 0)
        if self.torn:
            with open(self.path, "r+b", opener=open_file) as file:
                file.truncate(end)
                os.fsync(file.fileno())

    def _read_index(self) -> bool:
        """Take what the index says, but for the places; False where there is none that fits."""
        found = self._index()
        if found is None:
            return False
        _, self.size, _, self.first_at, self.last_at, self.count = found[0]
        self.damaged = found[1].count(LOST)
        self._places = None
        return True

    def _index(self) -> tuple[tuple[int, ...], array[int]] | None:
        try:
            data = read_file(self.index_path)
        except OSError:
            return None
        head, body = data[: _INDEX.size], data[_INDEX.size : -4]
        if len(data) < _INDEX.size + 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            return None
        values = _INDEX.unpack(head)
        fits = values[:3] == (self.base, self.path.stat().st_size, self.salt) and len(body) == 8 * values[5]
        return (values, array("Q", body)) if fits else None

    def seal(self) -> None:
        """Write the index; nothing more comes. Raises OSError."""
        head = _INDEX.pack(self.base, self.size, self.salt, self.first_at, self.last_at, self.count)
        data = head + self.places.tobytes()
        replace_file(self.index_path, data + zlib.crc32(data).to_bytes(4, "little"))

    # -- read and write ---------------------------------------------------------------------------------------

    @property
    def places(self) -> array[int]:
        """Where each record stands in the file; LOST for one that can't be read."""
        if self._places is None:
            found = self._index()
            if found is None:
                self._scan(last=False)
            else:
                self._places = found[1]
        assert self._places is not None
        return self._places

    @property
    def descriptor(self) -> int:
        """The open file."""
        if self._descriptor < 0:
            self._descriptor = open_file(self.path, os.O_RDWR)
        return self._descriptor

    def append(self, payloads: list[bytes]) -> list[int]:
        """Write records at the end, and return their places, which `written` takes. Raises OSError; then the file is
        cut back to what it was."""
        places, position, parts = [], self.size, []
        for payload in payloads:
            frame = framed(payload, self.salt)
            places.append(position)
            parts.append(frame)
            position += len(frame)
        try:
            write_all(self.descriptor, b"".join(parts), self.size)
        except OSError:
            self.cut_back()
            raise
        return [*places, position]

    def cut_back(self) -> None:
        """Take from the file what `append` wrote and `written` did not take. Raises OSError."""
        os.ftruncate(self.descriptor, self.size)

    def written(self, places: list[int], first_at: int, last_at: int) -> None:
        """From now on the records that `append` wrote can be read. Readers may look meanwhile, from another thread: the
        number of records is what they go by, so it is last."""
        self.size = places[-1]
        self.places.extend(places[:-1])
        self.first_at, self.last_at = self.first_at or first_at, last_at
        self.count += len(places) - 1

    def sync(self) -> None:
        """Wait until the disk has everything. Raises OSError."""
        os.fdatasync(self.descriptor)

    def read(self, offset: int, count: int, size: int) -> list[Record]:
        """Records from `offset` on, at most `count`, of about `size` bytes and at least one; they end before one that
        can't be read, and are none where that is the first."""
        places = self.places
        begin = offset - self.base
        stop = begin
        while stop < min(begin + count, self.count) and places[stop] != LOST:
            if stop > begin and places[stop] - places[begin] > size:
                break
            stop += 1
        if stop == begin:
            return []
        # The frames end where the next one begins; where that is lost, the lengths of the frames say it.
        start = places[begin]
        end = next((places[number] for number in range(stop, self.count) if places[number] != LOST), self.size)
        data = os.pread(self.descriptor, end - start, start)
        found: list[Record] = []
        for number in range(begin, stop):
            record = record_in(frame_at(data, places[number] - start, self.salt))
            if record is None:
                places[number] = LOST
                self.damaged += 1
                self._marked = True
            elif number > begin + len(found):  # readers are told of the damage before it first: of all of it at once
                break
            else:
                found.append(record)
        return found

    def rest(self) -> None:
        """Let go of the memory and the descriptor of a sealed segment, until it is read again."""
        self.close()
        if self.index_path.exists() and not self._marked:
            self._places = None

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Delete it. The index goes first: alone it would be nothing. Raises OSError."""
        self.close()
        self.index_path.unlink(missing_ok=True)
        self.path.unlink()
