"""The steady load: concurrent callers that search without pause, and an account of their own of every call.

The account owes nothing to the kernel: it counts a call before it is made and its outcome after, and looks at
each answer. So it can contradict the kernel's ledger.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from dataclasses import dataclass, field

from mukernel import Clock

from .answers import OLD, RESULTS, Answers
from .interfaces import Hit, Search

WINDOW = 1.0  # seconds that rates and percentiles look back
REMEMBERED = 5  # problems told in full; the others are only counted


@dataclass(slots=True)
class Account:
    """What became of the calls: each has one outcome. What is under way when the load has ended is hung."""

    made: int = 0
    right: int = 0
    wrong: int = 0
    hung: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # by the type of the error

    @property
    def under_way(self) -> int:
        """Made, and without an outcome yet."""
        return self.made - self.right - self.wrong - self.hung - self.failed.total()

    @property
    def good(self) -> bool:
        """Some call was made, and every one was answered rightly."""
        return self.made > 0 and self.made == self.right


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the last WINDOW: calls a second, and the latency in seconds of the median and of the slowest 1 %."""

    calls: float = 0.0
    p50: float = 0.0
    p99: float = 0.0


class Load:
    """`callers` searches at a time, each caller with the next query as soon as it has its answer.

    `versions`: whose answers are right now; the story sets it, to both while the ranker is being swapped.
    """

    def __init__(self, search: Search, answers: Answers, clock: Clock, callers: int) -> None:
        self.search, self.answers, self.clock, self.callers = search, answers, clock, callers
        self.account = Account()
        self.problems: list[str] = []
        self.versions: frozenset[int] = frozenset({OLD})
        self.latencies: list[float] = []
        self.recent: deque[tuple[float, float]] = deque()  # when a call ended, its latency
        self.queries = itertools.cycle(answers.queries)
        self.stopping = False
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.keep_asking()) for _ in range(self.callers)]

    async def stop(self, patience: float) -> None:
        """Let every call end; what has not after `patience` seconds is hung. For good."""
        self.stopping = True
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=patience)
        left = [task for task in self.tasks if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if left:
            self.remember(f"{len(left)} calls had no outcome {patience:g} s after the last was made")

    async def keep_asking(self) -> None:
        while not self.stopping:
            await self.ask(next(self.queries))
            await asyncio.sleep(0)  # a call that needs no message must not keep the loop to itself

    async def ask(self, query: str) -> list[Hit]:
        """One call, accounted for; its answer, or nothing where it failed."""
        began, allowed = self.clock.now(), self.versions
        self.account.made += 1
        try:
            hits = await self.search.search(query, RESULTS)
        except asyncio.CancelledError:
            self.account.hung += 1
            raise
        except Exception as error:
            self.account.failed[type(error).__name__] += 1
            self.remember(f"search({query!r}) raised {type(error).__name__}: {error}")
            return []
        ended = self.clock.now()
        self.latencies.append(ended - began)
        self.recent.append((ended, ended - began))
        given = self.answers.version_of(query, hits)
        if given & (allowed | self.versions):  # a swap may have begun and ended while it was under way
            self.account.right += 1
        else:
            self.account.wrong += 1
            self.remember(self.complaint(query, hits, given))
        return hits

    def complaint(self, query: str, hits: list[Hit], given: frozenset[int]) -> str:
        wanted = " or ".join(str(version) for version in sorted(self.versions))
        found = f"that of version {min(given)}" if given else f"{len(hits)} hits that no version gives"
        return f"search({query!r}) answered {found}, wanted the answer of ranker version {wanted}"

    def remember(self, problem: str) -> None:
        if len(self.problems) < REMEMBERED:
            self.problems.append(problem)

    def rates(self) -> Rates:
        """Of the calls that ended within the last WINDOW seconds."""
        limit = self.clock.now() - WINDOW
        while self.recent and self.recent[0][0] < limit:
            self.recent.popleft()
        latencies = [latency for _, latency in self.recent]
        return Rates(len(latencies) / WINDOW, percentile(latencies, 50), percentile(latencies, 99))


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` % of the others don't exceed; 0.0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
