"""A hostile plug-in that tries to have the kernel wait in the system, by the flags of what it shares with it."""

from __future__ import annotations

import gc
import mmap
import os
import signal
import stat
from collections.abc import Iterator

from mukernel import Interface, Plugin
from mukernel.core.host import Host

REPLIES_SLEEPING = 1280  # where in a channel's memory its caller says that it sleeps, and wants to be rung for


class Jamming(Interface, version="1.0"):
    """Jams what it has in common with the kernel."""

    async def jam(self) -> None: ...


class Answering(Interface, version="1.0"):
    """Served by the kernel's own process."""

    async def ping(self) -> int: ...


class Inline(Plugin, Answering):
    pings = 0

    async def ping(self) -> int:
        Inline.pings += 1
        return Inline.pings


class Jammer(Plugin, Jamming):
    def __init__(self, answering: Answering) -> None:
        self.answering = answering

    async def jam(self) -> None:
        """Make a call whose answer would have to be rung, where nothing that is rung has room, and hear no more."""
        await self.answering.ping()  # there is a channel from now on
        host = next(each for each in gc.get_objects() if isinstance(each, Host))
        jammed = [end for end in pipes() if is_jammed(end)]
        assert jammed, "it has nothing that it could fill"
        for route in host.space.routes.values():
            for caller in route.callers:
                if hasattr(caller.wire, "mapping"):
                    with mmap.mmap(caller.wire.mapping.fd, 4096) as memory:
                        memory[REPLIES_SLEEPING] = 1
        self.answering.ping().send(None)  # type: ignore[attr-defined]  # it is sent; nobody here waits for the answer
        while True:
            signal.pause()


def pipes() -> Iterator[int]:
    """The pipes that it has, but for those that it prints to."""
    for end in range(3, 256):
        try:
            if stat.S_ISFIFO(os.fstat(end).st_mode):
                yield end
        except OSError:
            continue


def is_jammed(end: int) -> bool:
    """Fill it, and let whoever writes to it wait for room. False for one that can't be written to."""
    os.set_blocking(end, False)
    try:
        while True:
            os.write(end, bytes(4096))
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.set_blocking(end, True)
