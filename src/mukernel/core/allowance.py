"""Allowance: how much of the kernel's time a process may take up by what it says, since all others wait meanwhile."""

from __future__ import annotations

SHARE = 0.5  # of the kernel's time, in the long run
AT_ONCE = 1.0  # seconds beyond that, before it has to wait: a large state takes some
PATIENCE = 10.0  # seconds in a row that it may be at its limit


class Allowance:
    """What a process has taken up of it. Times in seconds, by the clock of the kernel's loop."""

    def __init__(self, now: float) -> None:
        self.debt, self.counted = 0.0, now
        self.at_limit_since: float | None = None

    def used(self, seconds: float, now: float) -> float:
        """It has taken up as many, until now; returns for how many more it is not to be heard."""
        self.debt = max(0.0, self.debt - SHARE * (now - seconds - self.counted))  # what it was silent for
        if not self.debt:
            self.at_limit_since = None
        self.debt += (1.0 - SHARE) * seconds
        self.counted = now
        if self.debt <= AT_ONCE:
            return 0.0
        if self.at_limit_since is None:
            self.at_limit_since = now
        return (self.debt - AT_ONCE) / SHARE

    def is_exhausted(self, now: float) -> bool:
        """Has it been at its limit for too long?"""
        return self.at_limit_since is not None and now - self.at_limit_since > PATIENCE
