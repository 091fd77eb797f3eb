"""Inventory: the shared memory that this process holds, piece by piece."""

from __future__ import annotations

import os

from ..transports.segment import Segment, account, live_segments
from .messages import HeldSegment, Inventory

MOST_LISTED = 1000  # segments


def inventory() -> Inventory:
    """As it is now."""
    segments = sorted(live_segments(), key=lambda each: each.size, reverse=True)
    listed = list(map(described, segments[:MOST_LISTED]))
    return Inventory(account.limit, account.held, account.in_flight(), len(segments), listed)


def described(segment: Segment) -> HeldSegment:
    return HeldSegment(
        os.fstat(segment.fd).st_ino, segment.size, segment.made,
        "final" if segment.final else "sent" if segment.sealed else "written", "arrow" if segment.holds_arrow else "",
    )  # fmt: skip
