"""The log of one stream: segments in a folder, appended to at the end, removed at the beginning by age and size."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .disk import BEING_MADE, make_folder
from .interface import LogDamaged
from .segment import LOST, SMALLEST, Record, Segment, base_of, encode_record

log = logging.getLogger("mukernel.events")
AWAKE = 4  # sealed segments that are kept open, with the places of their records in memory


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept at most: `age` in ns, bytes on the disk, records; None: no such limit. Whole segments are removed,
    each about a quarter of that, so at least three quarters stay."""

    age: int | None = None
    size: int | None = None
    count: int | None = None


class Log:
    """`first` to `last` are the offsets that there are; the first of all is 1.

    `write` may run in a thread beside readers; all else belongs to the loop. `torn`, `torn_bytes`: unfinished writes
    that opening cut off.
    """

    def __init__(self, name: str, folder: Path, retention: Retention, segment_size: int, given: int = 0) -> None:
        """Open it, or make it. `given`: an offset that is known to have been given to some record, whatever the files
        say: no offset up to it is given again. Raises OSError."""
        self.name, self.folder, self.retention = name, folder, retention
        self.segment_size = min(segment_size, max(1, (retention.size or segment_size * 4) // 4))
        self.segment_count = max(1, retention.count // 4) if retention.count else None
        self.torn = self.torn_bytes = self.syncs = 0
        self.missing = 0  # offsets between segments whose files are gone
        self.settled: Callable[[], int] = lambda: 0  # the offset up to which nobody wants them any more
        self.awake: list[Segment] = []  # the one that was read last is the last
        self.sealed: list[Segment] = []  # by `write`, since `rest` was called
        self.segments: list[Segment] = []
        make_folder(folder)
        self._open(given)

    def _open(self, given: int) -> None:
        for left in self.folder.glob(f"*{BEING_MADE}"):  # by a crash
            if base_of(left) is not None:
                left.unlink()
        paths = sorted(self.folder.glob("*.log"))
        for path in [each for each in paths if base_of(each) is None]:
            log.warning("stream %r: %s is no segment of its log, and is left alone; move it away", self.name, path)
            paths.remove(path)
        aside = 0  # the first offset of what stood before the first segment that can be read
        for path in paths:
            segment = Segment.open(path, last=path == paths[-1])
            if segment is None:
                aside = aside or int(path.stem)
                self._set_aside(path, given, last=path == paths[-1])
                continue
            if segment.mended:
                log.error(
                    "stream %r: the header of %s was damaged, and was written anew; %d of its records can be read",
                    self.name, path, segment.count - segment.damaged,
                )  # fmt: skip
            if segment.damaged:
                log.error(
                    "stream %r: %d records of %s are damaged; readers are told which",
                    self.name, segment.damaged, path,
                )  # fmt: skip
            end = self.segments[-1].end if self.segments else aside
            if end and segment.base != end:
                self.missing += segment.base - end
                log.error("stream %r: the %d records before %s are missing", self.name, segment.base - end, path)
            self.segments.append(segment)
        if not self.segments and not given:
            self.segments.append(Segment.create(self.folder, 1))
        elif not self.segments or self.end <= given:
            self._pass_over(given)
        elif size := self.segments[-1].torn:
            self.torn, self.torn_bytes = 1, size
            log.warning(
                "stream %r: an unfinished write of %d bytes was cut off the end of %s; nothing before it is lost",
                self.name, size, self.segments[-1].path,
            )  # fmt: skip

    def _set_aside(self, path: Path, given: int, last: bool) -> None:
        """A segment without a header that can be read."""
        size, base = path.stat().st_size, int(path.stem)
        aside = path.with_suffix(".damaged")
        path.rename(aside)
        log.error("stream %r: %s has no header that can be read; it was renamed to %s", self.name, path, aside.name)
        if last:  # its offsets were given away, and must not come again; whatever is left of it, it was no larger
            most = max(size, self.segment_size) // SMALLEST + 1
            if self.segment_count is not None:
                most = min(most, max(size // SMALLEST + 1, self.segment_count))
            end = max(base + most, given + 1)
            self.missing += end - base
            log.error(
                "stream %r: the records that it had, if it had some, are lost; what is published now has offsets from "
                "%d on, beyond all that it can have had", self.name, end,
            )  # fmt: skip
            self.segments.append(Segment.create(self.folder, end))

    def _pass_over(self, given: int) -> None:
        """The files end before what was given to somebody: what they had of it was whole, and is lost."""
        lost, cut = 1, 0
        if self.segments:
            last = self.segments[-1]
            lost, cut = last.end, last.torn
            last.seal()
        self.missing += given + 1 - lost
        log.error(
            "stream %r: offsets %d to %d are lost, and what was stored after them, if there was more: groups were "
            "given what was up to there, and the log in %s ends before%s; what is published now has offsets from %d on",
            self.name, lost, given, self.folder, f" (in {cut} bytes that were cut off)" if cut else "", given + 1,
        )  # fmt: skip
        self.segments.append(Segment.create(self.folder, given + 1))

    # -- figures ----------------------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        return self.segments[0].base

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return self.segments[-1].end

    @property
    def last_at(self) -> int:
        return max(segment.last_at for segment in self.segments)

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def damaged(self) -> int:
        return self.missing + sum(segment.damaged for segment in self.segments)

    # -- write ------------------------------------------------------------------------------------------------

    def write(self, records: Sequence[Record], sync: bool) -> None:
        """Append records, whose offsets go on from `end`; with `sync`, return when they are on the disk. Raises
        OSError; what was not written is not there then, but for a failed sync."""
        left = list(records)
        while left:
            active = self._segment_for(left[0])
            room = active.count + len(left) if self.segment_count is None else max(self.segment_count, active.count + 1)
            taken, size = 0, active.size
            payloads: list[bytes] = []
            while taken < len(left) and active.count + taken < room and (taken == 0 or size < self.segment_size):
                payloads.append(encode_record(left[taken]))
                size += len(payloads[-1])
                taken += 1
            places = active.append(payloads)
            if sync:
                try:
                    active.sync()
                except OSError:
                    active.cut_back()  # its publishers are told that it is not there
                    raise
                self.syncs += 1
            active.written(places, left[0].at, left[taken - 1].at)
            del left[:taken]

    def waits_for_disk(self, record: Record) -> bool:
        """Is it time for a new segment, because the last is full, or old?"""
        active = self.segments[-1]
        full = active.size >= self.segment_size or (self.segment_count and active.count >= self.segment_count)
        old = self.retention.age is not None and record.at - active.first_at > self.retention.age // 4
        return bool(active.count and (full or old))

    def _segment_for(self, record: Record) -> Segment:
        """The segment that takes the next record."""
        active = self.segments[-1]
        if self.waits_for_disk(record):
            active.sync()
            active.seal()
            self.segments.append(Segment.create(self.folder, active.end))
            self.sealed.append(active)  # a reader may have it in its hands: `rest` lets go of it, on the loop
        return self.segments[-1]

    def sync(self) -> None:
        self.segments[-1].sync()
        self.syncs += 1

    def rest(self) -> None:
        """Keep what was sealed open only as long as it is read. Not while `write` runs."""
        while self.sealed:
            self._wake(self.sealed.pop(0))

    def retain(self, now: int) -> None:
        """Remove the segments that are too old, too many or settled. `now`: ns since 1970. Not while `write` runs.
        Raises OSError; what could not be removed can still be read, and its turn comes again."""
        limit = self.retention
        while len(self.segments) > 1:
            oldest = self.segments[0]
            too_many = limit.count is not None and sum(each.count for each in self.segments) > limit.count
            too_large = limit.size is not None and self.size > limit.size
            too_old = limit.age is not None and oldest.last_at < now - limit.age
            settled = oldest.end <= self.settled() + 1
            if not (too_many or too_large or too_old or settled):
                return
            oldest.remove()
            del self.segments[0]
            for known in (self.awake, self.sealed):
                if oldest in known:
                    known.remove(oldest)

    # -- read -------------------------------------------------------------------------------------------------

    def read(self, offset: int, count: int, size: int = 256 * 1024) -> list[Record]:
        """Records from `offset` (at least `first`) on: at least one where there is one, at most `count`, of about
        `size` bytes. Raises LogDamaged where the first can't be read."""
        if offset >= self.end:
            return []
        number = bisect.bisect_right(self.segments, offset, key=lambda segment: segment.base) - 1
        segment = self.segments[number]
        if offset >= segment.end:  # between two segments
            raise LogDamaged(self.name, offset, self.segments[number + 1].base - 1)
        self._wake(segment)
        found = segment.read(offset, count, size)
        if not found:
            last = offset
            while last + 1 < segment.end and segment.places[last + 1 - segment.base] == LOST:
                last += 1
            raise LogDamaged(self.name, offset, last)
        return found

    def _wake(self, segment: Segment) -> None:
        if segment is self.segments[-1]:
            return
        if segment in self.awake:
            self.awake.remove(segment)
        self.awake.append(segment)
        if len(self.awake) > AWAKE:
            self.awake.pop(0).rest()

    def offset_at(self, at: int) -> int:
        """The first offset whose time is `at` (ns since 1970) or later; `end` if there is none. Damaged ones just
        before it may be as late: then it is the first of these."""
        low, high = self.first, self.end
        while low < high:
            middle = (low + high) // 2
            found = self._readable(middle, high)
            if found is not None and found.at < at:
                low = found.offset + 1
            else:
                high = middle
        return low

    def _readable(self, offset: int, end: int) -> Record | None:
        """The first record from `offset` on that can be read; None where there is none before `end`."""
        while offset < end:
            try:
                return self.read(offset, 1)[0]
            except LogDamaged as damage:
                offset = damage.last + 1
        return None

    def close(self) -> None:
        for segment in self.segments:
            segment.close()
