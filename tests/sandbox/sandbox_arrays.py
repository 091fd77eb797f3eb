"""Plug-ins that hand arrays to each other, whose memory one of them would rather not pay for."""

from __future__ import annotations

import os

import numpy

from mukernel import Interface, Plugin, shared


class Sink(Interface):
    """Looks at every page of what it is sent."""

    async def total(self, array: numpy.ndarray) -> int: ...


class Source(Interface):
    """Sends, or gives back, an array that it has never touched."""

    async def push(self, megabytes: int) -> int: ...
    async def get(self, megabytes: int) -> numpy.ndarray: ...


class Victim(Plugin, Sink):
    async def total(self, array: numpy.ndarray) -> int:
        return int(array.sum())


class Idle(Plugin, Source):
    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    async def push(self, megabytes: int) -> int:
        return await self.sink.total(await self.get(megabytes))

    async def get(self, megabytes: int) -> numpy.ndarray:
        return shared.empty(megabytes << 20, "u1")


class Stingy(Idle):
    """Does not have the system make the pages of what it sends, as its process otherwise would."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        os.posix_fallocate = lambda *range: None
