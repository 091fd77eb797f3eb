"""Interfaces that the kernel itself serves, in every process."""

from __future__ import annotations

from datetime import datetime

from ..contract import Interface
from ..kernel.clock import Clock as KernelClock


class Clock(Interface, version="1.0"):
    """The kernel's clock: the only source of time a plug-in needs, and virtual in tests."""

    def now(self) -> float:
        """Seconds since an arbitrary start, monotonic."""
        raise NotImplementedError

    def wall(self) -> datetime:
        """Date and time in UTC."""
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        """Wait."""


BUILTIN = (Clock.__contract__.name,)  # served in every process: nobody needs a channel, or a grant


class BuiltinClock(Clock):
    """Serves Clock from the clock of this process."""

    def __init__(self, clock: KernelClock) -> None:
        self.clock = clock

    def now(self) -> float:
        return self.clock.now()

    def wall(self) -> datetime:
        return self.clock.wall()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
