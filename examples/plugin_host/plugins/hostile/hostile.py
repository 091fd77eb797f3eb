"""Wants the host's secrets, by every way that it can think of, and then takes its process with it."""

# mypy: disable-error-code="empty-body"
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from mukernel import Buffer, Interface, Plugin
from mukernel.servers.files import Files


class Documents(Interface, version="1.0"):
    """What the host calls, as this plug-in knows it."""

    async def process(self, name: str) -> list[str]: ...


class Hostile(Plugin, Documents):
    def __init__(self, files: Files, *, secret: str, neighbour: str, host: int) -> None:
        self.files, self.secret, self.neighbour, self.host = files, secret, neighbour, host
        self.said: list[str] = []

    async def process(self, name: str) -> list[str]:
        if self.said:  # the second time
            os.kill(os.getpid(), signal.SIGKILL)
        await self.attempt("open the file", here(lambda: Path(self.secret).read_text()))
        await self.attempt("ask the file server", lambda: self.files.read("/secrets/token"))
        await self.attempt("by a detour", lambda: self.files.read("/in/../secrets/token"))
        await self.attempt("write what it may read", lambda: self.files.write(f"/in/{name}", Buffer(b"mine")))
        await self.attempt("read the environment", here(lambda: os.environ["HOST_TOKEN"]))
        await self.attempt("read a neighbour's source", here(lambda: Path(self.neighbour).read_text()))
        await self.attempt("change what is installed", here(lambda: Path(__file__).write_text("mine")))
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
