"""The order in which calls are served, against a plain model; bounds; concurrency; inherited priority."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mukernel.kernel.scheduler import GRAIN_NS, RunQueue, Slots

NEVER = 1000 * GRAIN_NS
SOONER = 5 * GRAIN_NS, 9 * GRAIN_NS
CALLS = some.lists(
    some.tuples(some.integers(0, 3), some.integers(-1, 2), some.sampled_from([0, 0, GRAIN_NS, 2 * GRAIN_NS])),
    max_size=60,
)


def drained(queue: RunQueue[Any]) -> list[Any]:
    return [queue.pop() for _ in range(len(queue))]


def test_priority_then_deadline_then_turns() -> None:
    queue: RunQueue[str] = RunQueue(100)
    queue.push("late", caller=1, deadline_ns=300 * GRAIN_NS)
    queue.push("none", caller=2)
    queue.push("soon", caller=3, deadline_ns=100 * GRAIN_NS)
    queue.push("urgent", caller=4, priority=5)
    assert queue.highest() == 5
    assert drained(queue) == ["urgent", "soon", "late", "none"]
    assert queue.highest() is None


def test_deadlines_never_reorder_one_caller() -> None:
    queue: RunQueue[str] = RunQueue(100)
    queue.push("first", caller=1, deadline_ns=900 * GRAIN_NS)
    queue.push("second", caller=1, deadline_ns=100 * GRAIN_NS)
    queue.push("other", caller=2, deadline_ns=500 * GRAIN_NS)
    assert drained(queue) == ["other", "first", "second"]


@given(CALLS)
def test_priorities_hold_and_each_caller_is_served_in_order(calls: list[tuple[int, int, int]]) -> None:
    queue: RunQueue[tuple[int, int, int]] = RunQueue(len(calls) + 1)
    for number, (caller, priority, deadline) in enumerate(calls):
        assert queue.push((-priority, caller, number), caller=caller, priority=priority, deadline_ns=deadline)
    served = drained(queue)
    assert [priority for priority, _, _ in served] == sorted(-priority for _, priority, _ in calls)
    for flow in {(priority, caller) for priority, caller, _ in served}:
        numbers = [number for priority, caller, number in served if (priority, caller) == flow]
        assert numbers == sorted(numbers)
    assert sorted(number for _, _, number in served) == list(range(len(calls)))


@given(CALLS)
def test_the_earliest_deadline_among_the_callers_oldest_calls_goes_first(
    calls: list[tuple[int, int, int]],
) -> None:
    queue: RunQueue[tuple[int, int]] = RunQueue(len(calls) + 1)
    waiting: dict[int, list[int]] = {}
    for caller, _, deadline in calls:
        queue.push((caller, deadline), caller=caller, deadline_ns=deadline)
        waiting.setdefault(caller, []).append(deadline or NEVER)
    while len(queue):
        caller, deadline = queue.pop()
        assert (deadline or NEVER) == min(deadlines[0] for deadlines in waiting.values() if deadlines)
        waiting[caller].pop(0)


@given(some.lists(some.integers(1, 50), min_size=2, max_size=8))
def test_shares_are_equal_while_all_wait(backlogs: list[int]) -> None:
    queue: RunQueue[int] = RunQueue(1000)
    for caller, backlog in enumerate(backlogs):
        for _ in range(backlog):
            queue.push(caller, caller=caller)
    for _ in range(min(backlogs)):
        assert sorted(queue.pop() for _ in backlogs) == list(range(len(backlogs)))


def test_thousand_of_one_caller_do_not_starve_the_one_of_another() -> None:
    queue: RunQueue[str] = RunQueue(2000)
    for _ in range(1000):
        queue.push("greedy", caller=1)
    for _ in range(500):
        queue.pop()
    queue.push("modest", caller=2)
    assert "modest" in [queue.pop(), queue.pop()]


def test_one_that_asks_again_after_each_answer_does_not_starve_the_backlogged() -> None:
    queue: RunQueue[str] = RunQueue(100)
    for _ in range(20):
        queue.push("backlogged", caller=1)
    queue.push("again", caller=2)
    served = Counter[str]()
    for _ in range(30):
        item = queue.pop()
        served[item] += 1
        if item == "again":
            queue.push("again", caller=2)
    assert served == {"again": 15, "backlogged": 15}


def test_one_that_comes_back_later_is_served_at_once() -> None:
    queue: RunQueue[str] = RunQueue(100)
    queue.push("back", caller=2)
    for _ in range(20):
        queue.push("backlogged", caller=1)
    assert [queue.pop() for _ in range(4)] == ["back", "backlogged", "backlogged", "backlogged"]
    queue.push("back", caller=2)
    assert queue.pop() == "back"


def test_one_that_deadlines_held_back_is_not_owed_the_turns_it_missed() -> None:
    queue: RunQueue[str] = RunQueue(100)
    for _ in range(30):
        queue.push("held back", caller=1)
        queue.push("hasty", caller=2, deadline_ns=1)
    assert [queue.pop() for _ in range(30)] == ["hasty"] * 30
    queue.push("newcomer", caller=3)
    assert "newcomer" in [queue.pop() for _ in range(3)]


def test_cancelling_is_no_way_to_a_second_turn() -> None:
    queue: RunQueue[str] = RunQueue(100)
    for _ in range(20):
        queue.push("backlogged", caller=1)
    served = Counter[str]()
    for token in range(20):
        queue.push("clever", caller=2)
        queue.push("clever", caller=2, token=token)
        served[queue.pop()] += 1
        served[queue.pop()] += 1
        queue.remove(token)
    assert served["backlogged"] == 20


@given(some.data())
@settings(max_examples=50)
def test_nobody_starves_whatever_the_others_do(data: some.DataObject) -> None:
    """A call without a deadline, among others without, is served after at most two of each other caller."""
    queue: RunQueue[int] = RunQueue(1000)
    others = data.draw(some.integers(1, 4))
    calls = data.draw(some.lists(some.tuples(some.integers(1, others), some.sampled_from([0, 5])), max_size=30))
    for token, (caller, deadline) in enumerate(calls):
        queue.push(caller, caller=caller, deadline_ns=deadline * GRAIN_NS, token=token)
    for _ in range(data.draw(some.integers(0, len(queue)))):
        queue.pop()
    for token, (_, deadline) in enumerate(calls):  # those with a deadline go: what they did to the turns must not last
        if deadline:
            queue.remove(token)
    queue.push(0, caller=0)
    before = Counter[int]()
    while True:
        for caller in data.draw(some.lists(some.integers(1, others), max_size=3)):
            queue.push(caller, caller=caller)
        served = queue.pop()
        if served == 0:
            break
        before[served] += 1
        assert before[served] <= 2


def test_shares_decide_between_deadlines_that_are_close() -> None:
    queue = RunQueue[str](100)
    for number in range(10):
        queue.push("greedy", caller=1, deadline_ns=5 * GRAIN_NS + number)
    queue.push("modest", caller=2, deadline_ns=5 * GRAIN_NS + 500)
    queue.push("sooner", caller=3, deadline_ns=5 * GRAIN_NS - 1)
    assert drained(queue)[:3] == ["sooner", "greedy", "modest"]


def test_bound() -> None:
    queue: RunQueue[int] = RunQueue(2)
    assert [queue.push(number, caller=number) for number in range(3)] == [True, True, False]
    assert len(queue) == 2
    assert queue.first() == 0
    assert drained(queue) == [0, 1]
    for take in (queue.first, queue.pop):
        with pytest.raises(IndexError):
            take()


@pytest.mark.parametrize("make", [RunQueue, Slots])
def test_bounds_that_are_none(make: type[Any]) -> None:
    with pytest.raises(ValueError, match="got 0, wanted at least 1"):
        make(0)


def test_tokens() -> None:
    queue: RunQueue[str] = RunQueue(10)
    for name in "abcd":
        queue.push(name, caller=1, priority=name == "c", token=name)
    with pytest.raises(ValueError, match="token: got 'c', which is waiting already"):
        queue.push("again", caller=1, token="c")
    assert queue.remove("b") == "b"
    assert queue.remove("b") is None
    assert queue.highest() == 1
    assert queue.first() == queue.remove("c") == "c"
    assert queue.highest() == 0
    assert drained(queue) == ["a", "d"]
    assert queue.remove("a") is None


def test_memory_stays_in_proportion_however_much_is_cancelled() -> None:
    queue: RunQueue[int] = RunQueue(10)
    queue.push(-1, caller=0, deadline_ns=10**9, token=-1)
    for number in range(5000):
        queue.push(number, caller=number % 7, deadline_ns=10**9, token=number)
        queue.remove(number)
    assert len(queue) == 1
    (level,) = queue._levels.values()
    held = [queue._heads, queue._tokens, queue._levels, level.flows, level.served, level.flows[0].items]
    assert max(map(len, held)) < 100  # type: ignore[arg-type]


class QueueAgainstModel(RuleBasedStateMachine):
    """Operations in any order: the queue holds what a dictionary says, and serves in an allowed order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: RunQueue[int] = RunQueue(8)
        self.model: dict[int, tuple[int, int, int]] = {}  # number: (priority, caller, deadline), oldest first
        self.number = 0

    @rule(caller=some.integers(0, 2), priority=some.integers(0, 1), deadline=some.sampled_from([0, *SOONER]))
    def push(self, caller: int, priority: int, deadline: int) -> None:
        self.number += 1
        accepted = self.queue.push(
            self.number, caller=caller, priority=priority, deadline_ns=deadline, token=self.number
        )
        assert accepted == (len(self.model) < 8)
        if accepted:
            self.model[self.number] = priority, caller, deadline

    @precondition(lambda self: self.model)
    @rule()
    def pop(self) -> None:
        number = self.queue.pop()
        priority, caller, deadline = self.model[number]
        assert priority == max(place[0] for place in self.model.values())
        heads: dict[int, tuple[int, int]] = {}
        for other, place in self.model.items():
            if place[0] == priority:
                heads.setdefault(place[1], (other, place[2] or NEVER))
        assert heads[caller][0] == number
        assert (deadline or NEVER) == min(head for _, head in heads.values())
        del self.model[number]

    @rule(number=some.integers(1, 60))
    def remove(self, number: int) -> None:
        assert self.queue.remove(number) == (number if self.model.pop(number, None) else None)

    @invariant()
    def same_size(self) -> None:
        assert len(self.queue) == len(self.model)
        assert self.queue.highest() == max((place[0] for place in self.model.values()), default=None)


TestQueueAgainstModel = QueueAgainstModel.TestCase


def test_slots_limit() -> None:
    slots = Slots(2)
    assert [slots.enter(token, 0) for token in "abc"] == [True, True, False]
    assert slots.full
    with pytest.raises(ValueError, match="token: got 'a', which is running already"):
        slots.enter("a", 0)
    slots.leave("a")
    assert slots.enter("c", 0)
    with pytest.raises(KeyError):
        slots.leave("a")
    unlimited = Slots(None)
    assert all(unlimited.enter(token, 0) for token in range(10_000))
    assert not unlimited.full and unlimited.inherit(9) == []


def test_inheritance_lasts_as_long_as_the_waiting() -> None:
    slots = Slots(2)
    slots.enter("low", 1)
    assert slots.inherit(9) == []  # a slot is free: nobody is blocked
    assert slots.effective("low") == 1
    slots.enter("high", 5)
    assert slots.inherit(3) == ["low"]
    assert (slots.effective("low"), slots.effective("high")) == (3, 5)
    assert slots.inherit(9) == ["low", "high"]
    assert slots.inherit(9) == []  # nothing new
    assert slots.inherit(None) == []  # the waiter gave up
    assert (slots.effective("low"), slots.effective("high")) == (1, 5)
    slots.inherit(9)
    slots.leave("high")
    assert slots.effective("low") == 1
    with pytest.raises(KeyError):
        slots.effective("high")


def test_inheritance_passes_along_a_chain() -> None:
    """An urgent call waits for B, where b runs and asks A, whose slot x holds: it asks at what it was lent."""
    slots_b, slots_a, queue_a = Slots(1), Slots(1), RunQueue[str](10)
    slots_b.enter("b", 0)
    slots_a.enter("x", 0)
    assert slots_b.inherit(9) == ["b"]
    queue_a.push("a", caller=1, priority=slots_b.effective("b"))
    queue_a.push("y", caller=2, priority=4)
    assert slots_a.inherit(queue_a.highest()) == ["x"]
    assert slots_a.effective("x") == 9
    slots_a.leave("x")
    assert queue_a.pop() == "a"
