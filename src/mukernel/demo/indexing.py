"""Fills the index: the one place where walking, parsing and indexing meet."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mukernel import Clock

from .interfaces import Files, Index, IndexSize, NoSuchFile, ParsedFile, Parser, UnreadableFile

BATCH = 32  # files of one transaction: enough to share its cost, few enough for a smooth progress bar
NO_PYTHON = f"not valid Python {sys.version_info.major}.{sys.version_info.minor}"  # why a file is counted as unreadable
WALK = 0.4  # of the time, at most, goes into walking the folder

Progress = Callable[[int, int], None]  # files done, files in all


@dataclass(frozen=True)
class Filled:
    """What became of it. `found`: the files that there are, as far as the folder was walked. `late`: the time was over
    before every file had its turn; `walked`: the folder was walked to its end. `left_out`, `unreadable`: how many were,
    for each reason."""

    size: IndexSize
    found: int
    late: bool
    walked: bool
    left_out: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)


async def fill(
    files: Files,
    parser: Parser,
    index: Index,
    clock: Clock,
    seconds: float,
    progress: Progress = lambda done, total: None,
) -> Filled:
    """Indexes every file, or those whose turn comes within so many seconds; tells `progress` after each batch.

    A file that vanishes is left out; one that can't be read is kept with its problem, and so counted.
    """
    until = clock.now() + seconds
    walk = await files.walk(seconds * WALK)
    unreadable = Counter(walk.unreadable.values())
    await index.add([ParsedFile(path, [], problem, source=False) for path, problem in walk.unreadable.items()])
    total, done = len(walk.paths), 0
    progress(0, total)
    for start in range(0, total, BATCH):
        batch = walk.paths[start : start + BATCH]
        ended = await parsed(files, parser, batch, until - clock.now())
        files_read = [each for each in ended if each is not None]
        unreadable.update(NO_PYTHON if each.source else each.problem for each in files_read if each.problem)
        await index.add(files_read)
        done += len(ended)
        progress(done, total)
        if len(ended) < len(batch):
            break
    found, late = total + len(walk.unreadable), done < total or not walk.whole
    return Filled(await index.size(), found, late, walk.whole, walk.left_out, dict(unreadable))


async def parsed(files: Files, parser: Parser, paths: Sequence[str], seconds: float) -> list[ParsedFile | None]:
    """The files, parsed at the same time where the parser has replicas, in the order of `paths`; without those that
    would take longer than so many seconds."""
    if seconds <= 0:
        return []
    tasks = [asyncio.create_task(parsed_file(files, parser, path)) for path in paths]
    try:
        await asyncio.wait(tasks, timeout=seconds)
        return [task.result() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def parsed_file(files: Files, parser: Parser, path: str) -> ParsedFile | None:
    """One file, or None if it has vanished since the folder was walked."""
    try:
        source = await files.read(path)
    except NoSuchFile:
        return None
    except UnreadableFile as error:
        return ParsedFile(path, [], str(error).removeprefix(f"Files.read: {path} "), source=False)
    return await parser.parse(path, source)
