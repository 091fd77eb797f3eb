"""Group commit: what comes while the disk is busy is written together, and one sync serves all of its publishers."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from ...contract import Overloaded, Unavailable
from .disk import is_full
from .event_size import event_size, size_of
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
        self.queued = 0  # bytes of events in the queue, and being written
        self.next = stream.end
        self.last_at = stream.last_at
        self.synced_at = 0
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None  # of a sync that an interval still owes
        self.syncing: asyncio.Future[None] | None = None
        self.waiting: list[asyncio.Future[None]] = []  # until the commit that is under way has ended
        self.broken = ""  # why nothing can be written any more
        self.kept = ""  # why what is too old can't be removed, where that was said already
        # Time and offset, by topic and identity: whoever may publish to one topic has no say in what another stores.
        self.identities: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()
        self._recall()

    def _recall(self) -> None:
        """The identities that the log has within the duplicate window."""
        offset = max(self.log.offset_at(self.wall() - self.duplicate_window), self.log.end - IDENTITIES)
        while self.duplicate_window and offset < self.log.end:
            try:
                for record in self.log.read(offset, 1000):
                    offset = record.offset + 1
                    if record.identity:
                        self.identities[record.topic, record.identity] = (record.at, record.offset)
            except LogDamaged as damage:  # there is nothing to recall
                offset = damage.last + 1

    async def append(self, topic: str, body: bytes, headers: dict[str, str], identity: str, refuse: bool) -> Published:
        """Returns when it is on the disk. Raises Overloaded, Unavailable."""
        size = event_size(body, headers)
        while self.queued and self.queued + size > self.backlog:
            if refuse:
                raise Overloaded(
                    f"stream {self.log.name!r}: {self.queued:,} bytes wait for the disk already, and backlog is "
                    f"{self.backlog:,}; try again later, or publish with when_full='wait'"
                )
            await self._commit_ended()
        if identity and self.duplicate_window:
            self._forget(self.wall() - self.duplicate_window)
            # One that is being written is known when its commit has succeeded, and may be tried again if it failed.
            while (known := self.identities.get((topic, identity))) is not None:
                if known[1] < self.log.end:
                    return Published(self.log.name, known[1], True)
                await self._commit_ended()
        if self.broken:
            raise Unavailable(self.broken)
        self.last_at = max(self.last_at, self.wall())
        record = Record(self.next, self.last_at, topic, body, headers, identity)
        done: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self.next += 1
        self.queue.append((record, done))
        self.queued += size
        if identity and self.duplicate_window:
            self.identities[topic, identity] = (record.at, record.offset)
        if self.task is None:
            self.task = asyncio.create_task(self._commit())
        return await done  # where its publisher is cancelled, the record is written all the same

    async def _commit_ended(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        await waiter

    def _forget(self, before: int) -> None:
        """Forget the identities that are older, or too many."""
        while self.identities:
            oldest = next(iter(self.identities.values()))
            if oldest[0] >= before and len(self.identities) <= IDENTITIES:
                return
            self.identities.popitem(last=False)

    async def _commit(self) -> None:
        while self.queue:
            batch, self.queue = self.queue, []
            records = [record for record, _ in batch]
            sync = self.sync_every == 0 or (
                self.sync_every is not None and records[-1].at - self.synced_at >= self.sync_every * 1e9
            )
            try:
                if sync or self.log.waits_for_disk(records[-1]):
                    await asyncio.to_thread(self.log.write, records, sync)
                else:  # into the system's memory, which is quicker than another thread
                    self.log.write(records, sync)
            except Exception as error:  # whatever it is, publishers wait
                self._failed(batch, error)
                self.retain(self.last_at)  # which may make room for the next
            else:
                if sync:
                    self.synced_at = records[-1].at
                elif self.sync_every and self.timer is None:
                    self.timer = asyncio.get_running_loop().call_later(self.sync_every, self._sync_later)
                for record, done in batch:
                    if not done.done():
                        done.set_result(Published(self.log.name, record.offset))
                self.retain(self.last_at)
                self.committed()
            self.queued -= sum(map(size_of, records))
            waiting, self.waiting = self.waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)
        self.task = None

    def retain(self, now: int) -> None:
        """Remove what is too old by now (ns since 1970), unless something is being written. Where that fails more is
        kept than was asked for: that is said once, and it is tried again at the next commit."""
        writing = self.task is not None and self.task is not asyncio.current_task()
        if writing or (self.syncing is not None and not self.syncing.done()):
            return
        try:
            self.log.rest()
            self.log.retain(now)
            self.kept = ""
        except Exception as error:  # publishers wait for whoever comes by here
            if self.kept != str(error):
                log.error(
                    "stream %r: what is too old can't be removed from %s: %s", self.log.name, self.log.folder, error
                )
                self.kept = str(error)

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
        if not is_full(error):
            self.broken = f"{why}; restart the event server when that is mended"
        return why

    def _failed(self, batch: list[tuple[Record, asyncio.Future[Published]]], error: Exception) -> None:
        """Tell the publishers of a batch, and those whose offsets come after it. What a full disk had no room for was
        cut back, and the next try may succeed; after a sync that failed nobody knows what the disk has."""
        why = self._break(error)
        behind, self.queue = self.queue, []
        for record, done in [*batch, *behind]:
            stored = record.offset < self.log.end  # by the segment that was full then
            if not stored:
                self.identities.pop((record.topic, record.identity), None)
            if done.done():
                continue
            if stored:
                done.set_result(Published(self.log.name, record.offset))
            else:
                done.set_exception(Unavailable(f"{why}; the event was not stored"))
        self.queued -= sum(size_of(record) for record, _ in behind)
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
            await asyncio.to_thread(self.log.sync)
