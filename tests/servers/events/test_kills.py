"""kill -9 of the server, of members and of everything: what was acknowledged is there, in order, once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from events_collecting import Listening, take, until
from events_samples import Holder, Holding
from killing import kill

from mukernel import Kernel, RestartPolicy
from mukernel.servers.events import EventClient, Events, EventServer

PATIENT = RestartPolicy(intensity=1000, backoff=0.0)


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    async with Kernel() as running:
        yield running


@pytest.mark.parametrize("segment", ["16M", "4K"])
async def test_the_server_is_killed_again_and_again_under_load(
    kernel: Kernel, config: dict[str, Any], segment: str
) -> None:
    config["streams"]["orders"] |= {"segment": segment}
    await kernel.load(EventServer, name="events", placement="process", config=config, restart=PATIENT)
    client = EventClient(kernel.get(Events))
    published: dict[int, list[int]] = {publisher: [] for publisher in range(4)}
    stop = False

    async def publish(publisher: int) -> None:
        number = 0
        while not stop:
            done = await client.publish(f"orders.{publisher}", b"%d" % number)
            published[publisher].append(done.offset)
            number += 1

    def total() -> int:
        return sum(map(len, published.values()))

    async with (
        Listening(client, "orders.>", ack=True, group="g", start="first") as member,
        Listening(client, "orders.>", start="first") as alone,
    ):
        publishers = [asyncio.create_task(publish(publisher)) for publisher in published]
        for _ in range(20):
            before = total()
            await kill(kernel, "events")
            await until(lambda before=before: total() >= before + 20)  # type: ignore[misc]
        stop = True
        await asyncio.gather(*publishers)
        last = max(max(offsets) for offsets in published.values())
        await until(lambda: len(alone.events) >= last)
        await until(lambda: len({event.offset for event in member.events}) >= last)

        # In the log: each publish once, in its publisher's order, at the offset that it was told.
        assert [event.offset for event in alone.events] == list(range(1, last + 1))
        for publisher, offsets in published.items():
            mine = [event for event in alone.events if event.topic == f"orders.{publisher}"]
            assert [event.offset for event in mine] == offsets
            assert [int(event.body) for event in mine] == list(range(len(offsets)))
        figures = (await client.events.stats()).streams["orders"]
        assert (figures.last, figures.damaged) == (last, 0)
    # Nothing that was acknowledged comes again.
    await client.publish("orders.0", b"end")
    [event] = await take(client.subscribe("orders.>", group="g"), 1)
    assert event.body == b"end"


async def test_the_figures_of_a_group_are_right_after_a_kill_though_no_member_has_come(
    kernel: Kernel, config: dict[str, Any]
) -> None:
    await kernel.load(EventServer, name="events", placement="process", config=config, restart=PATIENT)
    client = EventClient(kernel.get(Events))
    for number in range(100):
        await client.publish(f"orders.{number % 2}", b"%d" % number)
    await take(client.subscribe("orders.>", group="all", start="first"), 50, ack=True)
    await take(client.subscribe("orders.1", group="odd", start="first"), 50, ack=True)
    await kill(kernel, "events")
    groups = (await client.events.stats()).streams["orders"].groups
    left = {name: (each.settled, each.outstanding + each.behind) for name, each in groups.items()}
    assert left == {"all": (50, 50), "odd": (100, 0)}


async def test_what_a_member_that_is_killed_had_goes_to_another_at_once(kernel: Kernel, config: dict[str, Any]) -> None:
    await kernel.load(EventServer, name="events", placement="process", config=config)
    client = EventClient(kernel.get(Events))
    for number in range(5):
        await client.publish("orders.new", b"%d" % number)
    await kernel.load(Holder, name="holder", placement="process", config={"group": "g"})
    holding = kernel.get(Holding)
    assert await holding.held(5) == [1, 2, 3, 4, 5]
    async with Listening(client, "orders.>", ack=True, group="g", ack_wait=3600) as other:
        assert other.events == []
        os.kill(await holding.pid(), signal.SIGKILL)
        await until(lambda: len(other.events) > 0)  # long before the ack wait is over
        assert all(event.delivery.deliveries == 2 for event in other.events)


APP = """
    import asyncio, sys
    from mukernel import Kernel
    from mukernel.servers.events import EventClient, Events, EventServer
    async def main():
        async with Kernel() as kernel:
            config = {{"folder": {folder!r}, "streams": {{"orders": {{"topics": ["orders.>"], "segment": "8K"}}}}}}
            await kernel.load(EventServer, name="events", placement="process", config=config)
            client = EventClient(kernel.get(Events))
            async def publish(publisher):
                number = 0
                while True:
                    done = await client.publish(f"orders.{{publisher}}", b"%d" % number)
                    print(publisher, number, done.offset, flush=True)
                    number += 1
            async def consume():
                async for event in client.subscribe("orders.>", group="g", start="first"):
                    print("delivered", event.offset, 0, flush=True)
                    await event.ack()
                    print("acknowledged", event.offset, 0, flush=True)
            await asyncio.gather(consume(), *(publish(publisher) for publisher in range(8)))
    asyncio.run(main())
"""


def test_everything_is_killed_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    script = tmp_path / "app.py"
    script.write_text(textwrap.dedent(APP.format(folder=str(folder))))
    told: dict[int, tuple[str, bytes]] = {}
    acknowledged: set[int] = set()
    delivered: set[int] = set()
    for round_number in range(5):
        application = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
        assert application.stdout is not None
        for _ in range(300 + 37 * round_number):
            note(application.stdout.readline(), told, delivered, acknowledged)
        application.send_signal(signal.SIGKILL)
        for line in application.stdout:  # what it had printed before
            note(line, told, delivered, acknowledged)
        application.wait()
        application.stdout.close()

    async def replay() -> None:
        async with Kernel() as kernel:
            streams = {"orders": {"topics": ["orders.>"]}}
            config = {"folder": str(folder), "streams": streams}
            await kernel.load(EventServer, name="events", placement="process", config=config)
            client = EventClient(kernel.get(Events))
            last = (await client.publish("orders.end", b"end")).offset
            events = await take(client.subscribe("orders.>", start="first"), last)
            assert [event.offset for event in events] == list(range(1, last + 1))
            found = {event.offset: (event.topic, event.body) for event in events}
            assert told and {offset: found[offset] for offset in told} == told
            again = []
            async for event in client.subscribe("orders.>", group="g"):
                again.append(event.offset)
                await event.ack()
                if event.offset == last:
                    break
            assert acknowledged and not acknowledged & set(again)
            assert delivered | set(again) == set(range(1, last + 1))

    asyncio.run(replay())


def note(line: str, told: dict[int, tuple[str, bytes]], delivered: set[int], acknowledged: set[int]) -> None:
    words = line.split()
    if not line.endswith("\n") or len(words) != 3:
        return
    if words[0] == "acknowledged":
        acknowledged.add(int(words[1]))
    elif words[0] == "delivered":
        delivered.add(int(words[1]))
    else:
        told[int(words[2])] = (f"orders.{words[0]}", words[1].encode())
