"""What a group has settled, as a file of records: a snapshot, and each step since. Replaced as a whole when long."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec

from .disk import is_full, open_file, read_file, replace_file, write_all
from .records import HEADER_SIZE, framed, frames, new_header, read_header

log = logging.getLogger("mukernel.events")
LONG = 1024 * 1024  # bytes; or twice what it had after it was last replaced


class Settled(msgspec.Struct, array_like=True, tag=1):
    offset: int


class Tried(msgspec.Struct, array_like=True, tag=2):
    """`deliveries` of an event have ended, and it is not settled. `doubtful`: so many of them don't count;
    `given_back`: so many its consumers ended. What was under way when the server was killed is in none: that says
    nothing of the event."""

    offset: int
    deliveries: int
    doubtful: int = 0
    given_back: int = 0


class Snapshot(msgspec.Struct, array_like=True, tag=0):
    """`cursor`: the next offset that nobody was given; all before it is settled but what is `outstanding`. `settled`:
    what is from there on."""

    pattern: str
    cursor: int
    outstanding: list[Tried]
    settled: list[int]


Entry = Snapshot | Settled | Tried
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class GroupJournal:
    """A step is with the operating system when `append` returns: it survives the death of every process. After a power
    cut the last ones may be missing; their events are then delivered again.

    `lacking`: the disk was full, and steps are known to their group alone until a snapshot can be written: what is
    settled has to go on, since it makes room.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor, self.salt, self.size, self.limit = -1, 0, 0, LONG
        self.lacking = False

    @staticmethod
    def create(path: Path, snapshot: Snapshot) -> GroupJournal:
        """A new journal, on the disk. Raises OSError."""
        journal = GroupJournal(path)
        journal.replace(snapshot)
        return journal

    @staticmethod
    def open(path: Path) -> tuple[GroupJournal, list[Entry]]:
        """A journal and what stands in it. What can't be read is reported: its events are delivered again. Raises
        OSError; ValueError if nothing can be read."""
        data = read_file(path)
        header = read_header(data)
        if header is None:
            raise ValueError(f"{path} has no header that can be read")
        journal = GroupJournal(path)
        journal.salt, end, entries = header[1], HEADER_SIZE, []
        for frame in frames(data, journal.salt):
            if frame.after_damage:
                log.error("%s is damaged before byte %d: some events are delivered again", path, frame.position)
            try:
                entries.append(_decode(frame.payload))
            except Exception as error:
                raise ValueError(f"{path} holds what can't be read, at byte {frame.position}: {error}") from None
            end = frame.end
        if not entries or not isinstance(entries[0], Snapshot):
            raise ValueError(f"{path} does not begin with a snapshot that can be read")
        journal.descriptor, journal.size = open_file(path, os.O_RDWR), end
        if end < len(data):
            log.warning("%s: an unfinished write of %d bytes was cut off", path, len(data) - end)
            os.ftruncate(journal.descriptor, end)
        return journal, entries

    @property
    def is_long(self) -> bool:
        return self.size > self.limit

    def append(self, entry: Entry) -> None:
        """Raises OSError; then nothing was added. Not where the disk is full: then it is `lacking`."""
        frame = framed(_encode(entry), self.salt)
        try:
            write_all(self.descriptor, frame, self.size)
        except OSError as error:
            os.ftruncate(self.descriptor, self.size)
            if not is_full(error):
                raise
            if not self.lacking:
                log.error(
                    "%s: %s; until there is room, a crash has what is settled now delivered again", self.path, error
                )
                self.lacking = True
            return
        self.size += len(frame)

    def replace(self, snapshot: Snapshot) -> None:
        """Put a snapshot in the place of everything. Raises OSError."""
        data, salt = written(snapshot)
        replace_file(self.path, data)
        self.close()
        self.descriptor, self.salt, self.size = open_file(self.path, os.O_RDWR), salt, len(data)
        self.limit = max(LONG, 2 * self.size)
        if self.lacking:
            log.info("%s has all that is settled again", self.path)
            self.lacking = False

    async def finish(self, snapshot: Snapshot) -> None:
        """As `replace`, and close it: what would be appended from now on is refused, not lost. On a full disk what is
        there stays. Raises OSError."""
        self.close()
        try:
            await asyncio.to_thread(replace_file, self.path, written(snapshot)[0])
            self.lacking = False
        except OSError as error:
            if not is_full(error):
                raise
            lost = ", and some of what is settled may be delivered again" if self.lacking else ""
            log.error("%s can't be replaced by a shorter one: %s; it stays as it is%s", self.path, error, lost)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def written(snapshot: Snapshot) -> tuple[bytes, int]:
    """A whole journal that has nothing but a snapshot, and its salt."""
    header = new_header(0)
    found = read_header(header)
    assert found is not None
    return header + framed(_encode(snapshot), found[1]), found[1]
