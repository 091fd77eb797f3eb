"""Client: how a command reaches the control interface of the application that is meant."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import NoReturn, TypeVar

import msgspec

from ..contract import ContractError, MukernelError, NotFound, Unavailable
from ..core.control import Control
from ..core.quantity import duration
from ..core.state_folder import StateFolder, find_running, placed, running_applications
from ..core.toml_file import application_name, default_name, read_toml
from ..kernel.clock import Clock
from ..mesh.route import Route
from ..transports.calling import Caller
from ..transports.listening import connect
from ..transports.socket import SocketWire
from .silence import report_silence, silence
from .terminal import Terminal, UsageError, as_json

Answer = TypeVar("Answer")
clock = Clock()
PATIENCE = 5.0  # seconds that a kernel has for its first answer


class Surroundings:
    """What a route needs of the process that it is in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def now_ns(self) -> int:
        return clock.now_ns()

    def connect_thread(self, route: Route, turn: int) -> NoReturn:
        raise Unavailable("a command has one thread")

    begin_connecting = connect_thread

    async def revive(self, route: Route) -> None:
        raise Unavailable("a command's one route is used throughout")

    def revive_now(self, route: Route) -> None:
        raise Unavailable("a command's one route is used throughout")


@asynccontextmanager
async def connected(arguments: argparse.Namespace) -> AsyncIterator[Control]:
    """The control interface of the application that is meant, which has answered once.

    Raises NotFound, Unavailable, ContractError as `meant`, and UsageError for a wrong --timeout.
    """
    seconds = patience(arguments)
    folder = meant(arguments)
    with ExitStack() as stack:
        try:
            async with asyncio.timeout(seconds):
                wire = await greeted(folder, seconds)
                stack.callback(wire.close)
                control = control_of(wire)
                await control.about()  # the cheapest question: what comes after may take long, this not
        except TimeoutError:
            raise Unavailable(silence(folder, seconds)) from None
        watching = asyncio.create_task(report_silence(control, folder, seconds, clock, Terminal(sys.stderr)))
        stack.callback(watching.cancel)
        try:
            yield control
        except MukernelError:
            if wire.closed is None:
                raise
            raise Unavailable(gone(folder)) from None


def meant(arguments: argparse.Namespace) -> StateFolder:
    """The application that the options name, else the one whose app.toml lies here, else the only one that runs.

    Never another in place of the one here: raises NotFound where that does not run, or one of its name that was started
    from another file, and ContractError where its file can't be read. A command that changes something says to people
    which it took by itself; `stop --all` takes none so.
    """
    named = arguments.app is not None or arguments.state is not None
    here = None if named else name_here()
    folder = find_running(arguments.app, arguments.state, here, alone=not getattr(arguments, "all", False))
    if here is not None:
        check_started_here(folder, here)
    terminal = Terminal(sys.stderr)
    if terminal.is_terminal and getattr(arguments, "changes", False) and not named and here is None:
        terminal.say(f"note: in {folder.path.name}, the only application that is running")
    return folder


def check_started_here(folder: StateFolder, name: str) -> None:
    """Raises NotFound where the application that runs under a name is not that of the app.toml here."""
    owner, file = folder.owner(), placed("app.toml")
    if owner is not None and owner[1] != file:
        raise NotFound(
            f"the {name} of {file} is not running: the one that runs was started from {owner[1] or 'no app.toml'}; "
            f"--app {name} reaches that; give one of them another name (`name` in [app]) to run both"
        )


def gone(folder: StateFolder) -> str:
    return f"the application {folder.path.name} has gone: its kernel has ended, or was killed"


async def greeted(folder: StateFolder, seconds: float) -> SocketWire:
    """A connection to the kernel in `folder`. Raises Unavailable."""
    greeting = msgspec.msgpack.encode(Control.__contract__.describe())
    try:  # its own time limit lies behind our caller's, which knows better what to say
        return await connect(f"unix:{folder.socket}", greeting=greeting, timeout=2 * seconds)
    except Unavailable as error:
        if "nobody listens" in str(error):  # it has the lock, and is not that far yet, or is ending
            pid = folder.pid()  # None: it has let go of its lock meanwhile
            kernel = "the kernel" if pid is None else f"the kernel {pid}"
            raise Unavailable(
                f"{kernel} of {folder.path.name} does not answer: it is starting, or ending; try again"
            ) from None
        raise


def control_of(wire: SocketWire) -> Control:
    """A proxy for the control interface at the other end of `wire`."""
    loop = asyncio.get_running_loop()
    route = Route("control", Control, Surroundings(loop))
    route.use_remote([Caller(wire, loop, clock.now_ns)])
    wire.listen()
    control: Control = route.proxy()
    return control


def patience(arguments: argparse.Namespace) -> float:
    """--timeout in seconds. Raises UsageError."""
    if arguments.timeout is None:
        return PATIENCE
    try:
        seconds = duration(arguments.timeout)
        if seconds <= 0:
            raise ValueError("a time above 0")
    except ValueError as wanted:
        raise UsageError(f"--timeout: got {arguments.timeout!r}, wanted {wanted}") from None
    return seconds


def with_control(work: Callable[[Control], Awaitable[int]], arguments: argparse.Namespace) -> int:
    """Run `work` with a connection; return its exit status."""

    async def run() -> int:
        async with connected(arguments) as control:
            return await work(control)

    return asyncio.run(run())


def shown(
    arguments: argparse.Namespace,
    ask: Callable[[Control], Awaitable[Answer]],
    lines: Callable[[Answer, Terminal], Iterable[str]],
) -> int:
    """Ask the kernel, and show its answer: as it is with --json, else by `lines`; return the exit status."""

    async def show(control: Control) -> int:
        answer = await ask(control)
        terminal = Terminal()
        for line in [as_json(answer)] if arguments.json else lines(answer, terminal):
            terminal.say(line)
        return 0

    return with_control(show, arguments)


def name_here() -> str | None:
    """The name of the application whose app.toml lies in the working directory; None where none lies there. Raises
    ContractError for one that can't be read."""
    if not os.path.lexists("app.toml"):
        return None
    try:
        app = read_toml("app.toml").get("app", {})
        if not isinstance(app, dict):
            raise ContractError(f"app.toml: app: got {app!r}, wanted a table")
        name = app.get("name", default_name(os.getcwd()))
        try:
            return application_name(name)
        except ValueError as wanted:
            raise ContractError(f"app.toml: app.name: got {name!r}, wanted {wanted}") from None
    except MukernelError as error:
        running = ", ".join(running_applications()) or "none"
        raise ContractError(
            f"which application is meant? {error}; mend that file, or say which with --app NAME; running: {running}"
        ) from None


def split_method(text: str) -> tuple[str, str]:
    """ "Greeter.greet" → ("Greeter", "greet"). Raises NotFound."""
    interface, dot, method = text.rpartition(".")
    if not dot or not interface or not method:
        raise NotFound(
            f"got {text!r}, wanted INTERFACE.METHOD such as Greeter.greet; `mukernel tree` lists the interfaces, "
            "`mukernel describe NAME` the methods of a plug-in"
        )
    return interface, method
