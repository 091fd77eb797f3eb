"""What an operator says about a durable stream, checked field by field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from ...contract import ContractError
from ...core.quantity import duration, of_field, size
from .log import Retention
from .topics import check_name, check_pattern, covers, overlap

DEAD_LETTERS = "dead-letters"  # the stream of what was delivered too often, and the first token of its topics
LONGEST_TIME = 36500 * 86400.0  # seconds: 100 years, of which the nanoseconds have 64 bits


def time(given: object) -> float:
    """Seconds. Raises ValueError with what was wanted."""
    seconds = duration(given)
    if seconds > LONGEST_TIME:
        raise ValueError("at most '36500d'")
    return seconds


class StreamSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Events of these topics are kept on the disk.

    topics: patterns. max_age ("7d"), max_bytes ("1G"), max_count: what is kept at most; 0: no such limit. fsync:
    "always": an event is published when the disk has it; a time: the disk is synced so often; "never": when the system
    likes. retention: "limits": what those limits keep; "workqueue": what some group has not settled yet.
    segment: bytes of one file. backlog: bytes that may wait for the disk. duplicate_window: how long an identity
    is remembered. on_damage: what subscribers see of damaged offsets: "stop": LogDamaged; "skip": only a report in the
    log of the server.
    """

    topics: list[str]
    max_age: str | float = 0
    max_bytes: str | int = 0
    max_count: int = 0
    fsync: str | float = "always"
    retention: Literal["limits", "workqueue"] = "limits"
    segment: str | int = "16M"
    backlog: str | int = "16M"
    duplicate_window: str | float = "2m"
    on_damage: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        """Raises ValueError that names the field: `mukernel check` finds it, too."""
        if not self.topics:
            raise ValueError("topics: got [], wanted at least one pattern, such as ['orders.>']")
        for pattern in self.topics:
            try:
                check_pattern(pattern, "topics")
            except ContractError as error:
                raise ValueError(str(error)) from None
        of_field("max_age", time, self.max_age)
        of_field("max_bytes", size, self.max_bytes or 1)
        of_field("segment", size, self.segment)
        of_field("backlog", size, self.backlog)
        of_field("duplicate_window", time, self.duplicate_window)
        if self.max_count < 0:
            raise ValueError(f"max_count: got {self.max_count}, wanted 0 (no limit) or more")
        if self.retention == "workqueue" and (self.max_age or self.max_bytes or self.max_count):
            raise ValueError(
                "retention: got 'workqueue', which keeps all that is not settled, with a limit beside it; wanted "
                "neither max_age nor max_bytes nor max_count"
            )
        if self.fsync not in ("always", "never"):
            of_field("fsync", time, self.fsync, "'always', 'never', or ")

    @property
    def limits(self) -> Retention:
        age = duration(self.max_age)
        return Retention(
            round(age * 1e9) if age else None, size(self.max_bytes) if self.max_bytes else None, self.max_count or None
        )

    @property
    def sync_every(self) -> float | None:
        """Seconds; 0: always; None: never."""
        return {"always": 0.0, "never": None}[self.fsync] if self.fsync in ("always", "never") else duration(self.fsync)


DEAD_LETTER_SETTINGS = StreamSettings([f"{DEAD_LETTERS}.>"], max_age="30d", max_bytes="256M")


CALLS = "calls"  # the first token of the topics that brokers alone have to do with


def of_calls(topics: str) -> bool:
    """Is it a topic of brokered calls, or a pattern over nothing else?"""
    return topics.partition(".")[0] == CALLS


def call_topic(interface: str) -> str:
    """Where the calls of an interface whose route is brokered wait."""
    return f"{CALLS}.{interface}"


def call_stream(interface: str) -> str:
    """The stream that keeps them."""
    return "calls-" + interface.replace(".", "-")


def streams_of_calls(interfaces: Sequence[str]) -> dict[str, StreamSettings]:
    """A stream for the calls of each interface: kept until they have been made, and no longer. Raises ContractError."""
    streams: dict[str, StreamSettings] = {}
    for each in interfaces:
        try:
            check_name(call_stream(each), "")
            streams[call_stream(each)] = StreamSettings(
                [call_topic(each)], retention="workqueue", segment="4M", on_damage="skip"
            )
        except (ContractError, ValueError):
            raise ContractError(
                f"config.calls: got {each!r}, wanted the name of an interface, such as 'Parcels', of at most 58 "
                "letters, digits, '_' and '.'"
            ) from None
    return streams


def checked_streams(streams: dict[str, StreamSettings], calls: Sequence[str] = ()) -> dict[str, StreamSettings]:
    """The streams, with those of brokered calls and that of the dead letters. Raises ContractError that names the
    field."""
    whole = streams_of_calls(calls) | streams
    if whole:
        whole.setdefault(DEAD_LETTERS, DEAD_LETTER_SETTINGS)
        if not any(covers(each, f"{DEAD_LETTERS}.*.*") for each in whole[DEAD_LETTERS].topics):
            raise lost(whole, DEAD_LETTERS, f"{DEAD_LETTERS}.>", "what nobody could settle")
    for each in calls:
        if call_topic(each) not in whole[call_stream(each)].topics:
            raise lost(whole, call_stream(each), call_topic(each), f"the calls of {each}")
    for name in whole:
        check_name(name, f"config.streams.{name}")
        topics = whole[name].topics
        if any(map(of_calls, topics)) and not all(map(of_calls, topics)):
            raise ContractError(
                f"config.streams.{name}.topics: got {topics!r}, wanted those of brokered calls ('{CALLS}.…'), which "
                "are for brokers alone, in a stream without others"
            )
    names = list(whole)
    for position, name in enumerate(names):
        for other in names[position + 1 :]:
            for mine in whole[name].topics:
                for theirs in whole[other].topics:
                    if overlap(mine, theirs):
                        raise ContractError(
                            f"config.streams.{other}.topics: {theirs!r} overlaps {mine!r} of stream {name!r}; wanted "
                            "each topic in one stream"
                        )
    return whole


def lost(streams: dict[str, StreamSettings], name: str, wanted: str, what: str) -> ContractError:
    """A stream is configured so that it does not keep what it is there for."""
    return ContractError(
        f"config.streams.{name}.topics: got {streams[name].topics!r}, wanted {wanted!r} among them: that stream is for "
        f"{what}, which would be lost"
    )
