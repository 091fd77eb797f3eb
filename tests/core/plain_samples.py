"""Classes that never heard of mukernel."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass
class Document:
    title: str
    words: int = 0


class Base:
    def inherited(self, number: int = 1) -> int:
        return number + 1


class Formatter(Base):
    """Formats documents."""

    def __init__(self, indent: int = 2, *, sort: bool = False) -> None:
        self.indent, self.sort = indent, sort

    def render(self, document: Document, *, upper: bool = False) -> str:
        """One line."""
        text = " " * self.indent + self._title(document)
        return text.upper() if upper else text

    async def count(self, text: str) -> Document:
        await asyncio.sleep(0)
        return Document(text, len(text.split()))

    def lines(self, upto: int) -> Iterator[str]:
        for number in range(upto):
            yield str(number)

    async def ticks(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    def where(self) -> int:
        return os.getpid()

    def fail(self, why: str) -> None:
        raise LookupError(why)

    def _title(self, document: Document) -> str:
        return document.title


class Renders(Protocol):
    """A part of Formatter, as its caller sees it."""

    def render(self, document: Document, *, upper: bool = False) -> str: ...


class Mixed:
    """Some of it can be served."""

    def good(self, number: int) -> int:
        return number

    def untyped(self, number):  # type: ignore[no-untyped-def]
        return number

    def no_result(self, number: int):  # type: ignore[no-untyped-def]
        return number

    def lock(self) -> threading.Lock:
        return threading.Lock()

    def gathers(self, *numbers: int) -> int:
        return sum(numbers)

    def stop(self) -> None:
        raise AssertionError("it is no hook of ours")

    def start(self) -> None:
        raise AssertionError("it is no hook of ours")

    def save(self) -> Any:
        raise AssertionError("it is no hook of ours")


class Empty:
    value = 1

    def _private(self) -> int:
        return 1
