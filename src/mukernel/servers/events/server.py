"""EventServer: the plug-in that serves Events. An ordinary plug-in: place it where you like, swap it, kill it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ...contract import ContractError, MukernelError, NotFound, PermissionDenied, Plugin, Unavailable
from ...contract.error_texts import text_of
from ...core.builtin import Clock
from ...core.capabilities import BROKER
from ...core.checks import checked_bytes
from ...core.ending import to_its_end
from ...transports.granted import caller_grant
from .event_size import checked_size
from .group import Group, GroupState
from .interface import Batch, Delivery, EventFigures, Events, LogDamaged, Published, Start, Subscription
from .live import LiveState, LiveSubscribers
from .segment import Record
from .settings import DEAD_LETTERS, StreamSettings, checked_streams, of_calls
from .store import FolderInUse, Store
from .stream import Stream
from .topics import LONGEST, check_name, check_pattern, check_topic, covers, matches, overlap, scope_of

Right = Literal["publish", "subscribe", "manage"]
log = logging.getLogger("mukernel.events")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEASE = 60.0  # seconds after which a stream of batches ends, and its subscriber comes back for the next
BATCHES = 32  # batches after which it ends, below the credit of a stream: who stands still holds up no swap
BATCH = 64  # events of a batch
KNOWN_TOPICS = 4096  # topics whose stream is remembered
STARTS = get_args(Start)
LONGEST_WAIT = 86400 * 365  # seconds
LARGEST_BODY = 1023 << 20  # bytes; a message has a MiB more, for what a dead letter has beside it, and a batch
LONGEST_REASON = 16_384  # characters of why an event is a dead letter


class EventState(msgspec.Struct):
    """What a swap hands over; all else is on the disk."""

    groups: list[GroupState]
    live: list[LiveState]


class EventServer(Plugin, Events):
    """Publish and subscribe: plain topics at most once, durable ones at least once, from a log on the disk.

    folder: where the log is. streams: what is durable, by name. calls: the interfaces whose brokered calls it keeps,
    each in a stream of its own. max_body: bytes of one event.
    """

    grant_rights = ("publish", "subscribe", "manage")
    one_replica = True  # a folder has one server

    def __init__(
        self, clock: Clock, *, folder: str = "events", streams: dict[str, StreamSettings] | None = None,
        calls: list[str] | None = None, max_body: str | int = "8M",
    ) -> None:  # fmt: skip
        if "\0" in folder:
            raise ContractError(f"config.folder: got {folder!r}, wanted the path of a folder")
        self.clock, self.folder = clock, Path(folder).absolute()
        self.settings = checked_streams(streams or {}, calls or [])
        self.max_body = checked_bytes("config.max_body", max_body)
        if self.max_body > LARGEST_BODY:
            raise ContractError(
                f"config.max_body: got {max_body!r}, wanted at most '{LARGEST_BODY >> 20}M': a message has at most "
                "1 GiB, and an event travels with more than its body and its headers"
            )
        self.live = LiveSubscribers(clock.now)
        self.leaving = False  # streams are to end: a swap waits for them
        self.store: Store | None = None
        self.door = asyncio.Lock()  # held while the store is opened or closed
        self.handed: list[GroupState] = []  # to be taken over when the store is opened
        self.stream_names: dict[str, str] = {}  # by topic; "" for a plain one

    def wall(self) -> int:
        """ns since 1970."""
        return (self.clock.wall() - EPOCH) // timedelta(microseconds=1) * 1000

    # -- the folder -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        try:
            await self.opened(patience=0.0)
        except FolderInUse as busy:  # at a swap the version before has it, until it hands over
            log.info("%s; it is opened as soon as it is free", busy)

    async def opened(self, patience: float = 1.0) -> dict[str, Stream]:
        """The durable streams. Raises Unavailable where another server has the folder for longer than `patience`
        seconds: a version that was to replace this one, and failed, is about to let it go."""
        if self.store is None:
            if not self.settings:
                return {}
            async with self.door:
                until = self.clock.now() + patience
                while self.store is None:
                    try:
                        cancelled = await to_its_end(self._open())
                    except FolderInUse:
                        if self.clock.now() >= until:
                            raise
                        await self.clock.sleep(0.01)
                        continue
                    if cancelled is not None:  # it is open for whoever comes next
                        raise cancelled
        return self.store.streams

    async def _open(self) -> None:
        """In a thread: a long log, or a slow disk, must not look like a server that hangs."""
        try:
            store = await asyncio.to_thread(Store, self.folder, self.settings, self.clock.now, self.wall)
        except OSError as error:
            raise Unavailable(f"the folder {self.folder} can't be opened: {error}") from None
        for state in self.handed:
            group = store.streams[state.stream].groups.get(state.group)
            if group is not None:
                group.take_over(state)
        self.store, self.handed = store, []

    async def save(self) -> EventState:
        """Close the log, for the next version to open it; if that fails, the next call opens it again here."""
        await self._close()
        return EventState(self.handed, self.live.hand_over())

    async def restore(self, state: EventState) -> None:
        self.handed = [each for each in state.groups if each.stream in self.settings]
        self.live.take_over(state.live)
        await self.opened()

    def draining(self) -> None:
        self.leaving = True
        for stream in self.store.streams.values() if self.store else ():
            stream.bell.ring()
        for subscriber in self.live.members.values():
            subscriber.bell.ring()

    async def stop(self) -> None:
        await self._close()

    async def _close(self) -> None:
        async with self.door:
            store, self.store = self.store, None
            if store is not None:
                try:
                    cancelled = await store.close()
                finally:
                    self.handed = [state for stream in store.streams.values() for state in stream.hand_over()]
                if cancelled is not None:
                    raise cancelled

    # -- publish ----------------------------------------------------------------------------------------------

    async def publish(
        self, topic: str, body: bytes, *, headers: dict[str, str] | None = None, identity: str = "",
        when_full: Literal["refuse", "wait"] = "wait",
    ) -> Published:  # fmt: skip
        self._stream_of(topic)  # what is no topic has no rights either
        self._allowed("publish", topic)
        headers = headers or {}
        length = checked_size(body, headers, identity)
        if length > self.max_body:
            raise ContractError(
                f"body and headers: got {length:,} bytes, wanted at most {self.max_body:,} (config.max_body)"
            )
        if len(identity) > LONGEST:
            raise ContractError(f"identity: got {len(identity)} characters, wanted at most {LONGEST}")
        return await self._publish(topic, body, headers, identity, when_full == "refuse")

    async def _publish(
        self, topic: str, body: bytes, headers: dict[str, str], identity: str, refuse: bool = False
    ) -> Published:  # fmt: skip
        """What was checked, or is the server's own."""
        name = self._stream_of(topic)
        published = Published()
        if name:
            stream = (await self.opened())[name]
            published = await stream.writer.append(topic, body, headers, identity, refuse)
        if self.live.members and not published.duplicate and not of_calls(topic):
            at = EPOCH + timedelta(microseconds=self.wall() // 1000)
            self.live.publish(Delivery(topic, body, headers, published.stream, published.offset, at))
        return published

    def _stream_of(self, topic: str) -> str:
        """The stream that keeps a topic; "" for a plain one. Raises ContractError for what is no topic."""
        name = self.stream_names.get(topic)
        if name is None:
            check_topic(topic)
            found = [name for name, each in self.settings.items() if any(matches(p, topic) for p in each.topics)]
            name = found[0] if found else ""
            if len(self.stream_names) >= KNOWN_TOPICS:
                self.stream_names.clear()
            self.stream_names[topic] = name
        return name

    # -- subscribe --------------------------------------------------------------------------------------------

    async def subscribe(self, asked: Subscription) -> AsyncIterator[Batch]:
        self.leaving = False  # nothing is started while the server drains: that swap has failed
        check_pattern(asked.pattern)
        self._allowed("subscribe", asked.pattern)
        name = self._kept_in(asked)
        if not name:
            batches = self._live(asked)
        elif asked.group:
            batches = self._grouped(name, asked)
        else:
            batches = self._alone(name, asked)
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    def _goes_on(self, end: float) -> bool:
        """Is it too early for a stream of batches to end?"""
        return not self.leaving and self.clock.now() < end

    def _kept_in(self, asked: Subscription) -> str:
        """The stream that has everything that a subscription asks for; "" for a live one. Raises ContractError."""
        if not 0 < len(asked.member) <= 128:
            raise ContractError(
                f"member: got {asked.member!r}, wanted 1 to 128 characters, another for each subscriber"
            )
        if asked.group:
            check_name(asked.group, "group")
        if not 1 <= asked.prefetch <= 1000:
            raise ContractError(f"prefetch: got {asked.prefetch}, wanted 1 to 1000")
        if not 0 < asked.ack_wait <= LONGEST_WAIT:
            raise ContractError(f"ack_wait: got {asked.ack_wait}, wanted seconds, more than 0, at most {LONGEST_WAIT}")
        if asked.max_deliver < 0:
            raise ContractError(f"max_deliver: got {asked.max_deliver}, wanted 1 or more, or 0 for no limit")
        if asked.start not in STARTS:
            raise ContractError(f"start: got {asked.start!r}, wanted {', '.join(map(repr, STARTS))}")
        if asked.offset is not None and asked.offset < 1:
            raise ContractError(f"offset: got {asked.offset}, wanted 1 or more, or start='first' for all that is kept")
        if asked.since is not None:
            try:
                asked.since.timestamp()
            except (ValueError, OverflowError) as error:
                raise ContractError(f"since: got {asked.since}, wanted a time that can be counted: {error}") from None
        if asked.start == "live":
            if asked.group:
                raise ContractError(
                    f"start: got 'live' with group {asked.group!r}, wanted 'new' or 'first' in a group, which shares "
                    "what a stream keeps; to watch what is published from now on, leave the group out"
                )
            return ""
        for name, each in self.settings.items():
            if any(covers(pattern, asked.pattern) for pattern in each.topics):
                return name
        for name, each in self.settings.items():
            # A wildcard is not for the calls that brokers keep.
            if any(overlap(p, asked.pattern) for p in each.topics if of_calls(p) == of_calls(asked.pattern)):
                raise ContractError(
                    f"pattern: got {asked.pattern!r}, which goes beyond the topics of stream {name!r}; wanted a "
                    f"pattern within {', '.join(each.topics)}, or start='live' for what is published from now on, at "
                    "most once"
                )
        if asked.start == "first" or asked.offset is not None or asked.since is not None:
            raise ContractError(
                f"pattern: got {asked.pattern!r}, of which nothing is kept; wanted start='new', or a pattern of a "
                f"stream: {', '.join(p for each in self.settings.values() for p in each.topics) or 'there is none'}"
            )
        return ""

    async def _live(self, asked: Subscription) -> AsyncIterator[Batch]:
        end, gone = self.clock.now() + LEASE, True
        subscriber = self.live.attach(msgspec.structs.replace(asked, paused=False))  # what waits for it waits here
        try:
            yield Batch([])  # from now on nothing is missed
            for _ in range(BATCHES):
                while not subscriber.waiting and self._goes_on(end):
                    await subscriber.bell.wait(end - self.clock.now())
                if not subscriber.waiting or self.leaving:
                    break
                yield Batch(subscriber.take())
            gone = False
        finally:
            self.live.detach(subscriber, gone)

    async def _alone(self, name: str, asked: Subscription) -> AsyncIterator[Batch]:
        """From the log; the subscriber keeps its own place."""
        end = self.clock.now() + LEASE
        stream = (await self.opened())[name]
        stream.retain()
        cursor, sent, missed = stream.start_of(asked), 0, 0
        yield Batch([], cursor)
        while sent < BATCHES and self._goes_on(end):
            stream = (await self.opened())[name]
            records, cursor, lost = stream.read(cursor, BATCH)
            missed += lost
            events = [delivery(record, name) for record in records if matches(asked.pattern, record.topic)]
            if events:
                events[0] = msgspec.structs.replace(events[0], missed=missed)
                missed = 0
                yield Batch(events, cursor)
                sent += 1
            elif records:
                await asyncio.sleep(0)
            else:
                await stream.bell.wait(end - self.clock.now())
        yield Batch([], cursor)

    async def _grouped(self, name: str, asked: Subscription) -> AsyncIterator[Batch]:
        """What the group has for this member, who settles each event."""
        end, sent, missed, gone = self.clock.now() + LEASE, 0, 0, True
        stream = (await self.opened())[name]
        stream.retain()
        try:
            stream.join(asked).paused[asked.member] = asked.paused
        except OSError as error:
            raise Unavailable(f"group {asked.group!r} of stream {name!r} can't be made: {error}") from None
        try:
            yield Batch([])  # the group is there
            while sent < BATCHES and self._goes_on(end):
                stream = (await self.opened())[name]
                group = stream.group(asked.group)
                try:
                    prefetch = 0 if group.paused.get(asked.member) else asked.prefetch
                    taken = group.take(asked.member, prefetch)
                except OSError as error:
                    raise Unavailable(f"group {group.name!r} of stream {name!r} can't be written: {error}") from None
                missed += taken.missed
                for record, deliveries in taken.dead:
                    why = f"delivered {deliveries} times, never settled"
                    try:
                        await self._bury(stream, group, record, deliveries, why)
                    except (MukernelError, OSError) as error:  # the group goes on; this comes again after its ack wait
                        log.error("stream %r, group %r: offset %d waits: %s", name, group.name, record.offset, error)
                if taken.records:
                    events = [
                        delivery(record, name, count, group.given_back(record.offset))
                        for record, count in taken.records
                    ]
                    events[0] = msgspec.structs.replace(events[0], missed=missed)
                    missed = 0
                    yield Batch(events, number=taken.number)
                    sent += 1
                elif taken.dead or group.can_take(asked.member, prefetch, stream.log.end):
                    await asyncio.sleep(0)
                else:
                    await stream.bell.wait(min(end, group.next_due) - self.clock.now())
            gone = False
        finally:
            left = stream.groups.get(asked.group)
            if left is not None:
                left.paused.pop(asked.member, None)
                if gone:
                    left.release(asked.member)
                    stream.bell.ring()

    async def pause(self, asked: Subscription, number: int, waiting: list[int]) -> int:
        stream = await self._kept_group(asked)
        if stream is None:
            return 0
        stream.bell.ring()
        return stream.groups[asked.group].pause(asked.member, number, set(waiting))

    async def resume(self, asked: Subscription) -> None:
        stream = await self._kept_group(asked)
        if stream is not None:
            stream.groups[asked.group].resume(asked.member)
            stream.bell.ring()

    async def _kept_group(self, asked: Subscription) -> Stream | None:
        """The stream that has the group of a subscription, if one has. Raises ContractError."""
        check_pattern(asked.pattern)
        self._allowed("subscribe", asked.pattern)
        stream = (await self.opened()).get(self._kept_in(asked))
        group = stream.groups.get(asked.group) if stream is not None else None
        return stream if group is not None and group.pattern == asked.pattern else None

    # -- settle -----------------------------------------------------------------------------------------------

    async def settle(
        self, stream: str, group: str, offset: int, verdict: Literal["ack", "nak", "term", "working"], *,
        delay: float = 0.0, reason: str = "",
    ) -> bool:  # fmt: skip
        kept, found = await self._group("subscribe", stream, group)
        if not delay <= LONGEST_WAIT:
            raise ContractError(f"delay: got {delay}, wanted seconds, at most {LONGEST_WAIT}")
        if not 0 < offset < kept.log.end:
            raise NotFound(f"stream {stream!r} has no offset {offset}; the last is {kept.log.end - 1}")
        try:
            if verdict == "ack":
                waited = found.settle(offset)
            elif verdict == "term":
                waited = await self._term(kept, found, offset, reason or "terminated by its consumer")
            elif verdict == "nak":
                waited = found.put_off(offset, max(0.0, delay))
            else:
                waited = found.keep_on(offset, found.ack_wait)
        except OSError as error:
            raise Unavailable(f"group {group!r} of stream {stream!r} can't be written: {error}; settle again") from None
        if found.journal.lacking:
            kept.retain()
        kept.bell.ring()
        return waited

    async def _term(self, stream: Stream, group: Group, offset: int, reason: str) -> bool:
        each = group.outstanding.get(offset)
        if each is None:
            return False
        try:
            records, _, _ = stream.read(offset, 1)
        except LogDamaged:  # of which the log of the server has a line
            records = []
        if records and records[0].offset == offset:
            await self._bury(stream, group, records[0], each.deliveries, reason)
        else:  # it is gone from the log
            group.settle(offset)
        return True

    async def _bury(self, stream: Stream, group: Group, record: Record, deliveries: int, reason: str) -> None:
        """Give an event to the dead letters; only when they have it is it settled. It was accepted once, so no limit of
        publishers keeps it out. Raises OSError, Unavailable."""
        reason = text_of(reason, LONGEST_REASON)
        log.warning(
            "stream %r, group %r: offset %d (%s) goes to the dead letters: %s",
            stream.name, group.name, record.offset, record.topic, reason,
        )  # fmt: skip
        if stream.name != DEAD_LETTERS:
            about = {
                "Mukernel-Reason": reason,
                "Mukernel-Topic": record.topic,
                "Mukernel-Stream": stream.name,
                "Mukernel-Group": group.name,
                "Mukernel-Offset": str(record.offset),
                "Mukernel-Deliveries": str(deliveries),
            }
            topic = f"{DEAD_LETTERS}.{stream.name}.{group.name}"
            identity = f"{stream.name}.{group.name}.{record.offset}"
            await self._publish(topic, record.body, record.headers | about, identity)
        group.dead += group.settle(record.offset)

    async def remove_group(self, stream: str, group: str) -> None:
        kept, _ = await self._group("manage", stream, group)
        kept.remove_group(group)

    def _allowed(self, right: Right, topics: str = "") -> None:
        """Raises PermissionDenied for what the caller was not granted: a topic, or all that falls under a pattern. What
        is of brokered calls no grant of the whole interface gives: who publishes there calls as anybody."""
        grant = caller_grant(self)
        if of_calls(topics):
            held = grant.capabilities if grant is not None else ()
            if any(BROKER in each.rights and each.permits(BROKER, scope_of(topics)) for each in held):
                return
            raise PermissionDenied(
                f"{right} {topics!r}: the topics 'calls.…' are those of brokered calls, which are for the broker of "
                "the route alone: call the interface, or take another topic"
            )
        if grant is not None:
            grant.check(right, scope_of(topics))

    async def _group(self, right: Right, stream: str, group: str) -> tuple[Stream, Group]:
        """A group for somebody who has that right in all that it gets; who has it not is told of none. Raises
        NotFound."""
        streams = await self.opened()
        found = streams[stream].groups.get(group) if stream in streams else None
        kept = self.settings[stream].topics[0] if stream in self.settings else ""
        known = found.pattern if found is not None else ""
        self._allowed(right, known or (kept if of_calls(kept) else ""))
        if stream not in streams:
            raise NotFound(f"there is no stream {stream!r}; there are: {', '.join(streams) or 'none'}")
        return streams[stream], streams[stream].group(group)

    async def stats(self) -> EventFigures:
        self._allowed("manage")
        streams = {name: each.figures() for name, each in (await self.opened()).items()}
        return EventFigures(streams, len(self.live.members), self.live.missed)


def delivery(record: Record, stream: str, deliveries: int = 1, given_back: int = 0) -> Delivery:
    """A record of the log, for a subscriber."""
    at = EPOCH + timedelta(microseconds=record.at // 1000)
    return Delivery(
        record.topic, record.body, record.headers, stream, record.offset, at, deliveries, given_back=given_back
    )
