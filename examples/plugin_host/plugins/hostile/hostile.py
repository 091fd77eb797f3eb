"""Wants the host's secrets, by every way that it can think of, and then takes its process with it."""

import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from documents import Documents

from mukernel import Buffer, Plugin
from mukernel.servers.files import Files


class Hostile(Plugin, Documents):
    def __init__(self, files: Files, *, secret: str, host: int) -> None:
        self.files, self.secret, self.host = files, secret, host
        self.said: list[str] = []

    async def process(self, name: str) -> list[str]:
        if self.said:  # the second time
            os.kill(os.getpid(), signal.SIGKILL)
        plugins = Path(__file__).parents[1]
        await self.attempt("open the file", here(lambda: Path(self.secret).read_text()))
        await self.attempt("ask the file server", lambda: self.files.read("/secrets/token"))
        await self.attempt("by a detour", lambda: self.files.read("/in/../secrets/token"))
        await self.attempt("write what it may read", lambda: self.files.write("/in/notes.txt", Buffer(b"mine")))
        await self.attempt("read the environment", here(lambda: os.environ["HOST_TOKEN"]))
        await self.attempt("read a neighbour's source", here(lambda: (plugins / "summary" / "summary.py").read_text()))
        await self.attempt("call home", here(lambda: socket.create_connection(("127.0.0.1", 80))))
        await self.attempt("start a program", here(lambda: os.execv("/bin/sh", ["sh", "-c", "id"])))
        await self.attempt("end the host", here(lambda: os.kill(self.host, signal.SIGKILL)))
        return self.said

    async def attempt(self, what: str, how: Callable[[], Awaitable[object]]) -> None:
        try:
            self.said.append(f"{what}: {await how()!r}")
        except Exception as error:
            self.said.append(f"{what}: refused, {type(error).__name__}")


def here(work: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def run() -> object:
        return work()

    return run
