"""Client: how a command reaches the control interface of the application that is meant."""

from __future__ import annotations

import argparse
import asyncio
import os
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import msgspec

from ..contract import NotFound, Unavailable
from ..core.control import Control
from ..core.state_folder import find_running
from ..kernel.clock import Clock
from ..mesh.route import Route
from ..transports.calling import Caller
from ..transports.listening import connect

clock = Clock()


def add_options(parser: argparse.ArgumentParser, json: bool = True) -> None:
    """The options of every command that is a client."""
    parser.add_argument("--app", metavar="NAME", help="the application that is meant, where several are running")
    parser.add_argument("--state", metavar="DIR", help="its state folder, where `mukernel run` was given one")
    parser.add_argument("--verbose", action="store_true", help="show the other side's traceback with an error")
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


class Surroundings:
    """What a route needs of the process that it is in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def now_ns(self) -> int:
        return clock.now_ns()

    def connect_thread(self, route: Route, turn: int) -> NoReturn:
        raise Unavailable("a command has one thread")


@asynccontextmanager
async def connected(arguments: argparse.Namespace) -> AsyncIterator[Control]:
    """The control interface of the application that the options name. Raises NotFound or Unavailable."""
    folder = find_running(arguments.app, arguments.state, name_here())
    loop = asyncio.get_running_loop()
    greeting = msgspec.msgpack.encode(Control.__contract__.describe())
    try:
        wire = await connect(f"unix:{folder.socket}", greeting=greeting)
    except Unavailable as error:
        if "nobody listens" in str(error):  # it has the lock, and is not that far yet, or is ending
            raise Unavailable(
                f"the kernel {folder.pid() or ''} of {folder.path.name} does not answer: "
                "it is starting, or ending; try again"
            ) from None
        raise
    route = Route("control", Control, Surroundings(loop))
    route.use_remote([Caller(wire, loop, clock.now_ns)])
    wire.listen()
    control: Control = route.proxy()
    try:
        yield control
    finally:
        wire.close()


def with_control(work: Callable[[Control], Awaitable[int]], arguments: argparse.Namespace) -> int:
    """Run `work` with a connection; return its exit status."""

    async def run() -> int:
        async with connected(arguments) as control:
            return await work(control)

    return asyncio.run(run())


def name_here() -> str | None:
    """The name of the application whose app.toml lies in the working directory."""
    try:
        with open("app.toml", "rb") as file:
            name = tomllib.load(file).get("app", {}).get("name", os.path.basename(os.getcwd()))
    except (OSError, tomllib.TOMLDecodeError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def split_method(text: str) -> tuple[str, str]:
    """ "Greeter.greet" → ("Greeter", "greet"). Raises NotFound."""
    interface, dot, method = text.rpartition(".")
    if not dot or not interface or not method:
        raise NotFound(
            f"got {text!r}, wanted INTERFACE.METHOD such as Greeter.greet; `mukernel ps` lists the interfaces"
        )
    return interface, method
