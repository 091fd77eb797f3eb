"""The load's account, against searches that are known to be right, stale, wrong, broken and silent."""

from __future__ import annotations

import asyncio

import pytest

from mukernel.demo.answers import NEW, OLD, Answers
from mukernel.demo.interfaces import Hit, Search, Symbol
from mukernel.demo.load import Load, percentile
from mukernel.demo.summary import PluginLedger, calls_of, problems_of
from mukernel.kernel.clock import Clock

QUIET = PluginLedger(accepted=1, replied=1, refused=0, running=0, waiting=0, lost=0)


def hit(name: str) -> Hit:
    return Hit(Symbol(name, name, "function", "a.py", 1, "", ""), 1.0, "bm25")


ANSWERS = Answers({"q": {OLD: [hit("old")], NEW: [hit("new")]}}, "q")


class Fixed(Search):
    """Answers by what it was given; an exception is raised, and None is never answered."""

    def __init__(self, answer: list[Hit] | Exception | None) -> None:
        self.answer = answer
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def search(self, query: str, limit: int = 10) -> list[Hit]:
        self.asked.set()
        await self.go_on.wait()
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer


def load_of(search: Search) -> Load:
    return Load(search, ANSWERS, Clock(), callers=1)


async def test_a_right_answer() -> None:
    load = load_of(Fixed([hit("old")]))
    await load.ask("q")
    assert (load.account.made, load.account.right, load.account.good) == (1, 1, True)


@pytest.mark.parametrize("answer", [[], [hit("new")], [hit("other")], [hit("old"), hit("old")]])
async def test_a_wrong_or_premature_answer(answer: list[Hit]) -> None:
    load = load_of(Fixed(answer))
    await load.ask("q")
    assert (load.account.right, load.account.wrong, load.account.good) == (0, 1, False)
    assert "wanted the answer of ranker version 1" in load.problems[0]


async def test_a_stale_answer_after_the_swap() -> None:
    load = load_of(Fixed([hit("old")]))
    load.versions = frozenset({NEW})
    await load.ask("q")
    assert load.account.wrong == 1
    assert "answered that of version 1, wanted the answer of ranker version 2" in load.problems[0]


@pytest.mark.parametrize("answer", ["old", "new"])
async def test_during_the_swap_either_answer_is_right(answer: str) -> None:
    search = Fixed([hit(answer)])
    load = load_of(search)
    search.go_on.clear()
    call = asyncio.create_task(load.ask("q"))
    await search.asked.wait()
    load.versions = frozenset({NEW})  # the whole swap happened while the call was under way
    search.go_on.set()
    await call
    assert load.account.right == 1


async def test_an_error_is_counted_by_its_type() -> None:
    load = load_of(Fixed(LookupError("gone")))
    await load.ask("q")
    assert load.account.failed == {"LookupError": 1}
    assert "gone" in load.problems[0]
    assert load.account.under_way == 0


async def test_a_silent_call_is_hung() -> None:
    search = Fixed(None)
    load = load_of(search)
    load.start()
    await search.asked.wait()
    await load.stop(patience=0.0)
    assert (load.account.made, load.account.hung, load.account.good) == (1, 1, False)
    assert "no outcome" in load.problems[0]


async def test_every_call_of_a_load_has_an_outcome() -> None:
    load = Load(Fixed([hit("old")]), ANSWERS, Clock(), callers=4)
    load.start()
    await load.tasks[0].get_loop().run_in_executor(None, lambda: None)
    await load.stop(patience=60.0)
    assert load.account.made == load.account.right > 0
    assert load.rates().calls > 0


async def test_no_call_at_all_is_a_problem() -> None:
    assert problems_of(calls_of(load_of(Fixed(None)), 1.0), {"search": QUIET}) == ["the load made no call"]


@pytest.mark.parametrize(
    ("ledger", "problem"),
    [
        (PluginLedger(1, 0, 0, 0, 0, 1), "misses 1 of 1"),
        (PluginLedger(1, 0, 0, 1, 0, 0), "1 calls run and 0 wait"),
        (PluginLedger(1, 0, 0, 0, 1, 0), "0 calls run and 1 wait"),
        (PluginLedger(0, 0, 0, 0, 0, 0), "made 1 calls, the ledger accepted 0"),
    ],
)
async def test_a_ledger_that_contradicts_the_load(ledger: PluginLedger, problem: str) -> None:
    load = load_of(Fixed([hit("old")]))
    await load.ask("q")
    assert problems_of(calls_of(load, 1.0), {"search": QUIET}) == []
    (found,) = problems_of(calls_of(load, 1.0), {"search": ledger})
    assert problem in found


def test_percentiles() -> None:
    values = [float(value) for value in range(100)]
    assert (percentile(values, 50), percentile(values, 99), percentile([], 50)) == (50.0, 99.0, 0.0)
