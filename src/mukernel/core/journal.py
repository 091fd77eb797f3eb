"""Journal: what happened to the plug-ins of one kernel, for whoever asks and whoever listens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..kernel.clock import Clock

REMEMBERED = 1000  # events kept for those who ask


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to a plug-in. `at`: seconds of the kernel's clock; `pause`: seconds, where there was
    one."""

    at: float
    what: str
    plugin: str
    detail: str = ""
    pause: float | None = None


class Journal:
    """Keeps the last events, and tells each to its listeners as it happens."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events: deque[Happening] = deque(maxlen=REMEMBERED)
        self.listeners: list[Callable[[Happening], object]] = []  # called with each event, as it happens

    def record(self, what: str, plugin: str, detail: str = "", pause: float | None = None) -> None:
        """Note an event; `pause` in seconds. Raises what a listener raises."""
        happening = Happening(self.clock.now(), what, plugin, detail, pause)
        self.events.append(happening)
        for listener in self.listeners:
            listener(happening)
