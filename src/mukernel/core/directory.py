"""Directory: where a space asks for connections, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..contract import Description
from ..transports.descriptors import close_all
from .messages import Connected


@dataclass(slots=True)
class Grant:
    """What the kernel gives for a connection: send rights, or the key of an instance in the very process that asked."""

    connected: Connected
    rights: list[int] = field(default_factory=list)  # those of the first channel, then those of the next

    def for_each(self) -> list[list[int]]:
        """The rights, channel by channel."""
        width = len(self.rights) // max(1, len(self.connected.channels))
        return [self.rights[start : start + width] for start in range(0, len(self.rights), width or 1)]


class Directory(Protocol):
    """Where a space asks for connections: the kernel."""

    async def connect(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int = -1, token: str = ""
    ) -> Grant: ...
    def connect_now(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int, token: str = ""
    ) -> Grant: ...
    async def narrow(self, key: str, interface: str, plugin: str, part: str, token: str) -> str:
        """A token for a part of what the instance `key`, or `token`, holds in an interface of `plugin`."""
        ...

    def check_served(self, channel: int) -> None:
        """Raises Unavailable where the call that waits in a channel is not run while this thread waits for it."""

    def disconnect(self, channel: int) -> None: ...


def give_back(granted: Sequence[Grant], directory: Directory) -> None:
    """What was granted to a thread that had stopped waiting for it. Called on the loop of the space."""
    for grant in granted:
        close_all(grant.rights)
        for channel in grant.connected.channels:
            directory.disconnect(channel)
