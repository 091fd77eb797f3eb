"""The echo that is measured, as an interface, as plug-ins, and as a class that never heard of mukernel."""

from __future__ import annotations

from mukernel import Interface, Plugin


class Echo(Interface, version="1.0"):
    """Gives back what it was given."""

    def echo(self, data: bytes) -> bytes: ...
    async def echo_async(self, data: bytes) -> bytes: ...


class Plain:
    """What a program without plug-ins would call."""

    def echo(self, data: bytes) -> bytes:
        return data

    async def echo_async(self, data: bytes) -> bytes:
        return data


class Stateless(Plugin, Echo):
    """Nothing to hand over and nothing to stop: inline, its own methods stand in the proxy."""

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
