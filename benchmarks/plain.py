"""What the echo is compared with inline: a class that never heard of mukernel, and a plug-in with a state."""

from __future__ import annotations

from benchmarks.echo import Stateless


class Plain:
    """What a program without plug-ins would call."""

    def echo(self, data: bytes) -> bytes:
        return data

    async def echo_async(self, data: bytes) -> bytes:
        return data


class Stateful(Stateless):
    """Has a state: inline, its calls are counted, so that a swap knows when none is under way."""

    def save(self) -> int:
        return 0

    def restore(self, state: int) -> None:
        pass
