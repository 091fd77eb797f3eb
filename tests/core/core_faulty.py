"""Plug-ins that go wrong, each in its own way; all of them stand for a Counter."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import mmap
import os
import resource
import signal
import subprocess
import threading
from collections.abc import AsyncIterator

from core_samples import Counter, Tally, blow

from mukernel import Interface, Plugin
from mukernel.core.host import Host
from mukernel.transports.kind import Kind


class RaisesInConstructor(Tally):
    def __init__(self) -> None:
        raise OSError("no such disk")


class RaisesInStart(Tally):
    async def start(self) -> None:
        raise ConnectionError("the database does not answer")


class StartIsAGenerator(Tally):
    async def start(self) -> AsyncIterator[None]:
        yield


class RaisesInHealth(Tally):
    def health(self) -> None:
        raise ValueError("the index is empty")


class RaisesInRestore(Tally):
    def restore(self, state: int) -> None:
        raise KeyError("total")


class RaisesInSave(Tally):
    def save(self) -> int:
        raise RuntimeError("state is torn")


class SavesWhatCannotTravel(Tally):
    def save(self) -> int:
        return object()  # type: ignore[return-value]


class RaisesInStop(Tally):
    def stop(self) -> None:
        raise RuntimeError("could not flush")


class OtherState(Tally):
    """Reads a state of another type."""

    def restore(self, state: dict[str, str]) -> None:  # type: ignore[override]
        raise AssertionError("not reached")


class DiesInConstructor(Tally):
    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DiesInStart(Tally):
    async def start(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DiesInRestore(Tally):
    def restore(self, state: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DiesInSave(Tally):
    def save(self) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


class WaitsInStart(Tally):
    """Tells that it starts, and then waits for ever."""

    def __init__(self, *, whistle: str) -> None:
        super().__init__()
        self.whistle = whistle

    async def start(self) -> None:
        blow(self.whistle, "starting")
        await asyncio.get_running_loop().create_future()


class Hangs(Tally):
    """`add(0)` keeps its event loop for ever; `add(-1)` does with the GIL held, `add(-2)` waits for a lock that nobody
    frees, `add(-3)` stops its process, `add(-4)` lets nobody ask where it is, `add(-5)` is in C with the GIL held."""

    async def add(self, amount: int) -> int:
        while amount == 0:  # every signal ends it
            signal.pause()
        while amount == -1:
            pass
        if amount == -2:
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        while amount == -3:
            os.kill(os.getpid(), signal.SIGSTOP)
        if amount == -4:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                signal.pause()
        if amount == -5:
            sum(itertools.repeat(0))
        return await super().add(amount)


class BlocksLoop(Tally):
    """`add(0)` blocks its thread until the log has had something to say."""

    async def add(self, amount: int) -> int:
        spoken = threading.Event()
        handler = logging.Handler()
        handler.emit = lambda record: spoken.set()  # type: ignore[method-assign]
        logging.getLogger("mukernel").addHandler(handler)
        spoken.wait()
        logging.getLogger("mukernel").removeHandler(handler)
        return amount


class DiesAtOnce(Tally):
    """Serves until `add(0)`, which ends its process; each new one dies in its constructor while FILE exists."""

    def __init__(self, *, file: str = "") -> None:
        super().__init__()
        if file and os.path.exists(file):
            os._exit(3)

    async def add(self, amount: int) -> int:
        if amount == 0:
            os._exit(3)
        return await super().add(amount)


class WrongResults(Tally):
    async def add(self, amount: int) -> int:
        return "many"  # type: ignore[return-value]

    async def value(self) -> int:
        return object()  # type: ignore[return-value]

    async def numbers(self, upto: int) -> AsyncIterator[int]:
        yield 0
        yield "one"  # type: ignore[misc]


class NoCounter(Plugin, Interface):
    """A plug-in that serves nothing."""


class HalfCounter(Plugin, Counter):
    """Implements one method of many, and that one wrongly."""

    async def add(self, amount: str) -> int:  # type: ignore[override]
        return 0


class Narrower(Interface, version="2.0", name="Counter"):
    """A Counter that lost its methods."""

    async def add(self, amount: int, unit: str) -> int: ...


class NarrowTally(Plugin, Narrower):
    async def add(self, amount: int, unit: str) -> int:
        return amount


class Vandal(Tally):
    """By the objects of its own process `add(0)` writes garbage into its callers' rings, `add(-1)` floods them.

    `add(-2)` sends them a reply whose body is said to lie outside of everything.
    """

    async def add(self, amount: int) -> int:
        if amount > 0:
            return await super().add(amount)
        host = next(each for each in gc.get_objects() if isinstance(each, Host))
        wires = [wire for instance in host.space.instances.values() for wire in instance.wires.values()]
        for wire in wires:
            if amount == 0:
                memory = wire.mapping.fd  # type: ignore[attr-defined]
                spoil(memory)
                os.write(wire.peer_bell, b"!")  # type: ignore[attr-defined]
            elif amount == -2:
                wire.send(Kind.REPLY, 1 << 40, b"\xff" * 16, 0, 0, 0, 0, 0, 0x80, None)
            else:
                for _ in range(200_000):
                    if not wire.send(Kind.ITEM, 1 << 40, b"x" * 100):
                        break
        if amount != -1:
            await asyncio.get_running_loop().create_future()
        return amount


class Scribbler(Tally):
    """`add(0)` overwrites what lies first in the memory of every channel of its process; then the process ends.

    `add(-1)` lets it open no file descriptor more.
    """

    async def add(self, amount: int) -> int:
        if amount == 0:
            for name in os.listdir("/proc/self/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:mukernel-"):
                        os.pwrite(int(name), b"\0" * 16, 0)
            os._exit(1)
        if amount == -1:
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, lowest))
        return await super().add(amount)


def spoil(channel: int) -> None:
    """Overwrite the indices of both rings of a channel, and the records in them."""
    with mmap.mmap(channel, 1 << 19) as memory:
        memory[512:1536] = b"\xa5" * 1024
        memory[1 << 18 : 1 << 19] = b"\x5a" * (1 << 18)


class Cancelling(Interface):
    """Awaits what it has cancelled."""

    async def once(self) -> int: ...
    def items(self) -> AsyncIterator[int]: ...


class Cancels(Plugin, Cancelling):
    async def once(self) -> int:
        cancelled: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        return await cancelled

    async def items(self) -> AsyncIterator[int]:
        yield 1
        yield await self.once()


class Parenting(Interface):
    async def child(self) -> int: ...


class Parent(Plugin, Parenting):
    """Has a child that leaves its session, and does not end it."""

    def __init__(self) -> None:
        self.started = subprocess.Popen(["sleep", "infinity"], start_new_session=True)

    async def child(self) -> int:
        return self.started.pid
