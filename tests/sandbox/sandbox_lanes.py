"""A hostile plug-in that puts shared memory into its lane which none of its messages tells of."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import AsyncIterator

import numpy

from mukernel import Interface, Plugin, shared
from mukernel.transports import lane, segment

LENT = 128 << 10  # bytes of an array that is lent


class Adding(Interface, version="1.0"):
    """Adds up arrays."""

    async def total(self, numbers: numpy.ndarray) -> int: ...
    async def held(self) -> int: ...
    async def most_held(self) -> int:
        """Beside what was to be added up."""

    async def hold(self) -> None: ...


class Adder(Plugin, Adding):
    def __init__(self) -> None:
        self.most = 0

    async def total(self, numbers: numpy.ndarray) -> int:
        self.most = max(self.most, shared.held() - numbers.nbytes)
        return int(numbers.sum())

    async def held(self) -> int:
        return shared.held()

    async def most_held(self) -> int:
        return self.most

    async def hold(self) -> None:
        await asyncio.Event().wait()


class Sending(Interface, version="1.0"):
    """Has arrays added up."""

    async def send(self) -> int: ...
    async def flood(self, rounds: int, segments: int, size: int) -> list[str]: ...
    def many(self, items: int, arrays: int) -> AsyncIterator[list[numpy.ndarray]]: ...
    async def lie(self, segments: int) -> numpy.ndarray: ...


def put(own: lane.Lane, segments: int, size: int) -> None:
    """So many segments into a lane."""
    assert own.socket is not None
    for _ in range(segments):
        made = segment.new_segment(size)
        os.posix_fallocate(made.fd, 0, size)
        made.seal(segment.WRITTEN)
        rights = array.array("i", [made.fd])
        try:
            own.socket.sendmsg([os.urandom(16)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:  # no room now
            break


class Sender(Plugin, Sending):
    def __init__(self, adding: Adding) -> None:
        self.adding = adding

    async def send(self) -> int:
        return await self.adding.total(numpy.ones(LENT, "u1"))

    async def flood(self, rounds: int, segments: int, size: int) -> list[str]:
        """Calls that are as they should be, each behind so many segments of that size, which could be of those that
        wait; what they end in. They wait until all are sent."""
        usual = lane.Lane.load

        def load(own: lane.Lane, message: lane.Outgoing, beside: bool = False) -> bytes:
            put(own, segments, size)
            return usual(own, message, beside)

        lane.Lane.load = load  # type: ignore[method-assign]
        held = asyncio.ensure_future(self.adding.hold())
        try:
            await asyncio.sleep(0)
            calls = [asyncio.ensure_future(self.send()) for _ in range(rounds)]
            await asyncio.sleep(0)
            held.cancel()
            return [*map(str, await asyncio.gather(*calls, return_exceptions=True))]
        finally:
            lane.Lane.load = usual  # type: ignore[method-assign]

    async def many(self, items: int, arrays: int) -> AsyncIterator[list[numpy.ndarray]]:
        """Items that nobody reads lie with who has asked for them."""
        made = shared.empty(LENT, "u1")
        for _ in range(items):
            yield [made] * arrays

    async def lie(self, segments: int) -> numpy.ndarray:
        """A reply whose array has not come, behind segments that no reply tells of."""

        def load(own: lane.Lane, message: lane.Outgoing, beside: bool = False) -> bytes:
            put(own, segments, LENT)
            return lane._HEAD.pack(lane.MARK, own.side, own.number, os.urandom(16)) + message.payload

        lane.Lane.load = load  # type: ignore[method-assign]
        return numpy.ones(LENT, "u1")
