"""The plug-in that keeps symbols in SQLite, with its full-text index FTS5."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from mukernel import Plugin

from .interfaces import Candidate, Index, IndexSize, ParsedFile, Symbol
from .words import words_of

LAYOUT = 1  # of the tables below, kept in the database as its user_version; raise it when they change
FIELDS = ", ".join(Symbol.__struct_fields__)  # the columns of `symbols` that make a Symbol, in its order

# `words` holds no text of its own: it reads the columns it names from `symbols`. Only the triggers write it.
TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE files (path TEXT PRIMARY KEY, problem TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE symbols (
    id INTEGER PRIMARY KEY, name TEXT, qualified_name TEXT, kind TEXT, path TEXT, line INTEGER,
    signature TEXT, documentation TEXT, parts TEXT);
CREATE INDEX symbols_of_file ON symbols (path);
CREATE VIRTUAL TABLE words USING fts5 (
    name, parts, documentation, content='symbols', content_rowid='id', tokenize='porter unicode61');
CREATE TRIGGER symbol_added AFTER INSERT ON symbols BEGIN
    INSERT INTO words (rowid, name, parts, documentation)
    VALUES (new.id, new.name, new.parts, new.documentation);
END;
CREATE TRIGGER symbol_removed AFTER DELETE ON symbols BEGIN
    INSERT INTO words (words, rowid, name, parts, documentation)
    VALUES ('delete', old.id, old.name, old.parts, old.documentation);
END;
PRAGMA user_version = {LAYOUT};
COMMIT;
"""


class IndexState(msgspec.Struct, frozen=True):
    """What an index hands to the next one: where the symbols are, and the layout of their tables."""

    database: str
    layout: int


class SqliteIndex(Plugin, Index):
    """Keeps the index in the database file `database`, made at the start if it is missing.

    What is stored lies in that file and nowhere else. So an index that moves to another process, is swapped,
    has replicas, or is killed and restarted goes on with what was there; whoever chose the file removes it.
    """

    def __init__(self, *, database: str) -> None:
        if not database or database == ":memory:":
            raise ValueError(f"SqliteIndex: database is {database!r}, wanted the path of a file")
        self._database = database
        self._connection: sqlite3.Connection | None = None

    async def start(self) -> None:
        self._opened()

    async def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def save(self) -> IndexState:
        return IndexState(self._database, LAYOUT)

    def restore(self, state: IndexState) -> None:
        """Goes on with the database of `state`, whatever the configuration says.

        Raises ValueError if its tables are laid out in another way than this version reads.
        """
        if state.layout != LAYOUT:
            raise ValueError(f"SqliteIndex: the state has layout {state.layout}, wanted {LAYOUT}")
        if state.database != self._database and self._connection is not None:
            self._connection.close()
            self._connection = None
        self._database = state.database

    async def add(self, files: list[ParsedFile]) -> int:
        with self._opened() as connection:  # one transaction: all the files, or none
            paths = [(file.path,) for file in files]
            connection.executemany("DELETE FROM symbols WHERE path = ?", paths)
            connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?)", [(file.path, file.problem) for file in files]
            )
            rows = [row_of(symbol) for file in files for symbol in file.symbols]
            connection.executemany(f"INSERT INTO symbols ({FIELDS}, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return len(rows)

    async def find(self, query: str, limit: int) -> list[Candidate]:
        match = match_of(query)
        if not match:
            return []
        # The inner query finds the best rows, and only those are read whole. The row number settles ties.
        rows = self._opened().execute(
            f"SELECT {FIELDS}, score FROM symbols JOIN"
            " (SELECT rowid AS found, bm25(words) AS score FROM words WHERE words MATCH ?"
            " ORDER BY score, found LIMIT ?) ON id = found ORDER BY score, id",
            (match, limit),
        )
        return [Candidate(Symbol(*row[:-1]), row[-1]) for row in rows]

    async def sample(self, count: int) -> list[Symbol]:
        connection = self._opened()
        (symbols,) = connection.execute("SELECT count(*) FROM symbols").fetchone()
        step = max(1, symbols // max(1, count))
        return symbols_in(
            connection.execute(
                f"SELECT {FIELDS} FROM"
                " (SELECT *, row_number() OVER (ORDER BY path, line) AS place FROM symbols)"
                " WHERE (place - 1) % ? = 0 ORDER BY place LIMIT ?",
                (step, count),
            )
        )

    async def size(self) -> IndexSize:
        counts = "SELECT count(*), (SELECT count(*) FROM symbols), count(nullif(problem, '')) FROM files"
        return IndexSize(*self._opened().execute(counts).fetchone())

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = opened(self._database)
        return self._connection


def opened(database: str) -> sqlite3.Connection:
    """A connection to the database, its tables made if it is new.

    Raises RuntimeError if this SQLite has no FTS5, ValueError if the tables are of another layout.
    """
    connection = sqlite3.connect(database, timeout=10.0)
    try:
        # With a write-ahead log a replica reads while another writes. A kill loses nothing that was
        # committed; only a power cut might, which an index that can be built again may risk for the speed.
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = off")
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout == 0:
            make_tables(connection)
        elif layout != LAYOUT:
            raise ValueError(f"SqliteIndex: {database} has layout {layout}, wanted {LAYOUT}")
    except BaseException:
        connection.close()
        raise
    return connection


def make_tables(connection: sqlite3.Connection) -> None:
    """Makes the tables, unless another instance was first. Raises RuntimeError if this SQLite has no FTS5."""
    try:
        connection.executescript(TABLES)
    except sqlite3.OperationalError as error:
        connection.rollback()
        if "fts5" in str(error):
            raise RuntimeError(
                f"SqliteIndex: SQLite {sqlite3.sqlite_version} lacks FTS5, wanted one with it"
            ) from error
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout != LAYOUT:
            raise


def match_of(query: str) -> str:
    """The query in the language of FTS5: any of its words, quoted, so that none is an operator."""
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(words_of(query)))


def row_of(symbol: Symbol) -> tuple[object, ...]:
    """The columns of a symbol, and the words of its name, so that "ordered dict" finds OrderedDict."""
    return (*msgspec.structs.astuple(symbol), " ".join(words_of(symbol.qualified_name)))


def symbols_in(rows: Iterable[tuple[object, ...]]) -> list[Symbol]:
    """The symbols of rows that were selected by FIELDS."""
    return [msgspec.convert(dict(zip(Symbol.__struct_fields__, row, strict=True)), Symbol) for row in rows]
