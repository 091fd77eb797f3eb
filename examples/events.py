"""Events: orders are kept on the disk and shared by a group; a server that is killed loses none of them."""

import asyncio
import logging
import os
import signal
import tempfile
from dataclasses import dataclass

from mukernel import Kernel
from mukernel.servers.events import EventClient, Events, EventServer, Topic


@dataclass
class Order:
    article: str
    pieces: int


async def main(folder: str) -> None:
    async with Kernel() as kernel:
        config = {"folder": folder, "streams": {"orders": {"topics": ["orders.>"], "max_age": "7d"}}}
        await kernel.load(EventServer, name="events", placement="process", config=config)
        events = EventClient(kernel.get(Events))
        orders = Topic(events, "orders.created", Order)

        published = await orders.publish(Order("tea", 3))  # returns when the disk has it
        print(f"published at offset {published.offset} of stream {published.stream}")

        place = next(iter(kernel.places.values()))
        os.kill(place.pid, signal.SIGKILL)
        published = await orders.publish(Order("milk", 1))
        print(f"the server was killed; the next order has offset {published.offset}")

        async for event in orders.subscribe(group="billing", start="first"):
            print(f"billing: {event.body}, delivery {event.delivery.deliveries}")
            if event.body.article == "tea" and event.delivery.deliveries == 1:
                await event.nak()  # not yet: it comes again
            else:
                await event.ack()
                if event.delivery.deliveries == 2:
                    break

        replayed = []
        async for order in orders.subscribe(start="first"):  # no group: everything, in order
            replayed.append(f"{order.offset} {order.body.article}")
            if len(replayed) == 2:
                break
        print("replayed:", ", ".join(replayed))

        async for letter in events.subscribe("orders.>", group="poison", start="first"):
            await letter.term("nobody can do this")
            break
        async for letter in events.subscribe("dead-letters.orders.*", start="first"):
            print(f"dead letter: {letter.headers['Mukernel-Topic']}, {letter.headers['Mukernel-Reason']}")
            break


if __name__ == "__main__":
    logging.getLogger("mukernel").setLevel(logging.CRITICAL)  # the kill is meant
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(scratch))
