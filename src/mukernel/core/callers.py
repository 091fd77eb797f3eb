"""Callers: the processes in which a plug-in is called are told where it is now, or that it is gone.

A change does not depend on what they answer: what a caller has sent is served or refused all the same, and one whose
mailbox is gone finds that said in it. So one that has died, can't follow, or is silent, since its event loop is kept or
it is stopped, holds up neither the change nor the other callers. It follows when it can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from ..contract import Unavailable
from ..transports.eager import start_task
from .place import Place

log = logging.getLogger("mukernel")
PATIENCE = 1.0  # seconds that whoever is silent is waited for
Telling = Callable[[Place], Coroutine[Any, Any, object]]
Silent = set[asyncio.Task[None]]


async def tell(places: Iterable[Place], telling: Telling) -> Silent:
    """Tell processes something, all at once; returns those that are silent, each as a task that ends when it has done
    what it was told, or has died."""
    loop = asyncio.get_running_loop()
    under_way = {task for task in [start_task(loop, tell_one(place, telling)) for place in places] if not task.done()}
    if not under_way:
        return under_way
    _, silent = await asyncio.wait(under_way, timeout=PATIENCE)
    return silent


async def tell_one(place: Place, telling: Telling) -> None:
    """Tell one process something, however long that takes."""
    try:
        await telling(place)
    except Unavailable as error:
        log.info("%s was not told of a change: %s", place.space, error)
    except Exception as error:
        log.warning("%s does not follow a change: %s", place.space, error)
