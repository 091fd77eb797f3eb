"""`mukernel run`: run an application until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from logging.handlers import RotatingFileHandler
from typing import TypeVar

from ..contract import Unavailable
from ..core.application import Application, read_application
from ..core.application_environments import installer_for
from ..core.application_file import PluginTable
from ..core.control_server import ControlServer, ControlSocket
from ..core.journal import Happening
from ..core.kernel import Kernel
from ..core.quantity import duration_text
from ..core.registry import DEFAULT_LOG
from ..core.state_folder import StateFolder, state_folder
from .options import add_file
from .terminal import Terminal, harmless
from .watch import Watch

DESCRIPTION = """\
Run the application of an application file: every plug-in where the file places it, each after those that it
needs. The other commands reach it by a Unix socket in its state folder, which only you can enter. Ctrl-C,
SIGTERM, or the end of its terminal (SIGHUP; not under nohup) ends it, in order; a second Ctrl-C or SIGTERM at
once. What plug-ins want installed is installed first, as by `mukernel install`, but for what has failed before."""
EXAMPLES = """\
examples:
  mukernel run                        the app.toml here
  mukernel run shop/app.toml --watch  swap plug-ins whose source changes
  mukernel ps                         from another terminal"""
T = TypeVar("T")
PATIENCE = 5.0  # seconds after which it is said which plug-in is waited for
FORCED = 128  # plus the signal's number: the exit status of who did not wait for the end
BAD = ("crash", "given up", "rolled back", "hang", "standstill", "restart failed")  # events that are shown in red


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_file(parser)
    parser.add_argument("--watch", action="store_true", help="swap a plug-in when its source changes")
    parser.add_argument("--state", metavar="DIR", help="keep socket and logs here (default: by the application's name)")
    parser.add_argument("--verbose", action="store_true", help="show a plug-in's traceback when it can't be started")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.watch:
        # A change within one second of another would go unseen by the times that compiled modules carry.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return asyncio.run(serve(arguments))


async def serve(arguments: argparse.Namespace) -> int:
    terminal = Terminal()
    ending = asyncio.Event()
    end_on_signals(ending, terminal)

    def say(name: str, text: str) -> None:
        terminal.say_if_heard(f"  {terminal.paint(name, 'bold')}   {text}")

    application = await unless(ending, read_application(arguments.file, arguments.state, say))
    if application is None:
        return 0
    name = application.file.name
    state = StateFolder(arguments.state) if arguments.state else state_folder(name)
    try:
        state.claim(arguments.file)
    except Unavailable as error:
        raise Unavailable(f"{name} can't be run: {error}") from None
    try:
        log_to(os.path.join(state.logs, "kernel.log"))
        installer = installer_for(application.file, arguments.state)
        async with Kernel(name, log_folder=state.logs, installer=installer) as kernel:
            await run_in(kernel, application, state, ending, terminal, arguments.watch)
    finally:
        state.release()
    terminal.say_if_heard(f"{name} has ended")
    return 0


async def run_in(
    kernel: Kernel,
    application: Application,
    state: StateFolder,
    ending: asyncio.Event,
    terminal: Terminal,
    watch: bool,
) -> None:
    """Start everything in `kernel`, serve the control interface, and return when it is time to end."""
    file = application.file
    control = ControlServer(kernel, file.folder, ending.set)
    control.status.calls = application.composition.servers
    control.settings = {name: seen.settings for name, seen in application.inspected.items()}
    control.to_come = list(application.order)
    control.uses = {name: table.use for name, table in file.plugins.items()}
    watched = Watch(kernel.clock, application, control, terminal) if watch else None
    socket = ControlSocket(control, state.socket)
    await socket.open()
    try:

        def loaded(table: PluginTable) -> None:
            control.to_come.remove(table.name)
            entry = kernel.registry.entry(table.name)
            pids = {r.instance.place.pid for r in entry.replicas if r.instance is not None}
            where = (
                f"{table.placement} ({', '.join(map(str, sorted(pids)))})" if table.placement != "inline" else "inline"
            )
            serves = ", ".join(f"{each.name} {each.version}" for each in entry.interfaces)
            terminal.say_if_heard(f"  {terminal.paint(table.name, 'bold')}   {where}   {serves}")

        terminal.say_if_heard(f"{terminal.paint(file.name, 'bold')}   kernel {os.getpid()}   state in {state.path}")
        waiting = asyncio.create_task(tell_who_is_awaited(kernel, application, terminal))
        try:
            if await unless(ending, finished(application.start(kernel, loaded))) is None:
                return
        finally:
            waiting.cancel()
        terminal.say_if_heard(f"{file.name} runs; Ctrl-C ends it; `mukernel ps --app {file.name}` shows it")
        kernel.listeners.append(lambda happening: tell(happening, kernel, terminal))
        await (ending.wait() if watched is None else unless(ending, watched.run()))
        terminal.say_if_heard(f"{file.name} is ending")
    finally:
        socket.close()


async def tell_who_is_awaited(kernel: Kernel, application: Application, terminal: Terminal) -> None:
    """Until cancelled: say it of each plug-in that takes long to start, once."""
    told = {""}
    while True:
        await kernel.clock.sleep(PATIENCE)
        name = next(reversed(kernel.registry.entries), "")  # they are loaded one after the other
        if name not in told and kernel.registry.entries[name].lock.locked():
            told.add(name)
            terminal.say_if_heard(f"  {terminal.paint(name, 'bold')}   is still starting; Ctrl-C ends the wait")


async def finished(work: Awaitable[None]) -> bool:
    await work
    return True


async def unless(ending: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What `work` gives; None, and `work` is cancelled, when the end comes first."""
    task, end = asyncio.ensure_future(work), asyncio.ensure_future(ending.wait())
    try:
        await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, end):
            each.cancel()
        await asyncio.gather(task, end, return_exceptions=True)


def end_on_signals(ending: asyncio.Event, terminal: Terminal) -> None:
    """The first signal asks for the end, the second does not wait for it: processes of plug-ins die with the
    kernel's. SIGHUP, of a terminal that is closed, is one, too, unless it is ignored, as under nohup; and never the
    second, since the system and a shell both send it.

    The loop only sets `ending`. What is said, and the second signal, is done by handlers of the main thread itself,
    since an inline plug-in that computes or blocks keeps the loop from turning.
    """
    asked = False

    def heard(number: int, frame: object) -> None:
        nonlocal asked
        if asked or ending.is_set():
            if number == signal.SIGHUP:
                return
            terminal.say_from_signal("ended at once")
            os._exit(FORCED + number)
        asked = True
        terminal.say_from_signal(f"{signal.Signals(number).name}: it will end in order; a second one ends it at once")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        asyncio.get_running_loop().add_signal_handler(number, ending.set)  # so that a signal wakes the loop
        signal.signal(number, heard)  # in place of asyncio's own, which does nothing and lets system calls go on


class HarmlessFormatter(logging.Formatter):
    """For a terminal: plug-ins have their say in what is logged of them."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


class KernelLog(RotatingFileHandler):
    """What can't be written, as on a full disk, is said once, and then lost."""

    said = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.said:
            self.said = True
            with contextlib.suppress(OSError):
                Terminal(sys.stderr).complain(f"{self.baseFilename} can't be written: {sys.exc_info()[1]}")


def log_to(path: str) -> None:
    """What the kernel and its inline plug-ins log goes to a file, and warnings to the terminal, too."""
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    form = HarmlessFormatter if shown.stream.isatty() else logging.Formatter
    shown.setFormatter(form("%(levelname)s %(name)s: %(message)s"))
    kept = KernelLog(
        path, maxBytes=DEFAULT_LOG // 2, backupCount=1, encoding="utf-8", errors="backslashreplace"
    )  # fmt: skip
    kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[shown, kept], force=True)


def tell(happening: Happening, kernel: Kernel, terminal: Terminal) -> None:
    """Say an event on the terminal, and keep it in the kernel's log."""
    terminal.say_if_heard(happening_text(happening, kernel, terminal))
    logging.getLogger("mukernel").info("%s %s %s", happening.plugin, happening.what, happening.detail)


def happening_text(happening: Happening, kernel: Kernel, terminal: Terminal) -> str:
    """One line for one event, with the time of day."""
    pause = f"   {duration_text(happening.pause)}" if happening.pause is not None else ""
    colour = "red" if happening.what in BAD else "green"
    what = terminal.paint(happening.what, colour)
    time = kernel.clock.wall().astimezone().strftime("%H:%M:%S")
    detail = happening.detail.partition("\n")[0]
    return f"{time}   {happening.plugin}   {what}   {detail}{pause}"
