"""Allowance: how much of the kernel's time a process may take up by what it says, since all others wait meanwhile."""

from __future__ import annotations

SHARE = 0.5  # of the kernel's time, in the long run
AT_ONCE = 1.0  # seconds beyond that, before it has to wait: a large state takes some


class Allowance:
    """What a process has taken up of it.

    Counted are seconds of the processor: that the kernel had to wait for one, or stood still, is no process's fault.
    `now` is the time of the kernel's loop, in seconds.
    """

    def __init__(self, now: float) -> None:
        self.debt, self.counted = 0.0, now

    def used(self, seconds: float, now: float) -> float:
        """It has taken up as many, until now; returns for how many more it is not to be heard."""
        self.debt = max(0.0, self.debt - SHARE * (now - self.counted)) + seconds
        self.counted = now
        return max(0.0, self.debt - AT_ONCE) / SHARE
