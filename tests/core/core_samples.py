"""Plug-ins that the tests of the core load, in this process and in others."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

from mukernel import Blocking, Interface, Plugin, idempotent, oneway, raises


def blow(whistle: str, text: str = "") -> None:
    """Tell the test, which listens to the named pipe `whistle`, that this line was reached."""
    pipe = os.open(whistle, os.O_WRONLY)
    os.write(pipe, f"{os.getpid()} {text}\n".encode())
    os.close(pipe)


class Refused(Exception):
    """An exception that an interface declares."""


class Counter(Interface, version="1.0"):
    """Counts, can be held in the middle of a call, and says where it runs."""

    async def add(self, amount: int) -> int: ...
    @idempotent
    async def value(self) -> int: ...
    @idempotent
    async def where(self) -> int: ...
    @idempotent
    async def version(self) -> str: ...
    async def hold(self, whistle: str) -> str: ...
    @idempotent
    async def hold_again(self, whistle: str) -> str: ...
    @idempotent
    async def release(self) -> None: ...
    @raises(Refused)
    async def refuse(self, why: str) -> None: ...
    async def fail(self, why: str) -> None: ...
    @oneway
    async def note(self, amount: int) -> None: ...
    def numbers(self, upto: int) -> AsyncIterator[int]: ...
    def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]: ...


class Tally(Plugin, Counter):
    """The ordinary implementation; its state is its total."""

    label = "one"

    def __init__(self, *, start_at: int = 0) -> None:
        self.total = start_at
        self.released = asyncio.Event()

    async def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    async def value(self) -> int:
        return self.total

    async def where(self) -> int:
        return os.getpid()

    async def version(self) -> str:
        return self.label

    async def hold(self, whistle: str) -> str:
        blow(whistle, "holding")
        await self.released.wait()
        return self.label

    async def hold_again(self, whistle: str) -> str:
        return await self.hold(whistle)

    async def release(self) -> None:
        self.released.set()

    async def refuse(self, why: str) -> None:
        raise Refused(why)

    async def fail(self, why: str) -> None:
        raise LookupError(why)

    async def note(self, amount: int) -> None:
        self.total += amount

    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    async def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number

    def save(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


class Tally2(Tally):
    """Its next version."""

    label = "two"


class Stateless(Plugin, Counter):
    """Neither state nor anything to stop: called directly where it runs inline."""

    async def add(self, amount: int) -> int:
        return amount

    async def value(self) -> int:
        return 0

    async def where(self) -> int:
        return os.getpid()

    async def version(self) -> str:
        return "stateless"

    async def hold(self, whistle: str) -> str:
        blow(whistle, "holding")
        return await asyncio.get_running_loop().create_future()

    async def hold_again(self, whistle: str) -> str:
        return await self.hold(whistle)

    async def release(self) -> None: ...

    async def refuse(self, why: str) -> None:
        raise Refused(why)

    async def fail(self, why: str) -> None:
        raise LookupError(why)

    async def note(self, amount: int) -> None: ...

    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    async def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number


class Summing(Interface):
    """Stands before a Counter, and calls it."""

    async def add_twice(self, amount: int) -> int: ...
    @idempotent
    async def where(self) -> list[int]: ...
    @idempotent
    async def versions(self) -> list[str]: ...
    async def hold(self, whistle: str) -> str: ...


class Sum(Plugin, Summing):
    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    async def add_twice(self, amount: int) -> int:
        await self.counter.add(amount)
        return await self.counter.add(amount)

    async def where(self) -> list[int]:
        return [os.getpid(), await self.counter.where()]

    async def versions(self) -> list[str]:
        return ["sum", await self.counter.version()]

    async def hold(self, whistle: str) -> str:
        return await self.counter.hold(whistle)


class Report(Interface):
    """The third of a chain."""

    @idempotent
    async def path(self) -> list[int]: ...
    async def total(self, amount: int) -> int: ...


class Reporter(Plugin, Report):
    def __init__(self, summing: Summing) -> None:
        self.summing = summing

    async def path(self) -> list[int]:
        return [os.getpid(), *await self.summing.where()]

    async def total(self, amount: int) -> int:
        return await self.summing.add_twice(amount)


class Plain(Interface):
    """`def` methods: they block their caller until the reply."""

    def plus(self, a: int, b: int = 1) -> int: ...
    def thread(self) -> str: ...
    def most_at_once(self, others: int) -> int: ...


class Arithmetic(Plugin, Plain):
    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.inside = self.most = 0
        self.everyone = threading.Condition(self.guard)

    def plus(self, a: int, b: int = 1) -> int:
        return a + b

    def thread(self) -> str:
        return threading.current_thread().name

    def most_at_once(self, others: int) -> int:
        """Return when as many calls as `others` are inside together (0: at once); the most that ever were."""
        with self.everyone:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.everyone.notify_all()
            self.everyone.wait_for(lambda: self.most >= others)
            self.inside -= 1
            return self.most


class Through(Interface):
    def plus_two(self, number: int) -> int: ...


class BlockingUser(Plugin, Through):
    """A plug-in without an event loop of its own in mind: it calls another one and blocks."""

    def __init__(self, plain: Plain, counter: Blocking[Counter]) -> None:
        self.plain, self.counter = plain, counter

    def plus_two(self, number: int) -> int:
        return self.plain.plus(self.plain.plus(number)) + int(self.counter.version() == "nobody")  # type: ignore[comparison-overlap]


class Reading(Interface):
    def of_numbers(self, upto: int) -> int: ...


class StreamUser(Plugin, Reading):
    """It reads a stream and blocks, with calls in between."""

    def __init__(self, counter: Blocking[Counter]) -> None:
        self.counter: Any = counter

    def of_numbers(self, upto: int) -> int:
        return sum(int(number) for number in self.counter.numbers(upto) if self.counter.version() == "one")


class Diary(Interface):
    """Writes down the order in which its calls were run."""

    async def enter(self, text: str) -> None: ...
    async def gate(self, whistle: str) -> None: ...
    @idempotent
    async def entries(self) -> list[str]: ...


class Scribe(Plugin, Diary):
    """Runs one call at a time when it is loaded with concurrency=1; `gate` blocks until the pipe is written to."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def enter(self, text: str) -> None:
        self.written.append(text)

    async def gate(self, whistle: str) -> None:
        """Hold the only place until the test writes to WHISTLE.open."""
        loop = asyncio.get_running_loop()
        opened = loop.create_future()
        pipe = os.open(f"{whistle}.open", os.O_RDWR | os.O_NONBLOCK)
        loop.add_reader(pipe, lambda: opened.done() or opened.set_result(None))
        blow(whistle, "gate")
        try:
            await opened
        finally:
            loop.remove_reader(pipe)
            os.close(pipe)

    async def entries(self) -> list[str]:
        return self.written
