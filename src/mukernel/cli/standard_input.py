"""Standard input for an event loop: read by threads that nobody waits for when the command ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator

from .terminal import UsageError

BLOCK = 1 << 16  # bytes of one look


async def lines() -> AsyncIterator[bytes]:
    """The lines of standard input, without their ends, as they come. Raises UsageError where it is closed or can't be
    read."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # AttributeError: None, as it was closed when Python began
        raise UsageError("standard input is closed, wanted the method's items from it, one a line") from None
    rest = b""
    while block := await read(descriptor):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest.removesuffix(b"\r")


async def read(descriptor: int) -> bytes:
    """What there is to read next; nothing at the end.

    A daemon thread for each look, since no file but a pipe or terminal can be waited for by the loop, and the loop's
    own threads are waited for at the end: Ctrl-C would have to wait for Enter. It goes past the buffer of `sys.stdin`,
    whose lock Python itself takes at the end.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bytes | OSError] = loop.create_future()

    def settle(result: bytes | OSError) -> None:
        if not came.done():
            came.set_result(result)

    def look() -> None:
        result: bytes | OSError
        try:
            result = os.read(descriptor, BLOCK)
        except OSError as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=look, daemon=True).start()
    result = await came
    if isinstance(result, OSError):
        raise UsageError(f"standard input can't be read: {result.strerror}")
    return result
