"""Calls a second by a brokered route, beside direct ones to the same plug-in."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator

from benchmarks import measure
from benchmarks.report import Settings
from mukernel import Interface, Kernel, Plugin, RestartPolicy, idempotent
from mukernel.servers.events import EventServer

CALLERS = (1, 64, 256)
DIRECT = "direct"
SYNCED, WRITTEN = "brokered, synced before it is run", "brokered, written, synced each 2 min"


class Direct(Interface):
    @idempotent
    async def direct(self, payload: bytes) -> bytes:
        raise NotImplementedError


class Synced(Interface):
    @idempotent
    async def synced(self, payload: bytes) -> bytes:
        raise NotImplementedError


class Written(Interface):
    @idempotent
    async def written(self, payload: bytes) -> bytes:
        raise NotImplementedError


class BrokeredEcho(Plugin, Direct, Synced, Written):
    """Answers with what it was sent, whichever way it came."""

    async def direct(self, payload: bytes) -> bytes:
        return payload

    async def synced(self, payload: bytes) -> bytes:
        return payload

    async def written(self, payload: bytes) -> bytes:
        return payload


@contextlib.asynccontextmanager
async def routes(folder: str) -> AsyncIterator[dict[str, measure.AsyncCall]]:
    """The plug-in, the event server and the brokers, each in a process."""
    async with Kernel() as kernel:
        # The loop stands still between slices: the kernel must not take that for its processes'.
        patient = RestartPolicy(hang=0)
        written = {"topics": ["calls.Written"], "retention": "workqueue", "fsync": "2m"}
        config = {"folder": folder, "calls": ["Synced", "Written"], "streams": {"calls-Written": written}}
        await kernel.load(EventServer, name="events", placement="process", config=config, restart=patient)
        await kernel.load(BrokeredEcho, name="echo", placement="process", restart=patient)
        await kernel.route(Synced, brokered=True)
        await kernel.route(Written, brokered=True)
        yield {
            DIRECT: kernel.get(Direct).direct,
            SYNCED: kernel.get(Synced).synced,
            WRITTEN: kernel.get(Written).written,
        }


def table(runner: asyncio.Runner, settings: Settings) -> measure.Table:
    """From the call to its result, 64 bytes each way, turn about."""
    with tempfile.TemporaryDirectory() as scratch, measure.hold(runner, routes(scratch)) as calls:
        subjects = [measure.AsyncSubject(name, call) for name, call in calls.items()]
        rates = measure.compare_throughput(runner, subjects, CALLERS, settings.seconds)
    return measure.throughput_table("Calls a second by a brokered route, answered", rates, DIRECT)
