"""The echo that is measured: an interface and the least plug-in that serves it."""

from __future__ import annotations

from mukernel import Interface, Plugin


class Echo(Interface, version="1.0"):
    """Gives back what it was given."""

    def echo(self, data: bytes) -> bytes: ...
    async def echo_async(self, data: bytes) -> bytes: ...


class Stateless(Plugin, Echo):
    """Nothing to hand over and nothing to stop: inline, its own methods stand in the proxy."""

    def echo(self, data: bytes) -> bytes:
        return data

    async def echo_async(self, data: bytes) -> bytes:
        return data
