"""A process that dies between what it has put into a ring and the bell of who sleeps there: its successor rings."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading

import pytest

from mukernel import Interface, Kernel, Plugin, RestartPolicy, priority
from mukernel.kernel import ipc

SLEEPING = 512 + 512 + 256  # where a channel has the field `sleeping` of the direction to its caller


class LastWords(Interface, version="1.0"):
    async def said(self) -> str: ...


class DiesBeforeItRings(Plugin, LastWords):
    """Its reply is in the ring, and takes the caller's wish to be woken; nobody hears that bell; and it dies."""

    async def said(self) -> str:
        from mukernel.transports.ring import ServerRingWire

        wires = [each for each in gc.get_objects() if isinstance(each, ServerRingWire)]
        while not any(any(os.pread(wire.mapping.fd, 4, SLEEPING)) for wire in wires):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        _, deaf = os.pipe()
        for wire in wires:
            os.dup2(deaf, wire.peer_bell)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)
        return "said"


@pytest.mark.skipif(ipc.ring is None, reason="of what comes by a socket the system tells, whoever has died")
@pytest.mark.parametrize("restarts", [0, 10])
async def test_a_thread_hears_of_a_reply_whose_server_died_before_it_rang(kernel: Kernel, restarts: int) -> None:
    """Who is started again wakes it, or the kernel, where that is nobody."""
    await kernel.load(DiesBeforeItRings, placement="process", restart=RestartPolicy(intensity=restarts, backoff=0.0))
    words, loop = kernel.get(LastWords, blocking=True), asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def ask() -> None:
        with priority(1):  # a call without one wakes once by itself, after a moment
            loop.call_soon_threadsafe(told.set_result, words.said())

    threading.Thread(target=ask, daemon=True).start()  # which may be left behind, asleep
    async with asyncio.timeout(60):
        assert await told == "said"
