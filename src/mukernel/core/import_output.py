"""What is printed as plug-ins are imported to be looked at: it is a stranger's, and is shown as such."""

from __future__ import annotations

import asyncio
import logging
import os

from .stack import printable

log = logging.getLogger("mukernel")
CHUNK = 1 << 16  # bytes
MOST = 4_000  # bytes of what one process prints that are shown


class ImportOutput:
    """A pipe whose lines are logged as they come, under a name, and without what a terminal would obey; of what comes
    after MOST bytes nothing is. `end`: for the process that prints; to be closed here when it has that."""

    def __init__(self, loop: asyncio.AbstractEventLoop, who: str) -> None:
        self.loop, self.who = loop, who
        self.begun, self.left = b"", MOST  # begun: a line that has not ended yet
        self.pipe, self.end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.pipe, False)
        loop.add_reader(self.pipe, self.take)

    def take(self) -> bool:
        """A chunk, if there is one."""
        try:
            data = os.read(self.pipe, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.loop.remove_reader(self.pipe)
            return False
        if self.left > 0:
            *lines, self.begun = (self.begun + data[: self.left]).split(b"\n")
            self.left -= len(data)
            for line in lines:
                self.show(line)
            if self.left <= 0:
                self.show(self.begun + b" (the rest is left out)")
                self.begun = b""
        return True

    def show(self, line: bytes) -> None:
        text = printable(line.decode(errors="replace"))
        log.warning("%s, as it is imported: %s", self.who, text)

    def close(self) -> None:
        """Its process has ended: what that has printed last is taken. Others that it has started are not waited for."""
        for _ in range(MOST):
            if not self.take():
                break
        if self.begun:
            self.show(self.begun)
        self.loop.remove_reader(self.pipe)
        os.close(self.pipe)
        if self.end >= 0:
            os.close(self.end)

    def handed_over(self) -> None:
        """The process that prints has begun, and has its end."""
        os.close(self.end)
        self.end = -1
