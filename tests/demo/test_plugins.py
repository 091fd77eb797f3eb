"""The demo's plug-ins, each constructed directly, with plain objects for what is injected."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from pathlib import Path

import msgspec
import pytest

from mukernel.demo.broken_ranker import UnnormalisedRanker, UpsideDownRanker
from mukernel.demo.index import LAYOUT, IndexState, SqliteIndex
from mukernel.demo.indexing import BATCH, NO_PYTHON, Filled, fill
from mukernel.demo.interfaces import Candidate, Hit, IndexSize, ParsedFile, Symbol, Walk
from mukernel.demo.parser import AstParser
from mukernel.demo.queries import queries
from mukernel.demo.ranker import Bm25Ranker, SymbolRanker
from mukernel.demo.search import CodeSearch
from mukernel.demo.walker import LOOK, FolderWalker
from mukernel.demo.words import words_of
from mukernel.kernel.clock import Clock

from .demo_samples import LONG, SOURCE, refuse, symbol, write

# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("HTTPServer.read_text2", ["http", "server", "read", "text", "2"]),
        ("__init__", ["init"]),
        ("OrderedDict", ["ordered", "dict"]),
        ("größe", ["gr", "öß", "e"]),
        ("_", []),
        ("", []),
    ],
)
def test_names_fall_into_words(text: str, wanted: list[str]) -> None:
    assert words_of(text) == wanted


# --- index ----------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "index.db")


async def stored(database: str, *symbols: Symbol) -> SqliteIndex:
    index = SqliteIndex(database=database)
    await index.start()
    await index.add([ParsedFile(path, list(group)) for path, group in itertools.groupby(symbols, lambda s: s.path)])
    return index


async def found(index: SqliteIndex, query: str, limit: int = 10) -> list[str]:
    return [candidate.symbol.name for candidate in await index.find(query, limit)]


async def test_index_finds_by_name_by_its_words_and_by_documentation(database: str) -> None:
    index = await stored(
        database,
        symbol("OrderedDict", documentation="Remembers the order of insertions."),
        symbol("read_text"),
        symbol("close", path="b.py", line=7, kind="method", qualified_name="Pipe.close", signature="self"),
    )
    assert await found(index, "ordered") == ["OrderedDict"]
    assert await found(index, "OrderedDict") == ["OrderedDict"]
    assert await found(index, "remember insertion") == ["OrderedDict"]
    assert await found(index, "read_text") == ["read_text"]
    assert await found(index, "pipe") == ["close"]
    assert await found(index, "nothing") == []
    (candidate,) = await index.find("close", 1)
    assert candidate.symbol == symbol(
        "close", path="b.py", line=7, kind="method", qualified_name="Pipe.close", signature="self"
    )
    assert candidate.bm25 < 0
    await index.stop()


@pytest.mark.parametrize("query", ['"', "a AND", "NEAR(", "*", "name:x", "-", "", "x' OR 1=1 --", "\0"])
async def test_no_query_is_an_error(database: str, query: str) -> None:
    index = await stored(database, symbol("alpha"))
    assert await index.find(query, 5) == []
    await index.stop()


async def test_index_gives_the_best_and_no_more_than_the_limit(database: str) -> None:
    index = await stored(database, *(symbol(f"read_{word}") for word in ("one", "two", "three")), symbol("read"))
    everything = await index.find("read", 10)
    assert len(everything) == 4
    assert [each.bm25 for each in everything] == sorted(each.bm25 for each in everything)
    assert everything[0].symbol.name == "read"
    assert await index.find("read", 2) == everything[:2]
    await index.stop()


async def test_adding_a_file_again_replaces_it(database: str) -> None:
    index = await stored(database, symbol("old"), symbol("kept", path="b.py"))
    again = [ParsedFile("a.py", [symbol("new")])]
    assert await index.add(again) == 1
    assert await index.add(again) == 1  # as after a crash that interrupted the call
    assert sorted(await found(index, "old new kept")) == ["kept", "new"]
    assert await index.size() == IndexSize(files=2, symbols=2, problems=0)
    await index.add([ParsedFile("a.py", [], "line 1: broken")])
    assert await index.size() == IndexSize(files=2, symbols=1, problems=1)
    await index.stop()


async def test_index_hands_its_content_over(database: str, tmp_path: Path) -> None:
    old = await stored(database, symbol("alpha"))
    new = SqliteIndex(database=str(tmp_path / "elsewhere.db"))
    await new.start()
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(old.save()), type=IndexState)
    new.restore(state)
    await old.stop()
    assert await found(new, "alpha") == ["alpha"]
    await new.add([ParsedFile("b.py", [symbol("beta", path="b.py")])])
    await new.stop()

    rolled_back = SqliteIndex(database=database)  # whoever opens the file next sees what the new one wrote
    rolled_back.restore(state)
    await rolled_back.start()
    assert await found(rolled_back, "beta") == ["beta"]
    await rolled_back.stop()


async def test_two_instances_share_one_database(database: str) -> None:
    writer, reader = await stored(database), await stored(database)
    await writer.add([ParsedFile("a.py", [symbol("alpha")])])
    assert await found(reader, "alpha") == ["alpha"]
    await reader.stop()
    await writer.stop()


async def test_index_outlives_a_kill(database: str) -> None:
    """A process that is killed in the middle of a transaction leaves what was committed, and nothing else."""
    index = await stored(database, symbol("alpha"))
    await index.stop()
    pid = os.fork()
    if pid == 0:
        connection = sqlite3.connect(database)
        connection.execute("DELETE FROM symbols")
        os.kill(os.getpid(), 9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    index = SqliteIndex(database=database)
    await index.start()
    assert await found(index, "alpha") == ["alpha"]
    await index.stop()


async def test_index_refuses_another_layout(database: str) -> None:
    index = await stored(database)
    with pytest.raises(ValueError, match=f"layout {LAYOUT + 1}, wanted {LAYOUT}"):
        index.restore(IndexState(database, LAYOUT + 1))
    await index.stop()
    connection = sqlite3.connect(database)
    connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    connection.close()
    with pytest.raises(ValueError, match=f"index.db has layout {LAYOUT + 1}, wanted {LAYOUT}"):
        await SqliteIndex(database=database).start()


@pytest.mark.parametrize("name", ["", ":memory:"])
def test_index_wants_a_file(name: str) -> None:
    with pytest.raises(ValueError, match="wanted the path of a file"):
        SqliteIndex(database=name)


async def test_sample_is_spread_and_repeatable(database: str) -> None:
    index = await stored(database, *(symbol(f"s{number}", line=number) for number in range(100)))
    sample = await index.sample(10)
    assert [each.line for each in sample] == list(range(0, 100, 10))
    assert await index.sample(10) == sample
    assert len(await index.sample(1000)) == 100
    assert await index.sample(0) == []
    await index.stop()


# --- rankers --------------------------------------------------------------------------------------

CANDIDATES = [
    Candidate(symbol("_copy", qualified_name="_Box._copy", kind="method"), -9.0),
    Candidate(symbol("copy", path="copy.py", documentation="Shallow copy operation."), -5.0),
    Candidate(symbol("Copier", kind="class", documentation="Makes a copy of things."), -4.0),
    Candidate(symbol("copy_later", qualified_name="Box.copy_later", kind="method"), -6.0),
]


def names(hits: list[Hit]) -> list[str]:
    return [hit.symbol.name for hit in hits]


async def test_the_first_version_orders_by_bm25() -> None:
    hits = await Bm25Ranker().rank("copy", CANDIDATES, 3)
    assert names(hits) == ["_copy", "copy_later", "copy"]
    assert [hit.score for hit in hits] == [9.0, 6.0, 5.0]


async def test_the_second_version_puts_what_was_meant_first() -> None:
    hits = await SymbolRanker().rank("copy", CANDIDATES, 10)
    assert names(hits) == ["copy", "_copy", "Copier", "copy_later"]
    assert hits[0].reason == "exact name, public, top level, documented"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert names(await SymbolRanker().rank("copy", CANDIDATES, 1)) == ["copy"]
    assert await SymbolRanker().rank("copy", [], 5) == []


@pytest.mark.parametrize(
    ("query", "name", "documentation", "reason"),
    [
        ("ReadText", "read_text", "", "same words"),
        ("text", "read_text", "", "in the name"),
        ("read text file", "read_text", "", "names a part"),
        ("read bytes", "read", "All the bytes.", "every word, documented"),
        ("read bytes", "write", "", "bm25"),
    ],
)
async def test_the_second_version_says_why(query: str, name: str, documentation: str, reason: str) -> None:
    asked = symbol(name, qualified_name=f"_Box.{name}", documentation=documentation)
    (hit,) = await SymbolRanker().rank(query, [Candidate(asked, -1.0)], 1)
    assert hit.reason == reason


async def test_equal_scores_keep_one_order() -> None:
    twins = [Candidate(symbol("copy", path=path), -1.0) for path in ("b.py", "a.py")]
    for candidates in (twins, twins[::-1]):
        assert [hit.symbol.path for hit in await SymbolRanker().rank("copy", candidates, 2)] == [
            "a.py",
            "b.py",
        ]


async def test_the_broken_versions_are_found_out_before_they_serve() -> None:
    with pytest.raises(ZeroDivisionError):
        await UnnormalisedRanker().start()
    with pytest.raises(RuntimeError, match="'read_later' first, wanted 'read'"):
        await UpsideDownRanker().health()


# --- search ---------------------------------------------------------------------------------------


class FakeIndex:
    """Gives the same candidates for every query, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def find(self, query: str, limit: int) -> list[Candidate]:
        self.asked.append((query, limit))
        return CANDIDATES[:limit]


async def test_search_has_the_index_find_and_the_ranker_order() -> None:
    index = FakeIndex()
    search = CodeSearch(index, SymbolRanker(), candidates=3)  # type: ignore[arg-type]
    assert names(await search.search("copy", 1)) == ["copy"]
    assert names(await search.search("copy", 4)) == ["copy", "_copy", "Copier", "copy_later"]
    assert await search.search("copy", 0) == []
    assert await search.search("  ") == []
    await search.search("copy", 100_000)
    assert index.asked == [("copy", 3), ("copy", 4), ("copy", 200)]


def test_search_refuses_to_choose_from_nothing() -> None:
    with pytest.raises(ValueError, match="candidates is 0, wanted 1 or more"):
        CodeSearch(FakeIndex(), SymbolRanker(), candidates=0)  # type: ignore[arg-type]


# --- all of them ----------------------------------------------------------------------------------


async def test_a_folder_is_indexed_and_searched(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    for number in range(BATCH + 1):
        write(source, f"m{number:02}.py", f"def job_{number}():\n    '''Does a job.'''\n")
    write(source, "broken.py", "def (")
    write(source, "deep.py", f"def deep(a={'-' * 900}1): ...\n")
    write(source, "odd.py", 'def odd():\n    "\\ud800"\n')
    write(source, "locked.py")
    (source / os.fsdecode(b"caf\xe9.py")).write_text("x = 1\n")
    refuse(monkeypatch, "open", source / "locked.py")
    index = SqliteIndex(database=database)
    progress: list[tuple[int, int]] = []
    walker = FolderWalker(Clock(), folder=str(source))
    filled = await fill(walker, AstParser(), index, Clock(), LONG, lambda *seen: progress.append(seen))
    total = BATCH + 5
    unreadable = {NO_PYTHON: 2, "can't be read: Permission denied": 1, "its name is not UTF-8": 1}
    assert filled == Filled(filled.size, total + 1, late=False, walked=True, unreadable=unreadable)
    assert filled.size == IndexSize(files=total + 1, symbols=BATCH + 2, problems=4)  # broken, deep, locked; a name
    assert progress == [(0, total), (BATCH, total), (total, total)]

    search = CodeSearch(index, SymbolRanker())
    assert names(await search.search("job_7", 1)) == ["job_7"]
    await index.stop()


async def test_a_file_that_vanishes_is_left_out(tmp_path: Path, database: str) -> None:
    class Forgetful(FolderWalker):
        async def walk(self, seconds: float) -> Walk:
            walk = await super().walk(seconds)
            return msgspec.structs.replace(walk, paths=[*walk.paths, "vanished.py"])

    source = tmp_path / "source"
    write(source, "here.py", "def here(): ...\n")
    index = SqliteIndex(database=database)
    filled = await fill(Forgetful(Clock(), folder=str(source)), AstParser(), index, Clock(), LONG)
    assert (filled.size.files, filled.found, filled.late) == (1, 2, False)
    await index.stop()


async def test_what_has_no_turn_in_time_is_left_out(tmp_path: Path, database: str) -> None:
    class Hurrying(Clock):
        """Of the time for the second batch little is left, when that begins."""

        looks = iter((0.0, 0.0, LONG - 0.1))

        def now(self) -> float:
            return next(self.looks)

    class Stuck(AstParser):
        async def parse(self, path: str, source: bytes) -> ParsedFile:
            return await (asyncio.Event().wait() if path == "m40.py" else super().parse(path, source))

    source = tmp_path / "source"
    for number in range(100):
        write(source, f"m{number:02}.py", "def job(): ...\n")
    index = SqliteIndex(database=database)
    progress: list[tuple[int, int]] = []
    walker = FolderWalker(Clock(), folder=str(source))
    filled = await fill(walker, Stuck(), index, Hurrying(), LONG, lambda *seen: progress.append(seen))
    assert filled == Filled(IndexSize(63, 63, 0), 100, late=True, walked=True)
    assert progress == [(0, 100), (32, 100), (63, 100)]
    await index.stop()


async def test_a_walk_ends_in_time(tmp_path: Path, database: str) -> None:
    class Hasty(Clock):
        """A second goes by between two looks at it."""

        seconds = 0.0

        def now(self) -> float:
            self.seconds += 1.0
            return self.seconds

    source = tmp_path / "source"
    for number in range(3 * LOOK):
        write(source, f"m{number:03}.py")
    walk = await FolderWalker(Hasty(), folder=str(source)).walk(2.0)
    assert (len(walk.paths), walk.whole) == (2 * LOOK - 2, False)  # the folder itself was looked at, too
    index = SqliteIndex(database=database)
    filled = await fill(FolderWalker(Hasty(), folder=str(source)), AstParser(), index, Clock(), 5.0)
    assert filled == Filled(IndexSize(2 * LOOK - 2, 0, 0), 2 * LOOK - 2, late=True, walked=False)
    await index.stop()


# --- queries --------------------------------------------------------------------------------------


async def test_queries_are_repeatable_and_find_something(database: str) -> None:
    parsed = await AstParser().parse("m.py", SOURCE)
    index = await stored(database, *parsed.symbols)
    first = list(itertools.islice(queries(parsed.symbols, seed=7), 200))
    assert first == list(itertools.islice(queries(parsed.symbols, seed=7), 200))
    assert first != list(itertools.islice(queries(parsed.symbols, seed=8), 200))
    assert {"OrderedDict", "ordered dict", "OrderedDict.move_to_end"} <= set(first)
    for query in set(first):
        assert await index.find(query, 1), query
    await index.stop()


def test_queries_need_symbols() -> None:
    with pytest.raises(ValueError, match="wanted at least one symbol"):
        queries([], seed=1)
