"""Family: the processes that descend from one, as the system tells. Those of a sandbox can't leave it: whose parent
ends becomes a child of the first of their namespace."""

from __future__ import annotations

import contextlib
import os


def children(pid: int) -> list[int]:
    """What any thread of a process has started, and is not reaped."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def descendants(pid: int) -> list[int]:
    """Its children, theirs, and so on; without itself."""
    found, waiting = [], children(pid)
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting += children(each)
    return found
