"""A consumer group: its place in a stream, what it was given and has not settled, and its journal on the disk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from .event_size import size_of
from .group_journal import GroupJournal, Settled, Snapshot, Tried
from .interface import LogDamaged
from .outstanding import Outstanding, Progress
from .segment import Record
from .topics import matches

log = logging.getLogger("mukernel.events")
LARGE = 256 * 1024  # bytes after which no more is delivered in one step
SCAN = 256  # records of one look, after which what was found has to do
MOST = 65536  # events of a group that may be outstanding: delivered or put off, and not settled
FAR = 65536  # offsets that are looked at when a group is opened
DOUBTS = 2  # doubtful deliveries after which an event is delivered alone

# (records from an offset on, the offset to go on from, how many were lost on the way)
Read = Callable[[int, int], tuple[list[Record], int, int]]


class GroupState(msgspec.Struct):
    """What a swap hands over beyond what the journal has."""

    stream: str
    group: str
    cursor: int
    outstanding: dict[int, Outstanding]
    lacking: bool = False  # the journal lacks something, and is to be written
    progress: dict[str, Progress] = {}
    deliveries: int = 0


class Taken:
    """Events for one member, each with how often it was delivered, this time included. `dead`: those that were
    delivered too often, for the dead letters. `size`: bytes of all of them. `missed`: how many were lost before.
    `number`: of the last delivery."""

    def __init__(self) -> None:
        self.records: list[tuple[Record, int]] = []
        self.dead: list[tuple[Record, int]] = []
        self.size = self.missed = self.number = 0

    def add(self, record: Record, deliveries: int, dead: bool = False) -> None:
        (self.dead if dead else self.records).append((record, deliveries))
        self.size += size_of(record)


class Group:
    """One group of one stream. `cursor`: the next offset that nobody was given: what is before it, and not outstanding,
    is settled, or no matter of this group. `now` gives monotonic seconds.

    Members share the events that fall under `pattern`; "": its journal was damaged, and the next member says it. Each
    has at most its `prefetch` at a time. What several members have left behind is delivered alone: one event that kills
    its consumers must not take those beside it along.
    """

    def __init__(self, name: str, pattern: str, read: Read, now: Callable[[], float]) -> None:
        self.name, self.pattern, self.read, self.now = name, pattern, read, now
        self.cursor = 1
        self.ack_wait, self.max_deliver = 30.0, 5
        self.outstanding: dict[int, Outstanding] = {}
        self.again: set[int] = set()  # outstanding events that are due
        self.alone: dict[str, int] = {}  # what a member was given alone, last
        self.settled: set[int] = set()  # from the cursor on: they were given before a crash of the server
        self.held: Counter[str] = Counter()  # outstanding events by member
        self.progress: dict[str, Progress] = {}  # of members that hold some
        self.paused: dict[str, bool] = {}  # members whose streams are open: do they take nothing for now?
        self.deliveries = 0
        self.next_due = float("inf")  # no other outstanding event is due before
        self.redelivered = self.dead = 0
        self.full_told = False  # that no more may be outstanding is said once, until there is much room
        self.journal: GroupJournal

    @property
    def floor(self) -> int:
        """Every event up to this offset is settled."""
        return min(self.cursor, min(self.outstanding, default=self.cursor)) - 1

    @property
    def is_full(self) -> bool:
        """May no more be outstanding?"""
        return len(self.outstanding) >= MOST

    def behind(self, first: int, end: int) -> int:
        """Offsets of a stream, from `first` to before `end`, that nobody was given."""
        start = max(self.cursor, first)
        known = sum(each >= start for each in self.settled) + sum(each >= start for each in self.outstanding)
        return max(0, end - start - known)

    @property
    def reach(self) -> int:
        """The last offset that the stream had when this group looked, as far as its journal knows."""
        return max(self.cursor - 1, max(self.settled, default=0), max(self.outstanding, default=0))

    # -- the journal ------------------------------------------------------------------------------------------

    def create(self, path: Path, cursor: int) -> None:
        """Begin at an offset, which is on the disk when this returns. Raises OSError."""
        self.cursor = cursor
        self.journal = GroupJournal.create(path, self.snapshot())

    def consume(self, pattern: str) -> None:
        """What falls under it, where the journal could not tell. Raises OSError."""
        self.pattern = pattern
        self.journal.replace(self.snapshot())

    @staticmethod
    def load(path: Path, name: str, read: Read, now: Callable[[], float]) -> Group:
        """A group as its journal has it, before `go_on`. Events that were outstanding are delivered again. Raises
        OSError, ValueError."""
        journal, entries = GroupJournal.open(path)
        group = Group(name, ">", read, now)
        group.journal = journal
        for entry in entries:
            if isinstance(entry, Snapshot):
                group.pattern, group.cursor, group.settled = entry.pattern, entry.cursor, set(entry.settled)
                for tried in entry.outstanding:
                    group._bring_back(tried)
            elif isinstance(entry, Settled):
                group._drop(entry.offset)
                group.settled.add(entry.offset)
            else:
                group._bring_back(entry)
        return group

    def go_on(self) -> None:
        """Go on from what is known, so that the figures are right though no member has come yet. What lies between is
        looked at, FAR events at most; a gap or damage in the log is left for a member, who is told."""
        last, start = max(self.settled, default=0), self.cursor
        while self.cursor <= last and self.cursor - start < FAR:
            if self._knows(self.cursor):
                self.cursor += 1
                continue
            try:
                records, following, lost = self.read(self.cursor, SCAN)
            except LogDamaged:
                break
            waits = (each for each in records if not self._knows(each.offset) and self._wants(each))
            first = next(waits, None)
            if lost or not records or first is not None:
                self.cursor = self.cursor if lost or first is None else first.offset
                break
            self.cursor = following
        self.settled = {each for each in self.settled if each >= self.cursor}

    def _bring_back(self, tried: Tried) -> None:
        """What was outstanding before a crash of the server, or its end: it is due."""
        back = Outstanding(tried.deliveries, self.now(), "", doubtful=tried.doubtful, given_back=tried.given_back)
        self._hold(tried.offset, back)
        self.again.add(tried.offset)

    def _knows(self, offset: int) -> bool:
        """From the cursor on: was it given to somebody, before a crash of the server?"""
        return offset in self.settled or offset in self.outstanding

    def _wants(self, record: Record) -> bool:
        return not self.pattern or matches(self.pattern, record.topic)

    def snapshot(self) -> Snapshot:
        outstanding = [each.tried(offset) for offset, each in sorted(self.outstanding.items())]
        ahead = sorted(each for each in self.settled if each >= self.cursor)
        return Snapshot(self.pattern, self.cursor, outstanding, ahead)

    def shorten(self) -> None:
        """Let a snapshot stand for a long journal, or one that lacks something. Where that can't be written the old one
        stays."""
        if self.journal.lacking:
            with suppress(OSError):  # it has been reported, and is tried again
                self.journal.replace(self.snapshot())
        elif self.journal.is_long:
            try:
                self.journal.replace(self.snapshot())
            except OSError as error:
                log.error("%s can't be replaced by a shorter one: %s", self.journal.path, error)
                self.journal.limit = 2 * self.journal.size

    # -- deliver ----------------------------------------------------------------------------------------------

    def take(self, member: str, prefetch: int) -> Taken:
        """Events for a member: first those that are due again, then new ones. Raises LogDamaged, once of each
        damage: the group goes on after it."""
        taken, now = Taken(), self.now()
        self._come_due(now)
        due, suspects = sorted(self.again), self._suspects()
        if suspects:
            due = [] if self._has_any(member) else suspects[:1]
            self.alone.update((member, offset) for offset in due)
        elif self._has_one_alone(member):
            return taken
        for offset in due:
            if taken.size >= LARGE:
                break
            if self.held[member] >= prefetch and not self._dies(self.outstanding[offset]):
                continue
            try:
                taken.missed += self._again(offset, member, now, taken)
            except LogDamaged:
                if taken.records or taken.dead:  # these first: who looks again is told
                    break
                self._drop(offset)
                raise
        self._tell_of_room()
        room = min(prefetch - self.held[member], MOST - len(self.outstanding))
        if room > 0 and not suspects and not taken.records:
            self._take_new(room, member, now, taken)
        return taken

    def _tell_of_room(self) -> None:
        if self.is_full and not self.full_told:
            self.full_told = True
            log.warning(
                "%s: %d events are delivered or put off, and not settled; nothing new is delivered before some are",
                self.journal.path, len(self.outstanding),
            )  # fmt: skip
        elif self.full_told and len(self.outstanding) < MOST // 2:
            self.full_told = False

    def _come_due(self, now: float) -> None:
        """Take what is due from the members that had it."""
        if now < self.next_due:
            return
        for offset, each in self.outstanding.items():
            if each.due > now or offset in self.again:
                continue
            if each.member and not each.seen:
                self._wait_for_its_turn(each)
            if each.due <= now:
                self.again.add(offset)
                under_way = bool(each.member) and not each.put_off
                each.doubtful += bool(each.member) and not each.seen
                self._let_go(each)
                if under_way:
                    self._note(offset, each)
        waiting = (each.due for offset, each in self.outstanding.items() if offset not in self.again)
        self.next_due = min(waiting, default=float("inf"))

    def _wait_for_its_turn(self, each: Outstanding) -> None:
        """A member is sent events ahead, and the ack wait of each begins when it has come to it. It takes them in
        order: what was sent before one of which it said something it has in hands, or had."""
        progress = self.progress.get(each.member)
        if progress is not None:
            each.seen = each.number < progress.number
            each.due = max(each.due, progress.at + self.ack_wait)

    def _come_to(self, each: Outstanding) -> None:
        """Its member says something of it."""
        if each.member:
            before = self.progress.get(each.member)
            self.progress[each.member] = Progress(max(each.number, before.number if before else 0), self.now())

    def _dies(self, each: Outstanding) -> bool:
        return bool(self.max_deliver) and each.counted >= self.max_deliver

    def _suspects(self) -> list[int]:
        """What is due and has to be delivered alone. With no limit of deliveries that would help nobody."""
        if not self.max_deliver:
            return []
        due = ((offset, self.outstanding[offset]) for offset in self.again)
        return sorted(offset for offset, each in due if each.doubtful >= DOUBTS and not self._dies(each))

    def _has_any(self, member: str) -> bool:
        return any(each.member == member and not each.put_off for each in self.outstanding.values())

    def _has_one_alone(self, member: str) -> bool:
        each = self.outstanding.get(self.alone.get(member, 0))
        return each is not None and each.member == member and not each.put_off

    def _take_new(self, room: int, member: str, now: float, taken: Taken) -> None:
        """Deliver what nobody was given yet. No more is read than there is room for, unless some of it is not for this
        group: then twice as much, and so on."""
        count = room
        while True:
            while self._knows(self.cursor):  # what is damaged there is no news
                self.settled.discard(self.cursor)
                self.cursor += 1
            try:
                records, following, lost = self.read(self.cursor, count)
            except LogDamaged as damage:
                if taken.records or taken.dead:  # these first: who looks again is told
                    return
                self.cursor = damage.last + 1  # one of the members was told: that has to do
                raise
            taken.missed += lost
            for record in records:
                if len(taken.records) >= room:
                    self.cursor = record.offset
                    return
                if not self._knows(record.offset) and self._wants(record):
                    self._deliver(record, Outstanding(0, now, ""), member, now, taken)
                self.settled.discard(record.offset)
            self.cursor = following
            if taken.size >= LARGE or len(taken.records) >= room or len(records) < count or count >= SCAN:
                return
            count *= 2

    def _again(self, offset: int, member: str, now: float, taken: Taken) -> int:
        """Deliver an event that is due, or let it die. How many events were lost: 1 if it is gone from the log."""
        each = self.outstanding[offset]
        records, _, _ = self.read(offset, 1)
        if not records or records[0].offset != offset:
            self._drop(offset)
            return 1
        if self._dies(each):  # outstanding until the dead letters have it
            self._hold(offset, msgspec.structs.replace(each, due=now + self.ack_wait, put_off=False))
            taken.add(records[0], each.deliveries, dead=True)
        else:
            self.redelivered += bool(each.deliveries)
            self._deliver(records[0], each, member, now, taken)
        return 0

    def _deliver(self, record: Record, before: Outstanding, member: str, now: float, taken: Taken) -> None:
        # Nothing is before it in what its member was sent: it is in its hands at once.
        self.deliveries += 1
        each = Outstanding(
            before.deliveries + 1, now + self.ack_wait, member, not self.held[member], before.doubtful,
            number=self.deliveries, given_back=before.given_back,
        )  # fmt: skip
        self._hold(record.offset, each)
        taken.add(record, each.deliveries)
        taken.number = each.number

    def _note(self, offset: int, each: Outstanding) -> None:
        """A delivery has come to nothing: a crash of the server must not make us forget that. Raises OSError."""
        self.journal.append(each.tried(offset))
        self.shorten()

    def _hold(self, offset: int, each: Outstanding) -> None:
        self._drop(offset)
        self.outstanding[offset] = each
        if each.member:
            self.held[each.member] += 1
        self.next_due = min(self.next_due, each.due)

    def _drop(self, offset: int) -> bool:
        each = self.outstanding.pop(offset, None)
        self.again.discard(offset)
        if each is not None:
            self._let_go(each)
        return each is not None

    def _let_go(self, each: Outstanding) -> None:
        """Its member has it no more."""
        if each.member:
            self.held[each.member] -= 1
            if not self.held[each.member]:
                del self.held[each.member]
                self.progress.pop(each.member, None)
            each.member = ""

    def can_take(self, member: str, prefetch: int, end: int) -> bool:
        """Is there more for this member to look at, up to the stream's end?"""
        if self._suspects():
            return prefetch > 0 and not self._has_any(member)
        if self.held[member] >= prefetch or self.cursor >= end or self.is_full:
            return False
        return not self._has_one_alone(member)

    # -- settle -----------------------------------------------------------------------------------------------

    def settle(self, offset: int) -> bool:
        """An event is done with, for good; False if it was already, or was never delivered. Raises OSError."""
        each = self.outstanding.get(offset)
        if each is None and (offset < self.cursor or offset in self.settled):
            return False
        # One that was delivered before a crash of the server may be ahead of the cursor.
        self.journal.append(Settled(offset))
        if each is not None:
            self._come_to(each)
        self._drop(offset)
        if offset >= self.cursor:
            self.settled.add(offset)
        self.shorten()
        return True

    def put_off(self, offset: int, seconds: float) -> bool:
        """Its consumer won't do it now: deliver it again after so long; False if it is not outstanding. Raises
        OSError."""
        found = self.keep_on(offset, seconds)
        if found:
            each = self.outstanding[offset]
            each.put_off, each.given_back = True, each.given_back + 1
            self._note(offset, each)
        return found

    def keep_on(self, offset: int, seconds: float) -> bool:
        """Its consumer works on it, for so long at most; False if it is not outstanding."""
        each = self.outstanding.get(offset)
        if each is None:
            return False
        self.again.discard(offset)
        self._come_to(each)
        each.due, each.seen, each.put_off = self.now() + seconds, True, False
        self.next_due = min(self.next_due, each.due)
        return True

    def pause(self, member: str, number: int, waiting: set[int]) -> int:
        """A member takes no more for now. Its consumer was handed what it was sent up to that delivery, but for the
        offsets that wait: all else is for the others, as if it had not been delivered. The number of the last
        delivery."""
        if member in self.paused:
            self.paused[member] = True
        for offset, each in self.outstanding.items():
            if each.member != member or each.put_off:
                continue
            in_hand = each.number <= number and offset not in waiting
            if in_hand and not each.seen:
                self._wait_for_its_turn(each)
            each.seen = in_hand
            if not each.seen:  # the journal has this delivery not yet
                each.deliveries -= 1
                each.due = self.next_due = min(self.now(), each.due)
                self._let_go(each)
        return self.deliveries

    def resume(self, member: str) -> None:
        if member in self.paused:
            self.paused[member] = False

    def release(self, member: str) -> None:
        """A member has gone: what it had is for the others, at once, or when the time has passed for which it put it
        off."""
        self.alone.pop(member, None)
        for offset, each in self.outstanding.items():
            if each.member != member:
                continue
            under_way = not each.put_off
            if under_way:
                each.due = self.next_due = min(self.now(), each.due)
                each.doubtful += not each.seen
            self._let_go(each)
            if under_way:
                with suppress(OSError):  # whoever is told of the disk, it is not who has gone
                    self._note(offset, each)

    def given_back(self, offset: int) -> int:
        """How often consumers put an event off that is outstanding."""
        each = self.outstanding.get(offset)
        return each.given_back if each is not None else 0

    # -- hand over --------------------------------------------------------------------------------------------

    def hand_over(self, stream: str) -> GroupState:
        return GroupState(
            stream, self.name, self.cursor, self.outstanding, self.journal.lacking, self.progress, self.deliveries
        )

    def take_over(self, state: GroupState) -> None:
        self.journal.lacking = state.lacking
        # Of what was settled the journal may lack something, and it may have had more since: after a swap that failed.
        for offset in [each for each in self.outstanding if each < state.cursor and each not in state.outstanding]:
            self._drop(offset)
        for offset, each in state.outstanding.items():
            if offset in self.outstanding or (offset >= self.cursor and offset not in self.settled):
                self._hold(offset, each)
        self.deliveries = max(self.deliveries, state.deliveries)
        self.cursor = max(self.cursor, state.cursor)
        self.progress = {member: each for member, each in state.progress.items() if self.held[member]}

    async def close(self) -> None:
        """Settle nothing more, and leave a short journal behind. Raises OSError."""
        await self.journal.finish(self.snapshot())
