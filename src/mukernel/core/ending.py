"""Endings that nobody asked for: how a process ended, and a plug-in that would end the one it runs in, or its task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals

from ..contract import ContractError
from ..kernel.process import ExitStatus


def described(status: ExitStatus) -> str:
    """How a process ended, as in "it ..."."""
    if status.signal is not None:
        name = Signals(status.signal).name if status.signal in set(Signals) else "unknown"
        return f"ended by signal {status.signal} ({name})"
    return f"exited with status {status.code}" if status.code is not None else "ended"


@contextmanager
def contained(plugin: str, doing: str) -> Iterator[None]:
    """Raises ContractError where a plug-in calls sys.exit: it may end itself, never the process of others. Likewise for
    a CancelledError that is its own: none is to take it for a cancellation of what the kernel does."""
    try:
        yield
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ContractError(
            f"plug-in {plugin!r} raised CancelledError while it was {doing}: it waited for something that was cancelled"
        ) from cancelled
    except SystemExit as left:
        raise ContractError(
            f"plug-in {plugin!r} called sys.exit({left.code!r}) while it was {doing}; wanted an exception that says "
            "what is wrong"
        ) from left


__all__ = ["contained", "described"]
