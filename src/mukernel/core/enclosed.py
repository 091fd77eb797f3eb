"""Enclosed: the processes of one sandbox, as the kernel knows them.

The outer is the one that the kernel has started. It holds on to the first of the sandbox's process namespace, with whom
all of that dies, and to the inner, in which the plug-ins are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from signal import SIGKILL, pidfd_send_signal

from ..contract import Unavailable
from ..kernel.process import Process
from ..sandbox.cgroups import Cgroup
from ..sandbox.family import children, descendants


class Enclosed:
    """`pid` is that of the inner; `cgroup` holds all of them together, where there is one.

    Made once the inner is enclosed, and before a plug-in runs in it. Raises Unavailable where it has ended already.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outer: Process, cgroup: Cgroup | None) -> None:
        self.loop, self.outer, self.cgroup = loop, outer, cgroup
        self.first = self.inner = -1
        try:
            # The numbers are not those of others: while the outer lives, the first is not reaped, and so on.
            (first,) = children(outer.pid)
            self.first = os.pidfd_open(first)
            (self.pid,) = children(first)
            self.inner = os.pidfd_open(self.pid)
            if children(outer.pid) != [first] or children(first) != [self.pid]:
                raise ProcessLookupError
        except (ValueError, OSError):
            self.close()
            raise Unavailable("the sandbox ended as soon as it was set up") from None

    @property
    def alive(self) -> bool:
        return self.outer.alive

    def kill(self, signal: int = SIGKILL) -> None:
        """Send a signal to the process of the plug-ins."""
        with contextlib.suppress(ProcessLookupError):
            if self.inner >= 0:
                pidfd_send_signal(self.inner, signal)

    def members(self) -> list[int]:
        """Every process of it."""
        return [self.outer.pid, *descendants(self.outer.pid)]

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Call once nobody lives in it any more, which is a moment after the outer has ended. The system says so, which
        ends the first only when all others of its namespace have."""

        def ended() -> None:
            self.loop.remove_reader(self.first)
            callback()

        self.loop.add_reader(self.first, ended)

    def close(self) -> None:
        """Give up the descriptors, when it has ended."""
        for descriptor in (self.first, self.inner):
            if descriptor >= 0:
                self.loop.remove_reader(descriptor)
                os.close(descriptor)
        self.first = self.inner = -1

    @property
    def held_by(self) -> str:
        """What limits it."""
        found = self.cgroup.controllers if self.cgroup is not None else ()
        return "cgroup" if len(found) > 1 else f"cgroup:{found[0]}" if found else "rlimits"
