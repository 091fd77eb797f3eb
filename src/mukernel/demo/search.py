"""The plug-in that people ask: it has the index find, and the ranker order."""

from __future__ import annotations

from mukernel import Plugin

from .interfaces import Hit, Index, Ranker, Search

MOST = 200  # results of one search: nobody reads more, and a message has a size


class CodeSearch(Plugin, Search):
    """Searches with the index and the ranker that it is given.

    candidates: how many symbols the ranker may choose from
    """

    def __init__(self, index: Index, ranker: Ranker, *, candidates: int = 60) -> None:
        if candidates < 1:
            raise ValueError(f"CodeSearch: candidates is {candidates}, wanted 1 or more")
        self._index = index
        self._ranker = ranker
        self._candidates = candidates

    async def search(self, query: str, limit: int = 10) -> list[Hit]:
        wanted = min(limit, MOST)
        if wanted < 1 or not query.strip():
            return []
        candidates = await self._index.find(query, max(wanted, self._candidates))
        return await self._ranker.rank(query, candidates, wanted)
