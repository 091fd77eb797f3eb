"""Collecting events in tests: for a number of them, or until there are no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from mukernel.servers.events import Event, EventClient

T = TypeVar("T")


async def take(events: AsyncGenerator[Event[T], None], count: int, ack: bool = False) -> list[Event[T]]:
    """The next `count` events, acknowledged if asked for; the subscription goes on."""
    taken: list[Event[T]] = []
    while len(taken) < count:
        event = await anext(events)
        if ack:
            await event.ack()
        taken.append(event)
    return taken


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - nothing tells when the condition changes
        await asyncio.sleep(0)


class Listening:
    """A subscription that fills a list, from when the `async with` is entered."""

    def __init__(self, client: EventClient, pattern: str, ack: bool = False, **more: Any) -> None:
        self.client, self.pattern, self.ack, self.more = client, pattern, ack, more
        self.events: list[Event[bytes]] = []
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Listening:
        ready = asyncio.Event()
        self.task = asyncio.create_task(self.listen(ready))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([self.task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            self.task.result()
        return self

    async def listen(self, ready: asyncio.Event) -> None:
        events = self.client.subscribe(self.pattern, ready=ready, **self.more)
        try:
            async for event in events:
                self.events.append(event)
                if self.ack:
                    await event.ack()
        finally:
            await events.aclose()

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    @property
    def bodies(self) -> list[bytes]:
        return [event.body for event in self.events]
