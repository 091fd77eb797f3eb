"""Callers: the processes in which a plug-in is called are told where it is now, or that it is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from ..contract import Unavailable
from ..transports.eager import start_task
from .place import Place

log = logging.getLogger("mukernel")
Telling = Callable[[Place], Coroutine[Any, Any, None]]


async def tell(places: Iterable[Place], telling: Telling) -> None:
    """Tell processes something, all at once. One that dies of it, or can't do it, is no reason against what is being
    done: the routes of a process that has died died with it."""
    loop = asyncio.get_running_loop()
    under_way = [task for task in [start_task(loop, told(place, telling)) for place in places] if not task.done()]
    if under_way:
        await asyncio.wait(under_way)


async def told(place: Place, telling: Telling) -> None:
    try:
        await telling(place)
    except Unavailable as error:
        log.info("%s was not told of a change: %s", place.space, error)
    except Exception as error:
        log.warning("%s does not follow a change: %s", place.space, error)
