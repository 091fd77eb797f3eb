"""The story: what is done to the plug-ins while they are called, and whether it went as it should."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from mukernel import Clock, Kernel, SwapFailed, SwapReport
from mukernel.core.journal import Happening
from mukernel.core.place import RemotePlace

from .answers import NEW, OLD, Answers
from .broken_ranker import UnnormalisedRanker, UpsideDownRanker
from .interfaces import Hit
from .load import Load
from .ranker import SymbolRanker
from .summary import Event, Results

SHOWN = 5  # results of the query that is shown before and after
UNWANTED = ("hang", "given up", "restart failed")  # what must never happen to a plug-in


class Story:
    """Plays the steps of STEPS at equal distances. `happened` hears of each event, `compared` of results.

    `problems`: what did not go as it should, in words; `doing`: the step that comes next.
    """

    def __init__(
        self,
        kernel: Kernel,
        load: Load,
        answers: Answers,
        happened: Callable[[Event], object],
        compared: Callable[[Results], object],
        patience: float,
    ) -> None:
        self.kernel, self.load, self.answers, self.patience = kernel, load, answers, patience
        self.happened, self.compared = happened, compared
        self.clock = kernel.get(Clock)
        self.began = self.clock.now()
        self.events: list[Event] = []
        self.problems: list[str] = []
        self.doing = ""
        self.results = Results(answers.telling, [], [])
        self.killed: Counter[str] = Counter()  # instances of each plug-in that were killed here
        self.crashed: Counter[str] = Counter()
        self.restarted: dict[str, list[float]] = {}  # when instances of each plug-in served again
        self.news = asyncio.Event()
        kernel.listeners.append(self.heard)

    async def play(self, seconds: float) -> None:
        """Every step, one after the other, within about `seconds`; the load goes on between them."""
        self.results = Results(self.answers.telling, await self.shown_results(), [])
        distance = seconds / (len(STEPS) + 1)
        for number, (doing, step) in enumerate(STEPS, 1):
            self.doing = doing
            await self.clock.sleep(max(0.0, self.began + number * distance - self.clock.now()))
            try:
                await step(self)
            except Exception as error:
                self.tell(doing, "", f"{type(error).__name__}: {first_line(str(error))}", good=False)
        self.doing = "the load goes on"
        await self.clock.sleep(max(0.0, self.began + seconds - self.clock.now()))
        for name in self.crashed.keys() | self.killed.keys():
            if self.crashed[name] != self.killed[name]:
                self.problems.append(f"{name}: {self.crashed[name]} instances crashed, {self.killed[name]} were killed")

    # -- what is told ----------------------------------------------------------------------------------

    def tell(self, what: str, plugin: str, detail: str, pause: float | None = None, good: bool = True) -> None:
        event = Event(round(self.clock.now() - self.began, 3), what, plugin, detail, pause, good)
        self.events.append(event)
        if not good:
            self.problems.append(f"{what} {plugin}: {detail}")
        self.happened(event)

    def tell_report(self, report: SwapReport) -> None:
        detail = f"{report.before} → {report.after}"
        if report.what in ("swap", "move"):  # both sides are "CLASS PLACEMENT", of which one word has changed
            word = 0 if report.what == "swap" else 1
            detail = f"{report.before.split()[word]} → {report.after.split()[word]}"
        if report.carried_over:
            detail += f"; {report.carried_over} waiting calls carried over"
        self.tell(report.what, report.plugin, detail, report.pause if report.what != "scale" else None)

    def heard(self, happening: Happening) -> None:
        """The kernel has recorded something."""
        if happening.what == "crash":
            self.crashed[happening.plugin] += 1
        elif happening.what == "restart":
            self.restarted.setdefault(happening.plugin, []).append(happening.at)
            self.news.set()
        elif happening.what in UNWANTED:
            self.tell(happening.what, happening.plugin, first_line(happening.detail), good=False)

    # -- steps -----------------------------------------------------------------------------------------

    async def swap_ranker(self) -> None:
        """From here on only the new version's answers are right."""
        self.load.versions = frozenset({OLD, NEW})
        report = await self.kernel.swap("ranker", SymbolRanker)
        self.load.versions = frozenset({NEW})
        self.tell_report(report)
        self.results = Results(self.results.query, self.results.before, await self.shown_results())
        self.compared(self.results)
        known = self.answers.results[self.answers.telling]
        before, after = ([result_text(hit) for hit in known[version][:SHOWN]] for version in (OLD, NEW))
        if (self.results.before, self.results.after) != (before, after):
            self.problems.append(f"the results of {self.results.query!r} did not change as they should have")

    async def shown_results(self) -> list[str]:
        return [result_text(hit) for hit in (await self.load.ask(self.answers.telling))[:SHOWN]]

    async def move_index_out(self) -> None:
        self.tell_report(await self.kernel.move("index", "process"))

    async def move_index_in(self) -> None:
        self.tell_report(await self.kernel.move("index", "inline"))

    async def scale_search(self) -> None:
        self.tell_report(await self.kernel.scale("search", 3))

    async def kill_index(self) -> None:
        await self.kill({"index": 1})

    async def kill_search(self) -> None:
        await self.kill({"search": 1})

    async def kill_ranker(self) -> None:
        await self.kill({"ranker": 1})

    async def kill_everything(self) -> None:
        await self.kill({"search": 3, "ranker": 1})

    async def swap_for_one_that_does_not_start(self) -> None:
        await self.swap_in_vain(UnnormalisedRanker)

    async def swap_for_one_that_is_not_healthy(self) -> None:
        await self.swap_in_vain(UpsideDownRanker)

    async def swap_in_vain(self, broken: type) -> None:
        """A swap that must be rolled back, with the old version serving all the time."""
        try:
            report = await self.kernel.swap("ranker", broken)
        except SwapFailed as error:
            failed = getattr(error, "report", None)
            reason = failed.reason if isinstance(failed, SwapReport) and failed.reason else str(error)
            self.tell("rolled back", "ranker", f"→ {broken.__name__}: {first_line(reason)}")
        else:
            self.tell("swap", "ranker", f"{report.after} serves, wanted a rollback", good=False)

    async def kill(self, counts: dict[str, int]) -> None:
        """Kill instances with -9, the first ones of each plug-in, and wait until all serve again."""
        marks = {name: len(self.restarted.get(name, ())) for name in counts}
        began = self.clock.now()
        for name, count in counts.items():
            pids = []
            for replica in self.kernel.registry.entry(name).replicas[:count]:
                place = replica.instance.place if replica.instance is not None else None
                if isinstance(place, RemotePlace):
                    place.kill()
                    self.killed[name] += 1
                    pids.append(str(place.pid))
            self.tell("kill -9", name, f"pid {', '.join(pids)}", good=len(pids) == count)
        try:
            async with asyncio.timeout(self.patience):
                for name, count in counts.items():
                    while len(self.restarted.get(name, ())) < marks[name] + count:
                        self.news.clear()
                        await self.news.wait()
        except TimeoutError:
            late = f"not all serve again after {self.patience:g} s"
            self.tell("kill -9", ", ".join(counts), late, good=False)
            return
        for name in counts:
            self.tell("serves again", name, "restarted, its mailbox kept", self.restarted[name][-1] - began)


STEPS: tuple[tuple[str, Callable[[Story], Awaitable[None]]], ...] = (
    ("next: swap the ranker for a better one", Story.swap_ranker),
    ("next: move the index from the kernel's process to one of its own", Story.move_index_out),
    ("next: kill -9 the index", Story.kill_index),
    ("next: move the index back", Story.move_index_in),
    ("next: scale the search to three processes", Story.scale_search),
    ("next: kill -9 one search", Story.kill_search),
    ("next: swap the ranker for one that does not start", Story.swap_for_one_that_does_not_start),
    ("next: swap the ranker for one that fails its health check", Story.swap_for_one_that_is_not_healthy),
    ("next: kill -9 the ranker", Story.kill_ranker),
    ("next: kill -9 every search and the ranker at once", Story.kill_everything),
)


def result_text(hit: Hit) -> str:
    return f"{hit.symbol.qualified_name}  {hit.symbol.path}:{hit.symbol.line}"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
