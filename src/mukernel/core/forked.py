"""Forked: a process that came of a fork has all that its parent had in memory, and may use none of it.

A ring has one writer: a second would spoil it for the parent, too. Nor does the child have the parent's threads: what
waits for its loop would wait for ever.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Heirloom(Protocol):
    """What a child must not use."""

    def leave_to_parent(self, reason: str) -> None:
        """Called in the child, whose only thread this is: refuse every call, saying why; send and close nothing."""


_heirlooms: WeakSet[Heirloom] = WeakSet()


def refused_after_fork(each: Heirloom) -> None:
    """From the next fork on, `each` is told in the child."""
    _heirlooms.add(each)


def told(parent: int) -> str:
    """Why nothing can be called."""
    return (
        f"process {os.getpid()} was forked from process {parent}, and what that was connected to did not come along: "
        "start one here, after the fork"
    )


def _in_child() -> None:
    reason = told(os.getppid())
    for each in list(_heirlooms):
        each.leave_to_parent(reason)


os.register_at_fork(after_in_child=_in_child)
