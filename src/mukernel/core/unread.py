"""Unread: what the kernel itself has answered in a mailbox that is gone, and its caller has not read yet."""

from __future__ import annotations

import asyncio

from ..kernel.ipc import Channel
from ..transports.contract import Wire

PERIOD = 0.02  # seconds between two looks whether there is room: nobody rings the bell of a mailbox that is gone


class Unread:
    """Receiving ends of channels that are nobody's any more. Each is kept until its caller has room for all that it is
    to be told, or has let go of the channel, or has died."""

    def __init__(self) -> None:
        self.ends: dict[int, tuple[str, Wire]] = {}  # by the number of the channel: whose it was
        self.look_again: asyncio.TimerHandle | None = None

    def keep(self, channel: Channel, wire: Wire) -> None:
        """Bring to its end what a wire, which is to be closed after it, has to say."""
        if wire.closed is None:
            self.ends[channel.number] = channel.caller, wire
            if self.look_again is None:
                self.look_again = asyncio.get_running_loop().call_later(PERIOD, self.look)

    def look(self) -> None:
        self.look_again = None
        for number, (_, wire) in list(self.ends.items()):
            try:
                wire.flush()
            except Exception as error:  # what one caller has made of a channel must not keep the others waiting
                wire.close(f"its caller could not be answered: {error}")
            if wire.closed is not None:
                self.ends.pop(number, None)
        if self.ends:
            self.look_again = asyncio.get_running_loop().call_later(PERIOD, self.look)

    def let_go(self, number: int, space: str | None) -> None:
        """The caller wants to hear no more of a channel. `space`: as for `Switchboard.disconnect`."""
        if number in self.ends and space in (None, self.ends[number][0]):
            self.ends.pop(number)[1].close()

    def space_died(self, space: str | None = None) -> None:
        """Nobody there reads anything any more. None: nobody at all."""
        for number, (caller, _) in list(self.ends.items()):
            if space in (None, caller):
                self.let_go(number, None)
        if self.look_again is not None and not self.ends:
            self.look_again.cancel()
            self.look_again = None
