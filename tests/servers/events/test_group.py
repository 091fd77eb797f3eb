"""How much a consumer group reads, and what it does with damage in the middle of that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mukernel.servers.events.group import Group
from mukernel.servers.events.interface import LogDamaged
from mukernel.servers.events.segment import Record

COUNT = 1000


class Kept:
    """What is in a stream. `every`: of so many records one is on the topic `orders.new`; `damaged`: an offset."""

    def __init__(self, every: int = 1, damaged: int = 0) -> None:
        self.records = [
            Record(offset, 1, "orders.old" if offset % every else "orders.new", b"body")
            for offset in range(1, COUNT + 1)
        ]
        self.damaged, self.looked = damaged, 0

    def read(self, offset: int, count: int) -> tuple[list[Record], int, int]:
        found = self.records[offset - 1 : offset - 1 + count]
        if self.damaged and offset <= self.damaged:
            found = found[: self.damaged - offset]
            if not found:
                raise LogDamaged("orders", self.damaged, self.damaged)
        self.looked += len(found)
        return found, found[-1].offset + 1 if found else offset, 0

    def group(self, folder: Path) -> Group:
        group = Group("g", "orders.new", self.read, lambda: 0.0)
        group.create(folder / "g.group", 1)
        return group

    def after_a_crash(self, group: Group) -> Group:
        """The group as the next server has it."""
        group.journal.close()
        again = Group.load(group.journal.path, "g", self.read, lambda: 0.0)
        again.go_on()
        return again


@pytest.mark.parametrize("room", [1, 3, 64, 500])
def test_no_more_is_read_than_is_delivered(tmp_path: Path, room: int) -> None:
    kept = Kept()
    group, offsets = kept.group(tmp_path), []
    while taken := group.take("one", room).records:
        for record, _ in taken:
            offsets.append(record.offset)
            group.settle(record.offset)
    assert offsets == list(range(1, COUNT + 1))
    assert kept.looked == COUNT
    group.journal.close()


@pytest.mark.parametrize("room", [1, 3, 64])
def test_what_is_rare_is_found_in_few_looks(tmp_path: Path, room: int) -> None:
    kept = Kept(every=100)
    group, offsets, looks = kept.group(tmp_path), [], 0
    while group.can_take("one", room, COUNT + 1):
        looks += 1
        for record, _ in group.take("one", room).records:
            offsets.append(record.offset)
            group.settle(record.offset)
    assert offsets == list(range(100, COUNT + 1, 100))
    assert looks <= 10 and kept.looked <= 2 * COUNT
    group.journal.close()


def test_what_was_found_before_some_damage_is_delivered_first(tmp_path: Path) -> None:
    kept = Kept(every=3, damaged=4)
    group = kept.group(tmp_path)
    assert [record.offset for record, _ in group.take("one", 3).records] == [3]
    with pytest.raises(LogDamaged):
        group.take("one", 3)
    assert [record.offset for record, _ in group.take("one", 3).records] == [6, 9]  # told once, it goes on after it
    group.journal.close()


def test_what_is_due_before_some_damage_is_delivered_first(tmp_path: Path) -> None:
    kept = Kept()
    group = kept.group(tmp_path)
    assert [record.offset for record, _ in group.take("one", 3).records] == [1, 2, 3]
    kept.damaged = 2
    group.release("one")
    taken = group.take("two", 3)
    assert [(record.offset, deliveries) for record, deliveries in taken.records] == [(1, 2)]
    with pytest.raises(LogDamaged):
        group.take("two", 3)
    assert group.outstanding[1].member == "two" and group.outstanding[3].deliveries == 1
    assert [record.offset for record, _ in group.take("two", 3).records] == [3]
    group.journal.close()


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_group_that_was_killed_knows_its_figures_before_a_member_comes(tmp_path: Path, every: int) -> None:
    kept = Kept(every)
    group = kept.group(tmp_path)
    mine = [record.offset for record, _ in group.take("one", COUNT).records]
    waits = len(mine) // 2
    for offset in [*mine[:waits], mine[waits + 1]]:
        group.settle(offset)
    again = kept.after_a_crash(group)
    assert (again.cursor, again.floor) == (mine[waits], mine[waits] - 1)
    unsettled = [record.offset for record, _ in again.take("one", COUNT).records]
    assert unsettled == [mine[waits], *mine[waits + 2 :]]
    again.journal.close()


def test_damage_among_what_was_settled_is_left_for_a_member(tmp_path: Path) -> None:
    kept = Kept(every=3)
    group = kept.group(tmp_path)
    for record, _ in group.take("one", 3).records:
        group.settle(record.offset)
    kept.damaged = 4
    again = kept.after_a_crash(group)
    assert again.cursor == 4
    with pytest.raises(LogDamaged):
        again.take("one", 3)
    again.journal.close()


# -- what kills its consumer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [1, 10, 64])
@pytest.mark.parametrize("at_once", [1, 64])
@pytest.mark.parametrize("server_dies", [False, True])
def test_what_kills_its_consumers_takes_nothing_else_along(
    tmp_path: Path, place: int, at_once: int, server_dies: bool
) -> None:
    """A consumer handles as many as `at_once` of what it was sent, of which one kills it; the server too, perhaps."""
    group = (kept := Kept()).group(tmp_path)
    seen: Counter[int] = Counter()
    dead: list[int] = []
    deaths = 0
    while len(group.settled) < 100 and deaths < 20:
        taken = group.take(f"member {deaths}", 64)
        for record, _ in taken.dead:
            dead.append(record.offset)
            group.settle(record.offset)
        sent = [record.offset for record, _ in taken.records]
        while sent:
            handled, sent = sent[:at_once], sent[at_once:]
            seen.update(handled)
            if place in handled:
                group.release(f"member {deaths}")
                deaths += 1
                if server_dies:
                    group = kept.after_a_crash(group)
                break
            for offset in handled:
                group.settle(offset)
    assert dead == [place] and seen[place] >= 5 and deaths <= 7
    assert all(seen[offset] for offset in group.settled)
    group.journal.close()


@pytest.mark.parametrize("snapshot", [False, True])
def test_crashes_of_the_server_count_for_nothing(tmp_path: Path, snapshot: bool) -> None:
    group = (kept := Kept()).group(tmp_path)
    for member in ("one", "two"):
        group.take(member, 3)
        group.release(member)
    assert [record.offset for record, _ in group.take("three", 3).records] == [2]
    group.put_off(2, 0.0)
    for _ in range(10):
        if snapshot:
            group.journal.replace(group.snapshot())
        group = kept.after_a_crash(group)
        looks = [group.take(member, 3) for member in ("four", "four", "five", "five", "six", "six")]
        given = [(record.offset, deliveries) for taken in looks for record, deliveries in taken.records]
        assert given[:3] == [(1, 3), (2, 4), (3, 3)] and not any(taken.dead for taken in looks)
    group.journal.close()


def test_what_members_left_unseen_does_not_count(tmp_path: Path) -> None:
    group = Kept().group(tmp_path)
    for number in range(20):
        taken = group.take(f"member {number}", 10)
        assert not taken.dead
        group.settle(taken.records[0][0].offset)
        group.release(f"member {number}")
    assert group.floor >= 20
    group.journal.close()


def test_who_is_to_be_given_something_alone_that_is_damaged_is_told_once(tmp_path: Path) -> None:
    kept = Kept()
    group = kept.group(tmp_path)
    for member in ("one", "two"):
        group.take(member, 3)
        group.release(member)
    kept.damaged = 2
    with pytest.raises(LogDamaged):
        group.take("three", 3)
    assert group.can_take("three", 3, COUNT + 1)
    assert [record.offset for record, _ in group.take("three", 3).records] == [3]
    assert group.put_off(3, 60.0) and group.keep_on(3, 60.0)
    assert not group.take("three", 3).records, "it works on it again"
    group.journal.close()


def test_beside_what_is_delivered_alone_is_nothing_until_it_is_done_or_put_off(tmp_path: Path) -> None:
    group = Kept().group(tmp_path)
    for member in ("one", "two"):
        assert len(group.take(member, 3).records) == 3
        group.release(member)

    def offsets(member: str) -> list[int]:
        return [record.offset for record, _ in group.take(member, 3).records]

    assert offsets("three") == [2] and offsets("three") == [] and not group.can_take("three", 3, COUNT + 1)
    assert offsets("four") == [3]
    assert group.put_off(2, 60.0)
    assert offsets("three") == [1]  # it was the first in both members' hands: that counts
    group.settle(3)
    assert offsets("four") == [4, 5, 6]
    group.journal.close()


def test_what_a_member_put_off_is_put_off_still_when_it_has_left(tmp_path: Path) -> None:
    now = 0.0
    group = Group("g", "orders.new", Kept().read, lambda: now)
    group.create(tmp_path / "g.group", 1)

    def offsets(member: str) -> list[int]:
        return [record.offset for record, _ in group.take(member, 1).records]

    assert offsets("one") == [1]
    assert group.put_off(1, 60.0)
    group.release("one")
    assert offsets("two") == [2]
    group.settle(2)
    now = 59.0
    assert offsets("two") == [3]
    group.settle(3)
    now = 60.0
    assert offsets("two") == [1]
    assert group.outstanding[1].deliveries == 2
    group.journal.close()
