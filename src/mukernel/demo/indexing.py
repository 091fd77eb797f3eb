"""Fills the index: the one place where walking, parsing and indexing meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from .interfaces import Files, Index, IndexSize, NoSuchFile, ParsedFile, Parser, UnreadableFile

BATCH = 32  # files of one transaction: enough to share its cost, few enough for a smooth progress bar

Progress = Callable[[int, int], None]  # files done, files in all


async def fill(files: Files, parser: Parser, index: Index, progress: Progress = lambda done, total: None) -> IndexSize:
    """Indexes every file, and tells `progress` after each batch.

    A file that vanishes is left out; one that can't be read is kept with its problem, and so counted.
    """
    await index.add([ParsedFile(path, [], problem) for path, problem in (await files.unreadable()).items()])
    paths = await files.paths()
    progress(0, len(paths))
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        await index.add(await parsed(files, parser, batch))
        progress(start + len(batch), len(paths))
    return await index.size()


async def parsed(files: Files, parser: Parser, paths: Sequence[str]) -> list[ParsedFile]:
    """The files, parsed at the same time where the parser has replicas, in the order of `paths`."""
    results = await asyncio.gather(*(parsed_file(files, parser, path) for path in paths))
    return [result for result in results if result is not None]


async def parsed_file(files: Files, parser: Parser, path: str) -> ParsedFile | None:
    """One file, or None if it has vanished since the folder was walked."""
    try:
        source = await files.read(path)
    except NoSuchFile:
        return None
    except UnreadableFile as error:
        return ParsedFile(path, [], str(error))
    return await parser.parse(path, source)
