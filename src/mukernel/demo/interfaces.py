"""What the plug-ins of the code search say to each other: five interfaces, and the values between them.

Every method is idempotent, since each reads, or writes what it would write again: so a kill loses no call.
"""
# The methods of an interface have no body; whoever calls one that no plug-in implements gets an error.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Literal

import msgspec

from mukernel import Interface, idempotent, raises

Kind = Literal["function", "class", "method"]


class NoSuchFile(Exception):
    """The path is not one of those that `Files.walk` gave."""


class UnreadableFile(Exception):
    """The file is there, and the system does not let this user read it."""


class Symbol(msgspec.Struct, frozen=True):
    """A function, a class or a method that a file defines."""

    name: str
    qualified_name: str  # with the classes and functions around it: "OrderedDict.move_to_end"
    kind: Kind
    path: str  # as Files.walk gave it
    line: int  # of its `def` or `class`, counted from 1
    signature: str  # what stands between its parentheses; a class's are its bases
    documentation: str  # the first paragraph of its docstring, on one line; may be empty


class Walk(msgspec.Struct, frozen=True):
    """What a walk through a folder has found.

    `paths`: of the files, relative to the folder, sorted. `unreadable`: what can't be among them, and why: folders that
    can't be entered, names that are no text. `whole`: it did not end before it had seen everything. `left_out`: how
    many files and folders were left out by rule, for each reason, such as "folders of tests".
    """

    paths: list[str]
    unreadable: dict[str, str]
    whole: bool
    left_out: dict[str, int] = {}


class ParsedFile(msgspec.Struct, frozen=True):
    """What one file defines; `problem` says why nothing could be read from it, and is empty otherwise. `source`: it
    was read, so that a problem is one of what stands in it."""

    path: str
    symbols: list[Symbol]
    problem: str = ""
    source: bool = True


class Candidate(msgspec.Struct, frozen=True):
    """A symbol that the index found, with SQLite's bm25: the lower, the better it matches."""

    symbol: Symbol
    bm25: float


class Hit(msgspec.Struct, frozen=True):
    """A symbol as it is shown to whoever searched; the higher the score, the better."""

    symbol: Symbol
    score: float
    reason: str


class IndexSize(msgspec.Struct, frozen=True):
    """How much an index holds; `problems` counts the files that could not be read or parsed."""

    files: int
    symbols: int
    problems: int


class Files(Interface, version="1.0"):
    """The source files of one folder."""

    @idempotent
    async def walk(self, seconds: float) -> Walk:
        """What there is, as far as the folder can be walked within so many seconds."""

    @idempotent
    @raises(NoSuchFile, UnreadableFile)
    async def read(self, path: str) -> bytes:
        """The content of one file. Raises NoSuchFile for a path outside the folder, or of no regular file;
        UnreadableFile for one that can't be read."""


class Parser(Interface, version="1.0"):
    """Reads what Python source defines."""

    @idempotent
    async def parse(self, path: str, source: bytes) -> ParsedFile:
        """The symbols of one file; a file with an error in it is reported in the result, not raised."""


class Index(Interface, version="1.0"):
    """A full-text index of symbols."""

    @idempotent
    async def add(self, files: list[ParsedFile]) -> int:
        """Stores the files, each in place of what was known of it; the number of symbols stored."""

    @idempotent
    async def find(self, query: str, limit: int) -> list[Candidate]:
        """At most `limit` symbols in which a word of the query occurs, the best bm25 first."""

    @idempotent
    async def sample(self, count: int) -> list[Symbol]:
        """At most `count` symbols, spread evenly over the index; the same ones for the same content."""

    @idempotent
    async def size(self) -> IndexSize:
        """How much the index holds."""


class Ranker(Interface, version="1.0"):
    """Puts what the index found into the order in which people want to read it."""

    @idempotent
    async def rank(self, query: str, candidates: list[Candidate], limit: int) -> list[Hit]:
        """At most `limit` of the candidates, the best first."""


class Search(Interface, version="1.0"):
    """What people ask."""

    @idempotent
    async def search(self, query: str, limit: int = 10) -> list[Hit]:
        """At most `limit` symbols for the query, the best first."""
