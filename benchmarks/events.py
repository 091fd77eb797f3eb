"""Events a second through the event server, beside a NATS server with JetStream: plain, and kept on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import brokered, measure
from benchmarks.peers import nats_server
from benchmarks.report import Part, Settings
from mukernel import Kernel, RestartPolicy
from mukernel.servers.events import EventClient, Events, EventServer

PUBLISHERS = (1, 64, 256)
PLAIN, SYNCED, WRITTEN = (
    "EventServer",
    "EventServer, synced before each reply",
    "EventServer, written, synced each 2 min",
)
NATS, JETSTREAM = "NATS", "JetStream, written, synced each 2 min"


class Receipts:
    """Publishes numbered events and waits until each has come back to a subscriber of this process."""

    def __init__(self, publish: Callable[[bytes], Awaitable[object]]) -> None:
        self.publish, self.numbers = publish, itertools.count()
        self.waiting: dict[bytes, asyncio.Future[None]] = {}

    async def call(self, payload: bytes) -> None:
        number = next(self.numbers).to_bytes(8, "little")
        arrived = self.waiting[number] = asyncio.get_running_loop().create_future()
        await self.publish(number + payload[8:])
        await arrived

    def received(self, body: bytes) -> None:
        waiter = self.waiting.pop(body[:8], None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


@contextlib.asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[tuple[Receipts, dict[str, measure.AsyncCall]]]:
    """The event server in a process, and a subscriber to its plain topic."""
    async with Kernel() as kernel:
        streams = {"synced": {"topics": ["synced"]}, "written": {"topics": ["written"], "fsync": "2m"}}
        config = {"folder": str(folder), "streams": streams}
        # The loop stands still between slices: the kernel must not take that for its process's.
        patient = RestartPolicy(hang=0)
        await kernel.load(EventServer, name="events", placement="process", config=config, restart=patient)
        client = EventClient(kernel.get(Events))
        receipts, ready = Receipts(partial(client.publish, "plain")), asyncio.Event()

        async def receive() -> None:
            async for event in client.subscribe("plain", prefetch=1000, ready=ready):
                receipts.received(event.body)

        receiving = asyncio.create_task(receive())
        await ready.wait()
        yield receipts, {SYNCED: partial(client.publish, "synced"), WRITTEN: partial(client.publish, "written")}
        receiving.cancel()
        await asyncio.wait([receiving])


@contextlib.asynccontextmanager
async def theirs(folder: Path) -> AsyncIterator[tuple[Receipts, dict[str, measure.AsyncCall]]]:
    """The same over NATS."""
    async with nats_server.connected(folder) as connection:
        receipts = Receipts(partial(connection.publish, "plain"))

        async def received(message: Any) -> None:
            receipts.received(message.data)

        await connection.subscribe("plain", cb=received)
        await connection.flush()
        stream = connection.jetstream()
        await stream.add_stream(name="written", subjects=["written"])
        yield receipts, {JETSTREAM: partial(stream.publish, "written")}


def run(settings: Settings) -> Part:
    """Publish to receipt on a plain topic; publish to acknowledgement on durable ones."""
    missing = nats_server.missing()
    if missing:
        print(f"events: measured without its peer: {missing}", file=sys.stderr)
    part = Part()
    with tempfile.TemporaryDirectory() as scratch, asyncio.Runner() as runner, contextlib.ExitStack() as held:
        receipts, durable = held.enter_context(measure.hold(runner, ours(Path(scratch, "ours"))))
        plain = [measure.AsyncSubject(PLAIN, receipts.call)]
        if not missing:
            peer, more = held.enter_context(measure.hold(runner, theirs(Path(scratch, "theirs"))))
            plain.append(measure.AsyncSubject(NATS, peer.call))
            durable |= more
        kept = [measure.AsyncSubject(name, call) for name, call in durable.items()]
        plain_rates = measure.compare_throughput(runner, plain, PUBLISHERS, settings.seconds)
        kept_rates = measure.compare_throughput(runner, kept, PUBLISHERS, settings.seconds)
    about = "" if missing else f" (nats-server {nats_server.version()})"
    part.tables = [
        measure.throughput_table(f"Plain events a second, publish to receipt{about}", plain_rates, plain[-1].name),
        measure.throughput_table(f"Durable events a second, acknowledged{about}", kept_rates, kept[-1].name),
    ]
    with asyncio.Runner() as runner:
        part.tables.append(brokered.table(runner, settings))
    return part
