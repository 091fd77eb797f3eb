"""A plug-in that publishes and subscribes with what it was granted."""

from __future__ import annotations

from contextlib import aclosing

from mukernel import Interface, Plugin
from mukernel.servers.events import EventClient, Events


class Members(Interface):
    async def publish(self, topic: str) -> int: ...
    async def first(self, pattern: str) -> str: ...
    async def grouped(self, pattern: str, group: str) -> str: ...
    async def given_up(self, pattern: str, group: str) -> bool: ...
    async def settle(self, stream: str, group: str) -> bool: ...
    async def forget(self, group: str) -> None: ...
    async def stats(self) -> list[str]: ...


class Member(Plugin, Members):
    def __init__(self, events: Events) -> None:
        self.events, self.client = events, EventClient(events)

    async def publish(self, topic: str) -> int:
        return (await self.client.publish(topic, b"")).offset

    async def first(self, pattern: str) -> str:
        async with aclosing(self.client.subscribe(pattern, start="first")) as events:
            return (await anext(events)).topic

    async def grouped(self, pattern: str, group: str) -> str:
        async with aclosing(self.client.subscribe(pattern, group=group, start="first")) as events:
            event = await anext(events)
            assert await event.ack()
            return event.topic

    async def given_up(self, pattern: str, group: str) -> bool:
        async with aclosing(self.client.subscribe(pattern, group=group, start="first")) as events:
            return await (await anext(events)).term("nobody can do this")

    async def settle(self, stream: str, group: str) -> bool:
        return await self.events.settle(stream, group, 1, "ack")

    async def forget(self, group: str) -> None:
        await self.events.remove_group("orders", group)

    async def stats(self) -> list[str]:
        return sorted((await self.events.stats()).streams)
