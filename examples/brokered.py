"""A brokered route: calls wait on the disk for a plug-in that is not there, and are run when it is back."""

# mypy: disable-error-code="empty-body"
import asyncio
import logging
import os
import signal
import tempfile
from pathlib import Path

from mukernel import Interface, Kernel, Plugin, idempotent, oneway
from mukernel.servers.events import EventServer


class Parcels(Interface, version="1.0"):
    @oneway
    async def send(self, to: str) -> None: ...
    @idempotent
    async def sent(self) -> list[str]: ...


class Carrier(Plugin, Parcels):
    def __init__(self, *, book: str) -> None:
        self.book = book
        Path(book).touch()

    async def send(self, to: str) -> None:
        if to not in await self.sent():  # at least once means that it may come twice
            write(self.book, to)

    async def sent(self) -> list[str]:
        return read(self.book)


def read(book: str) -> list[str]:
    return Path(book).read_text().split()


def write(book: str, name: str) -> None:
    with open(book, "a") as file:
        file.write(f"{name}\n")


async def main(folder: str) -> None:
    async with Kernel() as kernel:
        events = {"folder": f"{folder}/events", "calls": ["Parcels"]}
        await kernel.load(EventServer, name="events", placement="process", config=events)
        carrier = {"book": f"{folder}/book"}
        await kernel.load(Carrier, name="carrier", placement="process", config=carrier)
        await kernel.route(Parcels, brokered=True)
        parcels = kernel.get(Parcels)  # what calls it is the same as ever
        await parcels.send("Ada")
        print("sent:", await parcels.sent())

        await kernel.unload("carrier")
        await parcels.send("Grace")  # returns when it is on the disk
        for place in list(kernel.places.values()):  # the event server, and the broker
            os.kill(place.pid, signal.SIGKILL)
        await parcels.send("Barbara")
        print("nobody is there to send them, and two processes were killed")

        await kernel.load(Carrier, name="carrier", placement="process", config=carrier)
        print("sent:", await parcels.sent())


if __name__ == "__main__":
    logging.getLogger("mukernel").setLevel(logging.CRITICAL)  # the kills are meant
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(scratch))
