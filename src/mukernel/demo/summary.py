"""What the demo has found, as data and as a table for people."""

from __future__ import annotations

import msgspec

from .load import Account, percentile


class Event(msgspec.Struct, frozen=True):
    """One thing that was done to a plug-in. `at`: seconds since the load began; `pause`: seconds, where there was one."""

    at: float
    what: str
    plugin: str
    detail: str
    pause: float | None = None
    good: bool = True


class Calls(msgspec.Struct, frozen=True):
    """The load's own account; latencies in milliseconds."""

    made: int
    right: int
    wrong: int
    failed: int
    hung: int
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    errors: dict[str, int]


class Account_(msgspec.Struct, frozen=True):
    """The kernel's ledger of one plug-in, when all was quiet."""

    accepted: int
    replied: int
    refused: int
    running: int
    waiting: int
    lost: int
