"""What travels with a call through every hop: deadline, priority, trace."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class CallContext:
    """The circumstances of the call that is being served, or that a caller has set for the calls it makes.

    `priority` is raised in place when a more urgent caller waits for this call (priority inheritance); calls that it makes
    from then on travel at the raised priority.
    """

    __slots__ = ("deadline", "priority", "trace")

    def __init__(self, deadline: int = 0, priority: int = 0, trace: tuple[int, int, int] | None = None) -> None:
        self.deadline = deadline  # ns of the clock that times the calls; 0: none
        self.priority = priority  # -128 to 127, higher is more urgent
        self.trace = trace  # (trace id high, trace id low, span id), 64 bits each


current: ContextVar[CallContext | None] = ContextVar("mukernel_call", default=None)
