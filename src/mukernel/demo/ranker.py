"""The plug-in that orders results, in two versions: the demo swaps the first for the second under load."""

from __future__ import annotations

from collections.abc import Iterator

from mukernel import Plugin

from .interfaces import Candidate, Hit, Ranker, Symbol
from .words import words_of


class Bm25Ranker(Plugin, Ranker):
    """Version 1: the order of the full-text index. Short texts come first, whatever they are."""

    async def rank(self, query: str, candidates: list[Candidate], limit: int) -> list[Hit]:
        ordered = sorted(candidates, key=lambda candidate: candidate.bm25)
        return [Hit(each.symbol, round(-each.bm25, 3), "bm25") for each in ordered[:limit]]


# What a reason adds to the score; bm25 itself seldom exceeds 20.
WEIGHTS = {
    "exact name": 40.0,
    "same words": 30.0,  # in another case or order, or written apart
    "in the name": 15.0,
    "names a part": 14.0,  # a name of several words, all of them asked for: read_text for "read text file"
    "every word": 10.0,  # in the name, what is around it, its documentation or its path
    "public": 6.0,
    "class": 5.0,
    "top level": 4.0,
    "documented": 3.0,
}


class SymbolRanker(Plugin, Ranker):
    """Version 2: knows what a name is. Exact, public, documented ones come first."""

    async def rank(self, query: str, candidates: list[Candidate], limit: int) -> list[Hit]:
        words = frozenset(words_of(query))
        hits = [scored(candidate, query.strip(), words) for candidate in candidates]
        # The place settles ties, so that equal scores keep their order from one call to the next.
        hits.sort(key=lambda hit: (-hit.score, hit.symbol.path, hit.symbol.line))
        return hits[:limit]


def scored(candidate: Candidate, query: str, words: frozenset[str]) -> Hit:
    """The candidate with its score by WEIGHTS, and the reasons for it."""
    reasons = list(reasons_for(candidate.symbol, query, words))
    score = -candidate.bm25 + sum(WEIGHTS[reason] for reason in reasons)
    return Hit(candidate.symbol, round(score, 3), ", ".join(reasons) or "bm25")


def reasons_for(symbol: Symbol, query: str, words: frozenset[str]) -> Iterator[str]:
    """The keys of WEIGHTS that hold for the symbol, asked for by this query, which has these words."""
    own = frozenset(words_of(symbol.name))
    if query in (symbol.name, symbol.qualified_name):
        yield "exact name"
    elif words == own:
        yield "same words"
    elif words <= own:
        yield "in the name"
    elif len(own) > 1 and own <= words:
        yield "names a part"
    elif words <= own.union(*map(words_of, (symbol.qualified_name, symbol.documentation, symbol.path))):
        yield "every word"
    if not any(part.startswith("_") for part in symbol.qualified_name.split(".")):
        yield "public"
    if symbol.kind == "class":
        yield "class"
    if "." not in symbol.qualified_name:
        yield "top level"
    if symbol.documentation:
        yield "documented"
