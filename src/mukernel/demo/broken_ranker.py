"""Two next versions of the ranker with a mistake in them, for the demo to roll back from.

Each mistake is found before any caller meets it: the first when the instance starts, the second when it is
asked whether it can serve.
"""

from __future__ import annotations

from mukernel import Plugin

from .interfaces import Candidate, Hit, Ranker, Symbol
from .ranker import WEIGHTS, scored
from .words import words_of


class UnnormalisedRanker(Plugin, Ranker):
    """Fails in `start`: it scales the weights to add up to one, but counts only reasons that were renamed."""

    async def start(self) -> None:
        total = sum(weight for reason, weight in WEIGHTS.items() if reason.startswith("name:"))
        self._weights = {reason: weight / total for reason, weight in WEIGHTS.items()}

    async def rank(self, query: str, candidates: list[Candidate], limit: int) -> list[Hit]:
        return ordered(query, candidates)[:limit]


class UpsideDownRanker(Plugin, Ranker):
    """Starts, but fails its health check: it puts the worst first."""

    async def health(self) -> None:
        """Ranks a known example. Raises RuntimeError if an exact name does not come first."""
        wanted, other = example("read"), example("read_later")
        first, *_ = await self.rank("read", [other, wanted], 2)
        if first.symbol != wanted.symbol:
            raise RuntimeError(f"rank('read') put {first.symbol.name!r} first, wanted {wanted.symbol.name!r}")

    async def rank(self, query: str, candidates: list[Candidate], limit: int) -> list[Hit]:
        return ordered(query, candidates)[::-1][:limit]


def ordered(query: str, candidates: list[Candidate]) -> list[Hit]:
    words = frozenset(words_of(query))
    return sorted((scored(each, query.strip(), words) for each in candidates), key=lambda hit: -hit.score)


def example(name: str) -> Candidate:
    return Candidate(Symbol(name, name, "function", "example.py", 1, "", ""), -1.0)
