"""What the search must answer: the results of both versions of the ranker, worked out without the search."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from .interfaces import Hit, Index
from .queries import queries
from .ranker import Bm25Ranker, SymbolRanker

SAMPLED = 400  # symbols that queries are made of
DIFFERENT = 120  # queries; the load asks them over and over
SEED = 20  # so that two runs over the same source ask the same
RESULTS = 10  # hits of one search
CANDIDATES = 60  # what the ranker chooses from, as the demo configures CodeSearch

OLD, NEW = 1, 2  # the ranker's versions


@dataclass(frozen=True)
class Answers:
    """For each query, the results of each version of the ranker. `telling`: the query they differ most in."""

    results: dict[str, dict[int, list[Hit]]]
    telling: str

    @property
    def queries(self) -> list[str]:
        return list(self.results)

    def version_of(self, query: str, hits: list[Hit]) -> frozenset[int]:
        """Which versions answer `query` by exactly `hits`; none if the answer is wrong."""
        return frozenset(version for version, right in self.results[query].items() if right == hits)


async def known_answers(index: Index) -> Answers:
    """Asks the index, while it is alone, and ranks in this process. Raises ValueError without symbols."""
    old, new = Bm25Ranker(), SymbolRanker()
    results = {}
    endless = queries(await index.sample(SAMPLED), SEED)
    for query in itertools.islice(endless, DIFFERENT):
        if query.strip():
            found = await index.find(query, CANDIDATES)
            results[query] = {
                OLD: await old.rank(query, found, RESULTS),
                NEW: await new.rank(query, found, RESULTS),
            }
    return Answers(results, max(results, key=lambda query: difference(query, results[query])))


def difference(query: str, results: dict[int, list[Hit]]) -> tuple[int, int]:
    """How well a query tells the versions apart: new names among the first five; then the shorter one."""
    names = {version: [hit.symbol.qualified_name for hit in hits[:5]] for version, hits in results.items()}
    return len(set(names[NEW]) - set(names[OLD])), -len(query)
