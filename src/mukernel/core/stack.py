"""Stack: where a process stands, as Python sees it and as the system does. It can be asked whatever the process is
doing, since it answers in the handler of a signal, in C: with the GIL held, in a deadlock, within a C function."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import re
import sys
import threading
from collections.abc import Sequence
from signal import SIGCONT, SIGRTMAX
from types import FrameType

import msgspec

from ..kernel.process import Process
from .enclosed import Enclosed

STACK_SIGNAL = int(SIGRTMAX) - 1  # what a process answers with its stack
PATIENCE = 1.0  # seconds that an answer may take in all
QUIET = 0.2  # seconds without another byte after which an answer that has begun is taken for whole
LARGEST = 256 * 1024  # bytes of an answer that are read; a hundred frames of twenty threads have a tenth of that
SHOWN = 3  # innermost frames in the short form
THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]+)(?: \[([^\]\n]{0,64})\])? \(most recent call first\):")
FRAME = re.compile(r'  File "([^"\n]{1,512})", line (\d{1,9}) in ([^\n]{1,256})')
OUTERMOST = re.compile(rb'process\.py", line \d+ in <module>\n\Z')  # of the first thread of any process of plug-ins
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Frame(msgspec.Struct, frozen=True):
    """One function that has not returned, and the line that it is in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.function} ({os.path.basename(self.file)}:{self.line})"


class ThreadStack(msgspec.Struct, frozen=True):
    """One thread; its frames, the innermost first."""

    name: str
    frames: list[Frame]


class Stack(msgspec.Struct, frozen=True):
    """Where one process stands.

    `state`: as the system says, such as "running" or "stopped". `threads`: the one that runs the event loop first.
    `note`: why there is no more, or what it is to be read with.
    """

    pid: int
    state: str
    threads: list[ThreadStack]
    note: str = ""

    @property
    def short(self) -> str:
        """Where the event loop's thread stands, in one line. Frames of Python's imports are left out, and our own,
        which called the plug-in."""
        frames = self.threads[0].frames if self.threads else []
        inner = [str(each) for each in without_ours(frames) if not each.file.startswith("<frozen")][:SHOWN]
        return f"{self.state}, in " + ", called by ".join(inner) if inner else f"{self.state}: {self.note}"

    @property
    def text(self) -> str:
        """All of it, for people."""
        lines = [f"process {self.pid}: {self.state}" + (f"; {self.note}" if self.note else "")]
        for thread in self.threads:
            lines.append(f"{thread.name} (the innermost first):")
            lines += [f'  File "{each.file}", line {each.line}, in {each.function}' for each in thread.frames]
        return "\n".join(lines)


def without_ours(frames: Sequence[Frame]) -> list[Frame]:
    """Up to the outermost that is neither ours nor the event loop's, of those that the loop called."""
    loop = next((place for place, each in enumerate(frames) if each.function.endswith("_run_once")), len(frames))
    frames = frames[:loop]
    last = max((place for place, each in enumerate(frames) if is_foreign(each)), default=len(frames) - 1)
    return list(frames[: last + 1])


def is_foreign(frame: Frame) -> bool:
    return not frame.file.startswith((OURS, "<")) and os.sep + "asyncio" + os.sep not in frame.file


class StackPipe:
    """By which one process hands over its stack. The kernel reads it; `writer` is for the process, and given away.

    What comes from it was written by a process that may be broken, or hostile: it is bounded, and only what has the
    form of a stack is taken from it.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.turn, self.arrived = asyncio.Lock(), asyncio.Event()

    def close(self) -> None:
        if self.reader >= 0:
            asyncio.get_running_loop().remove_reader(self.reader)
            os.close(self.reader)
            self.reader = -1
            self.arrived.set()  # nothing will

    async def ask(self, process: Process | Enclosed, resume: bool = False) -> Stack:
        """Where the process stands. `resume`: one that is stopped by a signal is let go on, since it can't answer."""
        async with self.turn:
            state, waits = state_of(process.pid)
            if not process.alive or self.reader < 0:
                return Stack(process.pid, "ended", [], "it has ended")
            if state == "stopped" and not resume:
                return Stack(process.pid, state, [], "a signal such as SIGSTOP stopped it; `kill -CONT` lets it go on")
            self.read()  # the rest of an answer that came too late
            process.kill(STACK_SIGNAL)
            if state == "stopped":
                process.kill(SIGCONT)  # the other signal, which is waiting for it, comes first
                state = "stopped by a signal such as SIGSTOP"
            threads = parsed((await self.answer()).decode(errors="replace"))
        if threads:
            return Stack(process.pid, state, threads)
        note = f"it gave no Python stack within {PATIENCE:g} s: it blocks the signal that asks for one,"
        return Stack(process.pid, state, [], f"{note} or is in the system" + (f" ({waits})" if waits else ""))

    async def answer(self) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while len(data) < LARGEST and not OUTERMOST.search(data):
                    self.arrived.clear()
                    loop.add_reader(self.reader, self.arrived.set)
                    try:
                        async with asyncio.timeout(QUIET if data else None):
                            await self.arrived.wait()
                    finally:
                        if self.reader >= 0:
                            loop.remove_reader(self.reader)
                    more = self.read()
                    if not more:  # the process has ended
                        break
                    data += more
        return data

    def read(self) -> bytes:
        """What is there now."""
        if self.reader < 0:  # closed while we waited
            return b""
        try:
            return os.read(self.reader, LARGEST)
        except BlockingIOError:
            return b""


def answer_with_stack(writer: int) -> None:
    """In a process of plug-ins: from now on STACK_SIGNAL has its stack written to `writer`."""
    faulthandler.register(STACK_SIGNAL, writer, all_threads=True)


def parsed(text: str) -> list[ThreadStack]:
    """The threads of what faulthandler writes, the oldest, which runs the event loop, first."""
    threads: list[ThreadStack] = []
    for line in text.splitlines():
        if found := THREAD.match(line):
            threads.append(ThreadStack(printable(found[2] or f"thread {found[1]}"), []))
        elif threads and (found := FRAME.match(line)):
            threads[-1].frames.append(Frame(printable(found[1]), int(found[2]), printable(found[3])))
    if threads:
        threads.append(ThreadStack("the event loop's thread", threads.pop().frames))
    return threads[::-1]


def printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)


def state_of(pid: int) -> tuple[str, str]:
    """What the system says a process is doing, and the function of the system's that it waits in, where it tells."""
    state, waits = "ended", ""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            found = re.search(r"^State:\s+\S+ \(([^)]+)\)", file.read(), re.MULTILINE)
            state = found[1] if found else "unknown"
        with open(f"/proc/{pid}/wchan", encoding="ascii", errors="replace") as file:
            waits = file.read().strip("0\n")
    return state, waits


def own_stack(first: int | None = None, note: str = "") -> Stack:
    """Where this process stands. `first`: the thread to begin with, by its identifier."""
    names = {each.ident: each.name for each in threading.enumerate()}
    frames = sys._current_frames()
    order = sorted(frames, key=lambda ident: ident != first)
    threads = [ThreadStack(names.get(ident) or f"thread {ident:#x}", frames_of(frames[ident])) for ident in order]
    return Stack(os.getpid(), "running", threads, note)


def frames_of(frame: FrameType | None) -> list[Frame]:
    found = []
    while frame is not None:
        found.append(Frame(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
        frame = frame.f_back
    return found
