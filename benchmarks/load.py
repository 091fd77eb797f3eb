"""A load whose every call is accounted for: plug-ins write down what they ran, callers number their calls.

Each caller has one call under way and numbers its calls 1, 2, 3 and on. So for each caller the plug-in must
see exactly that sequence: a number that comes again was executed twice, one that is left out was lost.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter

import msgspec

from mukernel import Interface, Plugin, PluginCrashed, idempotent

PATIENCE = 60.0
"""Seconds. A call that has not ended so long after the load stopped counts as hanging: it would never end."""

RECORD = struct.Struct("=QQ")
"""One line of a journal: caller, number."""

Call = Callable[[int, int], Awaitable[int]]


class Book(msgspec.Struct):
    """What a tally has seen. `last`: the newest number of each caller."""

    last: dict[int, int] = {}
    executed: int = 0
    twice: int = 0
    skipped: int = 0


class Counting(Interface, version="1.0"):
    """Runs numbered calls and keeps the account of them."""

    async def count(self, caller: int, number: int) -> int: ...
    async def count_slowly(self, caller: int, number: int) -> int: ...
    async def book(self) -> Book: ...


class Tally(Plugin, Counting):
    """Keeps the account as its state, so that it survives a swap if and only if the state does."""

    def __init__(self) -> None:
        self.kept = Book()

    def save(self) -> Book:
        return self.kept

    def restore(self, state: Book) -> None:
        self.kept = state

    def count(self, caller: int, number: int) -> int:
        kept = self.kept
        last = kept.last.get(caller, 0)
        kept.executed += 1
        if number <= last:
            kept.twice += 1
        else:
            kept.skipped += number - last - 1
            kept.last[caller] = number
        return kept.executed

    async def count_slowly(self, caller: int, number: int) -> int:
        """Under way while others run, so that a swap finds calls which it has to wait for."""
        executed = self.count(caller, number)
        await asyncio.sleep(0)
        return executed

    def book(self) -> Book:
        return self.kept


class NextTally(Tally):
    """The version that a tally is swapped for, and back."""


class Recording(Interface, version="1.0"):
    """Writes every call into a journal before it answers. A reply is the process that ran the call."""

    @idempotent
    async def again(self, caller: int, number: int) -> int: ...
    async def once(self, caller: int, number: int) -> int: ...


class Recorder(Plugin, Recording):
    """One call at a time. Its journal is a file, since what was executed must be known after a kill -9."""

    def __init__(self, *, journal: str) -> None:
        self.file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def again(self, caller: int, number: int) -> int:
        return self.once(caller, number)

    def once(self, caller: int, number: int) -> int:
        os.write(self.file, RECORD.pack(caller, number))
        return os.getpid()


class InterleavedRecorder(Recorder):
    """Many calls under way at once."""

    async def again(self, caller: int, number: int) -> int:
        return await self.once(caller, number)

    async def once(self, caller: int, number: int) -> int:
        done = super().once(caller, number)
        await asyncio.sleep(0)
        return done


def executions(journal: str) -> Counter[tuple[int, int]]:
    """How often each call was executed, (caller, number) → times."""
    with open(journal, "rb") as file:
        content = file.read()
    return Counter(RECORD.iter_unpack(content))


class Replies:
    """Counts the replies to any number of callers, and wakes who waits for some more of them."""

    def __init__(self) -> None:
        self.replies = self.wanted = 0
        self.reached = asyncio.Event()
        self.last, self.longest = perf_counter(), 0.0

    def replied(self, reply: int) -> None:
        now = perf_counter()
        self.longest, self.last = max(self.longest, now - self.last), now
        self.replies += 1
        if self.replies >= self.wanted:
            self.reached.set()

    async def more(self, replies: int) -> None:
        """Wait until so many more replies have come."""
        self.wanted = self.replies + replies
        self.reached.clear()
        await self.reached.wait()

    def silence(self) -> float:
        """Seconds of the longest time between two replies, to whichever callers, since this was asked last."""
        found, self.longest = self.longest, 0.0
        return found


class Caller:
    """One caller: calls on and on, and remembers how each call ended."""

    def __init__(self, number: int, call: Call, replied: Callable[[int], None] = lambda reply: None) -> None:
        self.number, self.call, self.replied = number, call, replied
        self.issued = 0
        self.outcomes: Counter[str] = Counter()
        self.ended: dict[int, str] = {}  # how each call that did not end in a reply ended
        self.slowest = 0.0  # seconds

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.issued += 1
            number, began = self.issued, perf_counter()
            try:
                reply = await self.call(self.number, number)
            except PluginCrashed:
                self.end(number, PluginCrashed.__name__)
            except Exception as error:  # whatever it is, it is counted, and shown
                self.end(number, f"{type(error).__name__}: {error}")
            else:
                self.outcomes["reply"] += 1
                self.replied(reply)
            self.slowest = max(self.slowest, perf_counter() - began)
            # An inline call need not suspend, and a loop that nobody suspends can't swap anything either.
            await asyncio.sleep(0)

    def end(self, number: int, how: str) -> None:
        self.outcomes[how] += 1
        self.ended[number] = how


class Load:
    """Several callers at work, as an async context: on the way out each ends the call it has under way."""

    def __init__(self, callers: list[Caller]) -> None:
        self.callers = callers
        self.stop = asyncio.Event()
        self.hanging = 0

    async def __aenter__(self) -> Load:
        self.tasks = [asyncio.create_task(caller.run(self.stop)) for caller in self.callers]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        _, late = await asyncio.wait(self.tasks, timeout=PATIENCE)
        self.hanging = len(late)
        for task in late:
            task.cancel()

    def slowest(self) -> float:
        """Seconds of the slowest call that has ended since this was asked last."""
        found = max(caller.slowest for caller in self.callers)
        for caller in self.callers:
            caller.slowest = 0.0
        return found

    def outcomes(self) -> Counter[str]:
        """How many calls ended in what."""
        return sum((caller.outcomes for caller in self.callers), Counter())

    def __iter__(self) -> Iterator[Caller]:
        return iter(self.callers)
