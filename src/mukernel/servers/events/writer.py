"""Group commit: what comes while the disk is busy is written together, and one sync serves all of its publishers."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable

from ...contract import Overloaded, Unavailable
from .interface import LogDamaged, Published
from .log import Log
from .segment import Record

log = logging.getLogger("mukernel.events")
IDENTITIES = 100_000  # remembered at most, for each stream


class Writer:
    """Appends to one log. `wall` gives ns since 1970; `now` monotonic seconds; `committed` is called when there are new
    records. `sync_every`: seconds between two syncs; 0: each commit is synced; None: never.
    """

    def __init__(
        self, stream: Log, *, wall: Callable[[], int], committed: Callable[[], None], sync_every: float | None,
        backlog: int, duplicate_window: float,
    ) -> None:  # fmt: skip
        self.log, self.wall, self.committed = stream, wall, committed
        self.sync_every, self.backlog, self.duplicate_window = sync_every, backlog, round(duplicate_window * 1e9)
        self.queue: list[tuple[Record, asyncio.Future[Published]]] = []
        self.queued = 0  # bytes of bodies in the queue, and being written
        self.next = stream.end
        self.last_at = stream.last_at
        self.synced_at = 0
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None  # of a sync that an interval still owes
        self.syncing: asyncio.Future[None] | None = None
        self.room: list[asyncio.Future[None]] = []
        self.broken = ""  # why nothing can be written any more
        self.identities: OrderedDict[str, tuple[int, asyncio.Future[Published] | int]] = OrderedDict()
        self._recall()

    def _recall(self) -> None:
        """The identities that the log has within the duplicate window."""
        offset = max(self.log.offset_at(self.wall() - self.duplicate_window), self.log.end - IDENTITIES)
        while self.duplicate_window and offset < self.log.end:
            try:
                for record in self.log.read(offset, 1000):
                    offset = record.offset + 1
                    if record.identity:
                        self.identities[record.identity] = (record.at, record.offset)
            except LogDamaged as damage:  # there is nothing to recall
                offset = damage.last + 1

    async def append(self, topic: str, body: bytes, headers: dict[str, str], identity: str, refuse: bool) -> Published:
        """Returns when it is on the disk. Raises Overloaded, Unavailable."""
        while self.queued and self.queued + len(body) > self.backlog:
            if refuse:
                raise Overloaded(
                    f"stream {self.log.name!r}: {self.queued:,} bytes wait for the disk already, and backlog is "
                    f"{self.backlog:,}; try again later, or publish with when_full='wait'"
                )
            waiter = asyncio.get_running_loop().create_future()
            self.room.append(waiter)
            await waiter
        if self.broken:
            raise Unavailable(self.broken)
        now = self.last_at = max(self.last_at, self.wall())
        if identity and self.duplicate_window:
            while self.identities and next(iter(self.identities.values()))[0] < now - self.duplicate_window:
                self.identities.popitem(last=False)
            known = self.identities.get(identity)
            if known is not None:
                known_offset = known[1] if isinstance(known[1], int) else (await asyncio.shield(known[1])).offset
                return Published(self.log.name, known_offset, True)
        done: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        record = Record(self.next, now, topic, body, headers, identity)
        self.next += 1
        self.queue.append((record, done))
        self.queued += len(body)
        if identity and self.duplicate_window:
            self.identities[identity] = (now, done)
            if len(self.identities) > IDENTITIES:
                self.identities.popitem(last=False)
        if self.task is None:
            self.task = asyncio.create_task(self._commit())
        # A publisher that is cancelled leaves its record behind: others of its commit are not to wait for it.
        return await asyncio.shield(done)

    async def _commit(self) -> None:
        while self.queue:
            batch, self.queue = self.queue, []
            records = [record for record, _ in batch]
            sync = self.sync_every == 0 or (
                self.sync_every is not None and records[-1].at - self.synced_at >= self.sync_every * 1e9
            )
            try:
                await asyncio.to_thread(self.log.write, records, sync)
            except Exception as error:  # whatever it is, publishers wait
                self._failed(batch, error)
            else:
                if sync:
                    self.synced_at = records[-1].at
                elif self.sync_every and self.timer is None:
                    self.timer = asyncio.get_running_loop().call_later(self.sync_every, self._sync_later)
                for record, done in batch:
                    if record.identity in self.identities:
                        self.identities[record.identity] = (record.at, record.offset)
                    done.set_result(Published(self.log.name, record.offset))
                self.log.retain(self.last_at)
                self.committed()
            self.queued -= sum(len(record.body) for record in records)
            room, self.room = self.room, []
            for waiter in room:
                if not waiter.done():
                    waiter.set_result(None)
        self.task = None

    def _sync_later(self) -> None:
        self.timer = None
        self.syncing = asyncio.ensure_future(asyncio.to_thread(self.log.sync))
        self.syncing.add_done_callback(self._synced)

    def _synced(self, done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._break(error)

    def _break(self, error: BaseException) -> str:
        why = f"stream {self.log.name!r} can't be written to {self.log.folder}: {error}"
        log.error("%s", why)
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            self.broken = f"{why}; restart the event server when that is mended"
        return why

    def _failed(self, batch: list[tuple[Record, asyncio.Future[Published]]], error: Exception) -> None:
        """Tell the publishers of a batch, and those whose offsets come after it. What a full disk had no room for was
        cut back, and the next try may succeed; after a sync that failed nobody knows what the disk has."""
        why = self._break(error)
        behind, self.queue = self.queue, []
        for record, done in [*batch, *behind]:
            if record.offset < self.log.end:  # an earlier segment took it
                done.set_result(Published(self.log.name, record.offset))
                continue
            self.identities.pop(record.identity, None)
            done.set_exception(Unavailable(f"{why}; the event was not stored"))
            done.exception()  # read by nobody where the publisher has gone
        self.queued -= sum(len(record.body) for record, _ in behind)
        self.next = self.log.end

    async def idle(self) -> None:
        """Until nothing is being written."""
        while self.task is not None:
            await asyncio.shield(self.task)

    async def close(self) -> None:
        """Write and sync what is left. Raises OSError."""
        why = self.broken
        self.broken = why or f"stream {self.log.name!r} is being handed over or closed; try again"
        await self.idle()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.syncing is not None:
            await asyncio.wait([self.syncing])
        if self.sync_every is not None and not why:
            self.log.sync()
