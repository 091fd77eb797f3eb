"""A durable stream: its log, its writer and its groups."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ...contract import ContractError, NotFound
from ...core.quantity import duration, size
from .bell import Bell
from .disk import make_folder, read_file, replace_file
from .group import Group, GroupState
from .interface import GroupFigures, LogDamaged, StreamFigures, Subscription
from .log import Log
from .segment import Record
from .settings import StreamSettings
from .topics import check_name, is_name
from .writer import Writer

log = logging.getLogger("mukernel.events")


class Stream:
    """`bell` rings when there is something new to deliver. `now`: monotonic seconds; `wall`: ns since 1970."""

    def __init__(
        self, name: str, folder: Path, settings: StreamSettings, now: Callable[[], float], wall: Callable[[], int]
    ) -> None:
        """Open what is on the disk. Raises OSError."""
        self.name, self.settings, self.now, self.wall = name, settings, now, wall
        self.group_folder = folder / "groups"
        make_folder(folder)
        make_folder(self.group_folder)
        self.groups = self._kept_groups()
        # A log can end before what its groups have settled: damaged, or not synced when the power went. What is
        # published next must not have those offsets, or no group would be given it.
        given = max((group.reach for group in self.groups.values()), default=0)
        try:
            self.log = self._opened_log(folder, given)
        except BaseException:
            for group in self.groups.values():
                group.journal.close()
            raise
        self.reported: set[int] = set()  # damaged offsets of which the log has a line
        for group in self.groups.values():
            group.go_on()
            if not group.pattern:  # of it nothing is known: it has missed nothing either
                group.cursor = max(group.cursor, self.log.first)
        self.bell = Bell()
        self.writer = Writer(
            self.log, wall=wall, committed=self.bell.ring, sync_every=settings.sync_every,
            backlog=size(settings.backlog), duplicate_window=duration(settings.duplicate_window),
        )  # fmt: skip
        if settings.retention == "workqueue":
            self.log.settled = lambda: min((each.floor for each in self.groups.values()), default=0)

    def _opened_log(self, folder: Path, given: int) -> Log:
        """The log, on the disk: a server may have been killed between writing an event and syncing it, and whoever
        publishes it again is told that it is there. Raises OSError."""
        opened = Log(self.name, folder, self.settings.limits, size(self.settings.segment), given)
        if self.settings.sync_every is not None:
            try:
                opened.sync()
            except BaseException:
                opened.close()
                raise
        return opened

    def _kept_groups(self) -> dict[str, Group]:
        """The groups, as their journals have them. Raises OSError."""
        groups: dict[str, Group] = {}
        for path in sorted(self.group_folder.glob("*.group")):
            if not is_name(path.stem):
                log.warning("stream %r: %s is no group of it, and is left alone; move it away", self.name, path)
                continue
            try:
                groups[path.stem] = Group.load(path, path.stem, self.read, self.now)
            except ValueError as error:
                log.error(
                    "stream %r: %s; a copy is kept beside it, and group %r is given all that the log has once more",
                    self.name, error, path.stem,
                )  # fmt: skip
                replace_file(path.with_suffix(".damaged"), read_file(path))
                groups[path.stem] = group = Group(path.stem, "", self.read, self.now)
                group.create(path, 1)
        return groups

    # -- read -------------------------------------------------------------------------------------------------

    def read(self, offset: int, count: int) -> tuple[list[Record], int, int]:
        """Records from an offset on, the offset to go on from, and how many were lost on the way: those that retention
        has removed and, where the settings say so, damaged ones. Raises LogDamaged."""
        lost = max(0, self.log.first - offset)
        offset += lost
        while True:
            try:
                records = self.log.read(offset, count)
            except LogDamaged as damage:
                if damage.first not in self.reported:
                    self.reported.add(damage.first)
                    log.error("%s", damage)
                if self.settings.on_damage == "stop":
                    raise
                lost, offset = lost + damage.last + 1 - offset, damage.last + 1
                continue
            return records, records[-1].offset + 1 if records else offset, lost

    def retain(self) -> None:
        """Remove what is too old, also where nobody publishes. On a disk that was full there may be room then for what
        journals lack."""
        self.writer.retain(self.wall())
        for group in self.groups.values():
            if group.journal.lacking:
                group.shorten()

    def start_of(self, asked: Subscription) -> int:
        """The offset that a new subscription begins at. Raises LogDamaged."""
        if asked.offset is not None:
            return min(max(asked.offset, 1), self.log.end)
        if asked.since is not None:
            return self.log.offset_at(round(asked.since.timestamp() * 1e9))
        return self.log.first if asked.start == "first" else self.log.end

    # -- groups -----------------------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        """Raises NotFound, with the groups there are."""
        if name not in self.groups:
            raise NotFound(f"stream {self.name!r} has no group {name!r}; it has {', '.join(self.groups) or 'none'}")
        return self.groups[name]

    def join(self, asked: Subscription) -> Group:
        """The group that a subscription names, made if it is new. Raises ContractError, OSError."""
        group = self.groups.get(asked.group)
        if group is None:
            check_name(asked.group, "group")
            group = Group(asked.group, asked.pattern, self.read, self.now)
            group.create(self.group_folder / f"{asked.group}.group", self.start_of(asked))
            self.groups[asked.group] = group
        elif not group.pattern:
            group.consume(asked.pattern)
        elif group.pattern != asked.pattern:
            raise ContractError(
                f"pattern: got {asked.pattern!r}, wanted {group.pattern!r}, which group {asked.group!r} of stream "
                f"{self.name!r} consumes; take another group, or remove this one first"
            )
        group.ack_wait, group.max_deliver = asked.ack_wait, asked.max_deliver
        return group

    def remove_group(self, name: str) -> None:
        """Raises NotFound, OSError."""
        group = self.group(name)
        group.journal.path.unlink()
        group.journal.close()
        del self.groups[name]
        self.bell.ring()

    def hand_over(self) -> list[GroupState]:
        return [group.hand_over(self.name) for group in self.groups.values()]

    # -- figures and end --------------------------------------------------------------------------------------

    def figures(self) -> StreamFigures:
        stream = self.log
        groups = {
            each.name: GroupFigures(
                each.pattern, each.floor, len(each.outstanding), each.behind(stream.first, stream.end),
                each.redelivered, each.dead, each.is_full,
            )
            for each in self.groups.values()
        }  # fmt: skip
        return StreamFigures(
            self.settings.topics, stream.first, stream.end - 1, stream.size, len(stream.segments), stream.torn,
            stream.torn_bytes, stream.damaged, stream.syncs, groups,
        )  # fmt: skip

    async def close(self) -> None:
        """Not before `writer.close`. Raises OSError."""
        try:
            for group in self.groups.values():
                await group.close()
        finally:
            self.log.close()
