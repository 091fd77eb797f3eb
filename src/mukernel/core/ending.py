"""Endings that nobody asked for: how a process ended, a plug-in that would end the one it runs in, or its task; and
work that is not ended half-way."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Any

from ..contract import ContractError
from ..kernel.process import ExitStatus
from ..transports.inline import was_cancelled


def described(status: ExitStatus) -> str:
    """How a process ended, as in "it ..."."""
    if status.signal is not None:
        name = Signals(status.signal).name if status.signal in set(Signals) else "unknown"
        if status.signal == Signals.SIGXCPU:
            name += ": it had used up the processor time that its `cpu` allows"
        return f"ended by signal {status.signal} ({name})"
    return f"exited with status {status.code}" if status.code is not None else "ended"


@contextmanager
def contained(plugin: str, doing: str) -> Iterator[None]:
    """Raises ContractError where a plug-in raises what is no Exception, so that whoever asked hears of it.

    It may call sys.exit to end itself, never the process of others; nobody is to take a CancelledError that is its own
    for a cancellation of what the kernel does; and extensions have a BaseException for their panics. What may
    be the KeyboardInterrupt of Ctrl-C goes on, with a note of what it met.
    """
    try:
        yield
    except asyncio.CancelledError as cancelled:
        if was_cancelled():
            raise
        raise ContractError(
            f"plug-in {plugin!r} raised CancelledError while it was {doing}: it waited for something that was cancelled"
        ) from cancelled
    except SystemExit as left:
        raise ContractError(
            f"plug-in {plugin!r} called sys.exit({left.code!r}) while it was {doing}; wanted an exception that says "
            "what is wrong"
        ) from left
    except Exception:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and ctrl_c_interrupts():
            error.add_note(f"It came while plug-in {plugin!r} was {doing}.")
            raise
        raise ContractError(
            f"plug-in {plugin!r} raised {': '.join(filter(None, (type(error).__name__, str(error))))}, which is no "
            f"Exception, while it was {doing}"
        ) from error


def ctrl_c_interrupts() -> bool:
    """May Ctrl-C raise KeyboardInterrupt here? Not in other threads than the main one, nor where a program hears it in
    another way, or ignores it, as the processes of plug-ins do."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    by_asyncio = getattr(getattr(handler, "func", None), "__func__", None) is getattr(
        asyncio.Runner, "_on_sigint", None
    )
    return handler is signal.default_int_handler or by_asyncio


async def to_its_end(work: Coroutine[Any, Any, None] | asyncio.Task[None]) -> asyncio.CancelledError | None:
    """Run `work` to its end, however often its caller is cancelled; returns the cancellation, if there was one."""
    task = asyncio.ensure_future(work)  # not the supervisor's: a kernel that closes waits for it, too
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    return cancelled


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at the same time, each to its end; then raises the first of what they raised."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if result is not None:
            raise result


__all__ = ["contained", "described", "to_its_end", "together"]
