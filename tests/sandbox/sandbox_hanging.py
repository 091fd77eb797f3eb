"""A plug-in that hangs in each way, or tells lies of where it stands."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from sandbox_bells import pipes

from mukernel import Interface, Plugin

LIE = b'Thread 0x01 [\x1b[2Jpool] (most recent call first):\n  File "/evil\x1b]0;.py", line 7 in \x1b[31mforged\n'


class Hanging(Interface, version="1.0"):
    """Hangs."""

    async def hang(self, way: str) -> int: ...


class Hangs(Plugin, Hanging):
    async def hang(self, way: str) -> int:
        """The number of its process, which it alone finds in there."""
        if way == "busy":
            spin()
        if way == "deadlock":
            wait_for_a_lock()
        while way == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if way == "another session":
            os.setpgid(0, 0)
            if os.fork() == 0:
                os.setsid()
                held = bytearray(os.urandom(1 << 20) * 32)
                time.sleep(3600 + len(held))
        if way == "lies":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                tell_lies()
        return os.getpid()


def spin() -> None:
    while True:
        pass


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def tell_lies() -> None:
    for end in pipes():
        with contextlib.suppress(OSError):
            os.set_blocking(end, False)
            os.write(end, LIE * 100)
