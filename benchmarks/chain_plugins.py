"""A chain of eight process plug-ins, each calling the next by a blocking call, and one that calls the first.

An interface for each link, since a constructor asks for what it needs by its interface.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter_ns

from mukernel import Blocking, Interface, Plugin

WARM = 0.1
"""Before each measured slice, this share of its time goes to calls that do not count."""


class Link(Interface, version="1.0"):
    """Passes a call on. `left`: how many links it goes through, this one included."""

    def step(self, left: int) -> int: ...


class Link1(Link, version="1.0"): ...


class Link2(Link, version="1.0"): ...


class Link3(Link, version="1.0"): ...


class Link4(Link, version="1.0"): ...


class Link5(Link, version="1.0"): ...


class Link6(Link, version="1.0"): ...


class Link7(Link, version="1.0"): ...


class Link8(Link, version="1.0"): ...


class Passing:
    """What every link does."""

    following: Link

    def step(self, left: int) -> int:
        return self.following.step(left - 1) + 1 if left > 1 else 1


class First(Passing, Plugin, Link1):
    def __init__(self, following: Blocking[Link2]) -> None:
        self.following = following


class Second(Passing, Plugin, Link2):
    def __init__(self, following: Blocking[Link3]) -> None:
        self.following = following


class Third(Passing, Plugin, Link3):
    def __init__(self, following: Blocking[Link4]) -> None:
        self.following = following


class Fourth(Passing, Plugin, Link4):
    def __init__(self, following: Blocking[Link5]) -> None:
        self.following = following


class Fifth(Passing, Plugin, Link5):
    def __init__(self, following: Blocking[Link6]) -> None:
        self.following = following


class Sixth(Passing, Plugin, Link6):
    def __init__(self, following: Blocking[Link7]) -> None:
        self.following = following


class Seventh(Passing, Plugin, Link7):
    def __init__(self, following: Blocking[Link8]) -> None:
        self.following = following


class Eighth(Plugin, Link8):
    def step(self, left: int) -> int:
        return 1


LINKS = (First, Second, Third, Fourth, Fifth, Sixth, Seventh, Eighth)


class Driving(Interface, version="1.0"):
    """Measures the chain from a process of its own, so that the kernel's loop has no part in it."""

    async def measure(self, depth: int, seconds: float) -> tuple[float, float, float]: ...


class Driver(Plugin, Driving):
    def __init__(self, first: Blocking[Link1]) -> None:
        self.first = first

    def measure(self, depth: int, seconds: float) -> tuple[float, float, float]:
        """Mean, median and p99 in µs of round trips through `depth` links, for `seconds`."""
        step = self.first.step
        if step(depth) != depth:
            raise ValueError(f"the chain: {step(depth)} links answered, wanted {depth}")
        warm_until = perf_counter_ns() + int(seconds * WARM * 1e9)
        until = warm_until + int(seconds * 1e9)
        while perf_counter_ns() < warm_until:
            step(depth)
        times = []
        now = began = perf_counter_ns()
        while now < until:
            step(depth)
            before, now = now, perf_counter_ns()
            times.append(now - before)
        times.sort()
        return (now - began) / len(times) / 1000, median(times) / 1000, times[int(0.99 * len(times))] / 1000
