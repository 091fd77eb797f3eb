"""Signals: how somebody who watches a demo ends it, in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALLED = 128  # plus the signal's number: the exit status of who was ended by one


class Signals:
    """Hears Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed, unless that is ignored, as under nohup.

    The first calls `end`, the second one does not wait for what that began: `at_once` is called, and nothing else, and
    the processes of plug-ins die with this one. SIGHUP is never a second one: of a terminal's end one may hear twice.
    `number`: of the first; None before.
    """

    def __init__(self, end: Callable[[], object], at_once: Callable[[], object]) -> None:
        self.end, self.at_once = end, at_once
        self.number: int | None = None

    def hear(self) -> None:
        """From now on, on the running loop."""
        for number in ENDING:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self.heard, number)

    def heard(self, number: int) -> None:
        if self.number is None:
            self.number = number
            self.end()
        elif number != signal.SIGHUP:
            try:
                self.at_once()
            finally:
                os._exit(SIGNALLED + number)
