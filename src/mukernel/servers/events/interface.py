"""Events: the interface of the event server, and what travels by it.

Its meaning is kept within what NATS JetStream can do, so that the same interface can be carried by it across machines:
a stream is a JetStream stream, an offset its sequence, a group a durable pull consumer, `identity` the header
Nats-Msg-Id, and a verdict one of Ack, Nak, Term and In Progress.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal

import msgspec

from ...contract import Interface, idempotent

Start = Literal["new", "first", "live"]


class LogDamaged(Exception):
    """The log of a stream can't be read there: offsets `first` to `last` are lost. Later ones can be read."""

    def __init__(self, stream: str, first: int, last: int) -> None:
        super().__init__(stream, first, last)
        self.stream, self.first, self.last = stream, first, last

    def __str__(self) -> str:
        return (
            f"stream {self.stream!r}: offsets {self.first} to {self.last} are damaged on the disk; to go on after them "
            f"subscribe again, in a group as before, else with offset={self.last + 1}; or set on_damage = 'skip' for "
            "the stream"
        )


class Published(msgspec.Struct, frozen=True):
    """Where an event went. `stream` is "" and `offset` 0 for a plain topic; `duplicate`: its identity was there."""

    stream: str = ""
    offset: int = 0
    duplicate: bool = False


class Subscription(msgspec.Struct, frozen=True):
    """What a subscriber asks for; `member` names it, the same each time that it comes back.

    `start`: "new", "first" (the oldest there is) or "live"; `offset` and `since` go before it. A group that exists goes
    on where it was. `ack_wait` in seconds; `max_deliver` 0: no limit; `prefetch`: events that the member may have and
    not have acknowledged, or, on plain topics, that may wait for it in the server. `paused`: the member of a group is
    sent nothing before it says `resume`.
    """

    pattern: str
    member: str
    group: str = ""
    start: Start = "new"
    offset: int | None = None
    since: datetime | None = None
    ack_wait: float = 30.0
    max_deliver: int = 5
    prefetch: int = 64
    paused: bool = False


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """One event. `at`: when the server took it (UTC); `deliveries`: 1 at the first; `missed`: events that this
    subscriber did not get before it, since it was too slow or they were too old; `given_back`: how often consumers of
    its group put it off with `nak`."""

    topic: str
    body: bytes
    headers: dict[str, str]
    stream: str
    offset: int
    at: datetime
    deliveries: int = 1
    missed: int = 0
    given_back: int = 0


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Some events in order. `next`: the offset to go on from, where the subscriber keeps its own place. `number`: in a
    group, of the last delivery in it; they grow until the server dies."""

    events: list[Delivery]
    next: int = 0
    number: int = 0


class GroupFigures(msgspec.Struct, frozen=True):
    """`pattern`: "" where its journal was damaged and no member has come since. `settled`: every event up to this
    offset is; `outstanding`: delivered or put off, and not settled; `behind`: offsets that nobody was given yet;
    `redelivered`, `dead`: counted since the server started; `full`: as much is outstanding as may be (65,536 events),
    and nothing new is delivered before some of it is settled."""

    pattern: str
    settled: int
    outstanding: int
    behind: int
    redelivered: int
    dead: int
    full: bool = False


class StreamFigures(msgspec.Struct, frozen=True):
    """`first` > `last`: empty. `torn`: unfinished writes that were cut off when the log was opened; `torn_bytes`: their
    length; `damaged`: offsets that can't be read, of a segment without a header as many as it can have had; `syncs`:
    how often the disk was waited for."""

    topics: list[str]
    first: int
    last: int
    bytes: int
    segments: int
    torn: int
    torn_bytes: int
    damaged: int
    syncs: int
    groups: dict[str, GroupFigures]


class EventFigures(msgspec.Struct, frozen=True):
    """The state of the server. `missed`: events that plain subscribers lost since they were too slow."""

    streams: dict[str, StreamFigures]
    live: int
    missed: int


class Events(Interface, version="1.0", raises=(LogDamaged,)):
    """Publish and subscribe. `EventClient` and `Topic` make it pleasant."""

    async def publish(
        self, topic: str, body: bytes, *, headers: dict[str, str] | None = None, identity: str = "",
        when_full: Literal["refuse", "wait"] = "wait",
    ) -> Published:  # fmt: skip
        """Returns when the event is on the disk, as the stream's `fsync` says; on a plain topic, when it is on its way
        to who subscribes now. An `identity` that its topic saw within the duplicate window is not stored again.

        Raises ContractError for what is no topic or a body that is too large, Overloaded where the disk lags behind
        (`refuse`), Unavailable where it can't be written.
        """
        raise NotImplementedError

    def subscribe(self, asked: Subscription) -> AsyncIterator[Batch]:
        """Batches of events. A stream ends after a while, and when the server is swapped: come back with the same
        `member`, and with `offset` as the last batch's `next` said. Raises ContractError, LogDamaged."""
        raise NotImplementedError

    @idempotent
    async def settle(
        self, stream: str, group: str, offset: int, verdict: Literal["ack", "nak", "term", "working"], *,
        delay: float = 0.0, reason: str = "",
    ) -> bool:  # fmt: skip
        """What became of an event. ack: done. nak: deliver it again after `delay` seconds. term: never again, it goes
        to the dead letters with the `reason`. working: not yet, its ack wait begins anew. False: nobody waited for it
        any more. Raises NotFound."""
        raise NotImplementedError

    async def pause(self, asked: Subscription, number: int, waiting: list[int]) -> int:
        """A member of a group takes no more until it says `resume`. Its consumer was handed all that came up to the
        batch of this `number`, except for what waits in the client, at the offsets `waiting`. All else that it was sent
        counts as not delivered, and is for the others at once: who leaves says this before it closes its stream.
        Returns the number of the group's last delivery: what comes up to that is the member's no more. 0 where nothing
        is kept for the group. Raises ContractError."""
        raise NotImplementedError

    @idempotent
    async def resume(self, asked: Subscription) -> None:
        """A member that has paused takes more. Raises ContractError."""

    @idempotent
    async def remove_group(self, stream: str, group: str) -> None:
        """Forget a group and its place. Raises NotFound."""

    @idempotent
    async def stats(self) -> EventFigures:
        """Figures of every stream and group."""
        raise NotImplementedError


__all__ = [
    "Batch",
    "Delivery",
    "EventFigures",
    "Events",
    "GroupFigures",
    "LogDamaged",
    "Published",
    "Start",
    "StreamFigures",
    "Subscription",
]
