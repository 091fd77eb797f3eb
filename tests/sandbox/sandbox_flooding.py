"""A hostile plug-in that speaks to the kernel by itself, over the link of its process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import select
import socket

import msgspec

from mukernel import Interface, Plugin
from mukernel.core import messages
from mukernel.core.conversation import Conversation
from mukernel.core.messages import Envelope
from mukernel.transports.link import SEALS, in_memory


class Flooding(Interface, version="1.0"):
    """Floods the kernel."""

    async def nest(self) -> None: ...
    async def hollow(self, size: int) -> None: ...
    async def step(self, count: int) -> None: ...
    async def connect(self, count: int, documentation: int = 0, version: str = "") -> str: ...
    async def at_length(self, size: int) -> None: ...


class Neighbour(Interface, version="1.0"):
    """Is there."""

    async def there(self) -> bool: ...


class Beside(Plugin, Neighbour):
    async def there(self) -> bool:
        return True


def conversation() -> Conversation:
    return next(each for each in gc.get_objects() if isinstance(each, Conversation))


class Flooder(Plugin, Flooding):
    async def nest(self) -> None:
        """A message that is nested too deep, with as many descriptors as travel at once."""
        deep = b"\x93\x00\xc2\x82\xa4type\xa4Done\xa1x" + b"\x91" * 100_000 + b"\xc0"
        reader = os.open("/dev/null", os.O_RDONLY)
        for _ in range(20):
            try:
                socket.send_fds(conversation().link.socket, [b"\x00" + deep], [reader] * 100)
            except OSError:  # no room, or too many descriptors of this user are on their way
                await asyncio.sleep(0.01)

    async def hollow(self, size: int) -> None:
        """A state that takes up nothing here, and would take up `size` bytes where it is read."""
        memory = os.memfd_create("hollow", os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, size)
        os.pwrite(memory, messages.encode(Envelope(0, False, messages.Checkpoint("flooder#0.1", b"", 1))), 0)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        socket.send_fds(conversation().link.socket, [b"\x01"], [memory])

    async def step(self, count: int) -> None:
        """What instances that there are not are doing, and at length what this one is."""
        link = conversation()
        for number in range(count):
            link.tell(messages.Step(f"{number}" + "k" * 1000, "x"))
        await link.ask(messages.Step("flooder#0.1", "\x1b[2J" + "long " * 1000))

    async def connect(self, count: int, documentation: int = 0, version: str = "") -> str:
        """Channels that are not let go of, each asked for with so many characters of documentation, and as if it was
        for another version of the interface."""
        for number in range(count):
            try:
                interface = msgspec.structs.replace(
                    Neighbour.__contract__.describe(), documentation=f"{number}" + "x" * documentation
                )
                if version:
                    interface = msgspec.structs.replace(interface, hash=version)
                asked = messages.Connect(interface, None, "flooder")
                reader, bell = os.pipe()
                _, rights = await conversation().ask(asked, [bell])
                for right in [*rights, reader, bell]:
                    os.close(right)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        return "all"

    async def at_length(self, size: int) -> None:
        """The same state again and again, which costs its sender nothing but a descriptor: it never ends by itself."""
        told = in_memory(messages.encode(Envelope(0, False, messages.Checkpoint("flooder#0.1", bytes(size), 1))))
        link = conversation().link.socket
        while True:
            select.select([], [link], [])
            with contextlib.suppress(OSError):  # no room, or too many descriptors of this user are on their way
                socket.send_fds(link, [b"\x01"], [told])
