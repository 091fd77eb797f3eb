"""Closing: what ends all plug-ins of a kernel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .instances import Instances
from .registry import Entry

log = logging.getLogger("mukernel")


async def unload_all(instances: Instances, unload: Callable[[str], Awaitable[None]]) -> None:
    """End each plug-in once those have ended that were loaded later and call it, or may: so what they still run, and
    their own end, find it there. Others end at the same time, as each may take its process's time for that."""
    ends: list[tuple[Entry, asyncio.Task[None]]] = []

    async def end(entry: Entry, later: list[tuple[Entry, asyncio.Task[None]]]) -> None:
        while before := [task for other, task in later if not task.done() and instances.related(entry, other)]:
            await asyncio.wait(before)
        try:
            await unload(entry.name)
        except Exception:
            if instances.registry.entries.get(entry.name) is entry:  # else it was being unloaded before
                log.exception("%s did not stop cleanly", entry.name)

    for entry in sorted(instances.registry.entries.values(), key=lambda e: -e.order):
        ends.append((entry, asyncio.create_task(end(entry, list(ends)))))
    await asyncio.gather(*(task for _, task in ends))
