"""The stage: the code search's plug-ins, loaded and filled, before anything is done to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mukernel import Clock, Kernel

from .answers import CANDIDATES
from .index import SqliteIndex
from .indexing import Progress, fill
from .interfaces import Files, Index, Parser
from .parser import AstParser
from .ranker import Bm25Ranker
from .search import CodeSearch
from .summary import Indexed
from .walker import FolderWalker

PARSERS = 2  # processes that parse


@dataclass(frozen=True)
class Setting:
    """How the demo is to run. Times in seconds.

    `folder`: whose source is searched; empty: the standard library. `seconds`: of the load. `indexing`: for
    indexing, at most; what has had no turn by then is left out.
    `callers`: searches at a time. `patience`: after which a call is hung, and a step has failed. `search`: the
    class that answers; tests put one there that does not.
    """

    folder: str = ""
    seconds: float = 20.0
    indexing: float = 25.0
    callers: int = 8
    patience: float = 10.0
    search: type = CodeSearch


class NothingFound(Exception):
    """There is no symbol to search for; the message says what of the folder was left out, and why."""

    def __init__(self, indexed: Indexed) -> None:
        problem = f"FOLDER: got {indexed.folder!r}, which defines no class or function in Python"
        if indexed.gaps:
            problem += f" that can be indexed; {'; '.join(indexed.gaps)}"
        if not indexed.complete:
            problem += f"; the time for indexing is over: {indexed.files_text}"
        if any(reason.startswith("folders") for reason in indexed.left_out):
            problem += "; give a folder that was left out as FOLDER itself, and it is indexed"
        super().__init__(problem)


async def set_up(
    kernel: Kernel, setting: Setting, database: str, progress: Progress, next_part: Callable[[str], object]
) -> Indexed:
    """Load every plug-in, index the folder, and say what there is. `next_part`: told what is being done."""
    clock = kernel.get(Clock)
    began = clock.now()
    next_part("starting the plug-ins")
    await kernel.load(FolderWalker, name="files", config={"folder": setting.folder})
    await kernel.load(AstParser, name="parser", placement="process", replicas=PARSERS)
    await kernel.load(SqliteIndex, name="index", config={"database": database})
    next_part("indexing")
    files, parser, index = kernel.get(Files), kernel.get(Parser), kernel.get(Index)
    filled = await fill(files, parser, index, clock, setting.indexing, progress)
    ended = clock.now()
    next_part("starting the search")
    await kernel.load(Bm25Ranker, name="ranker", placement="process", drain=setting.patience)
    await kernel.load(
        setting.search,
        name="search",
        placement="process",
        config={"candidates": CANDIDATES},
        drain=setting.patience,
    )
    return Indexed(
        setting.folder or "the standard library",
        filled.size.files,
        filled.size.symbols,
        filled.size.problems,
        round(ended - began, 3),
        filled.found,
        filled.walked,
        not filled.late,
        filled.left_out,
        filled.unreadable,
    )
