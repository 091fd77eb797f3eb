"""Who is served next, and how many at a time. Pure data: no I/O, no clock, no lock; one thread owns each.

Order: higher priority first; then, between callers, the earlier deadline; then fair shares among callers. Calls of one
caller and one priority never overtake each other, whatever their deadlines: a caller is placed by its oldest call.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
GRAIN_NS = 10_000_000  # deadlines in the same 10 ms are equal: calls with equal timeouts shall get fair shares


@dataclass(slots=True, eq=False)
class _Level(Generic[T]):
    """The fair shares of one priority: rounds, in each of which every waiting caller is served once."""

    priority: int
    round: int = 0
    # Callers that were served in this round and have nothing waiting. Were they forgotten, one that asks again after
    # each answer would be served twice in a round, for ever.
    served: set[int] = field(default_factory=set)
    flows: dict[int, "_Flow[T]"] = field(default_factory=dict)  # by caller; none that is empty


@dataclass(slots=True, eq=False)
class _Flow(Generic[T]):
    """What one caller has waiting at one priority."""

    caller: int
    level: _Level[T]
    turn: int  # the round in which its head is to be served
    items: OrderedDict[int, tuple[T, int, Hashable]] = field(default_factory=OrderedDict)  # by number, oldest first
    key: tuple[float, ...] | None = None  # the place of its head in the heap; an entry there with another is stale


class RunQueue(Generic[T]):
    """A mailbox of at most `bound` items, at least 1 (ValueError). Every operation takes O(log n), amortised."""

    def __init__(self, bound: int) -> None:
        if bound < 1:
            raise ValueError(f"bound: got {bound!r}, wanted at least 1")
        self._bound = bound
        self._levels: dict[int, _Level[T]] = {}  # by priority; none that is empty
        self._heads: list[tuple[tuple[float, ...], _Flow[T]]] = []  # a heap; one entry for each flow is not stale
        self._tokens: dict[Hashable, tuple[_Flow[T], int]] = {}
        self.length = self._number = 0

    def __len__(self) -> int:
        return self.length

    def push(self, item: T, *, caller: int, priority: int = 0, deadline_ns: int = 0, token: Hashable = None) -> bool:
        """Queue `item`; False when the queue is full, and its sender is to be told so. `deadline_ns`: 0 is none, and
        comes after any. `token`, if given, names the item for `remove`; ValueError if one such waits already."""
        if self.length >= self._bound:
            return False
        if token is not None and token in self._tokens:
            raise ValueError(f"token: got {token!r}, which is waiting already; wanted one that is not")
        if (level := self._levels.get(priority)) is None:
            level = self._levels[priority] = _Level(priority)
        if (flow := level.flows.get(caller)) is None:
            flow = level.flows[caller] = _Flow(caller, level, level.round + (caller in level.served))
            level.served.discard(caller)
        self._number += 1
        self.length += 1
        flow.items[self._number] = item, deadline_ns, token
        if token is not None:
            self._tokens[token] = flow, self._number
        if flow.key is None:
            self._place(flow)
        return True

    def first(self) -> T:
        """The item whose turn it is, left where it is. Raises IndexError when the queue is empty."""
        return next(iter(self._first().items.values()))[0]

    def pop(self) -> T:
        """Take the item whose turn it is. Raises IndexError when the queue is empty."""
        flow = self._first()
        level = flow.level
        if flow.turn > level.round:
            level.round = flow.turn
            level.served.clear()
        # One that deadlines held back is not owed the rounds it missed: it would starve those who came later.
        flow.turn = level.round + 1
        return self._take(flow, next(iter(flow.items)))

    def remove(self, token: Hashable) -> T | None:
        """Take out the item pushed with `token` (its call was cancelled); None if it is not waiting."""
        found = self._tokens.get(token)
        return None if found is None else self._take(*found)

    def highest(self) -> int | None:
        """The priority of the most urgent item that waits; None when nothing does."""
        return self._first().level.priority if self.length else None

    def _first(self) -> _Flow[T]:
        if not self.length:
            raise IndexError("the RunQueue is empty")
        while self._heads[0][1].key is not self._heads[0][0]:
            heapq.heappop(self._heads)
        return self._heads[0][1]

    def _place(self, flow: _Flow[T]) -> None:
        """Put the flow where its present head belongs; what the heap held of it becomes stale."""
        number, (_, deadline_ns, _) = next(iter(flow.items.items()))
        deadline = deadline_ns // GRAIN_NS if deadline_ns else math.inf
        flow.key = (-flow.level.priority, deadline, flow.turn, number)  # unique: flows are never compared
        heapq.heappush(self._heads, (flow.key, flow))

    def _take(self, flow: _Flow[T], number: int) -> T:
        was_head = next(iter(flow.items)) == number
        item, _, token = flow.items.pop(number)
        self.length -= 1
        self._tokens.pop(token, None)
        if was_head and flow.items:
            self._place(flow)
        elif was_head:
            flow.key = None
            level = flow.level
            del level.flows[flow.caller]
            if flow.turn > level.round:
                level.served.add(flow.caller)
            if not level.flows:
                del self._levels[level.priority]
        if len(self._heads) > 2 * self.length + 64:  # more stale than not: keep memory in proportion
            self._heads = [(key, flow) for key, flow in self._heads if flow.key is key]
            heapq.heapify(self._heads)
        return item


class Slots:
    """At most `limit` calls run at once (None: any number; ValueError below 1), at priorities that others may lend.
    A running call's effective priority is the higher of its own and, while all slots are taken, that of the most urgent
    call that waits for one. What a waiter lends ends when a slot is given back; it is stated anew, never added up."""

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit: got {limit!r}, wanted at least 1, or None")
        self._limit = limit
        self._running: dict[Hashable, int] = {}
        self._lent = -math.inf  # above that only while every slot is taken

    @property
    def full(self) -> bool:
        """Whether the next call has to wait."""
        return self._limit is not None and len(self._running) >= self._limit

    def enter(self, token: Hashable, priority: int) -> bool:
        """Take a slot; False when there is none. Raises ValueError for a token that runs already."""
        if token in self._running:
            raise ValueError(f"token: got {token!r}, which is running already; wanted one that is not")
        if self.full:
            return False
        self._running[token] = priority
        return True

    def leave(self, token: Hashable) -> None:
        """Give the slot back: nobody is blocked now, so nothing is lent. KeyError if it is not running."""
        del self._running[token]
        self._lent = -math.inf

    def inherit(self, priority: int | None) -> list[Hashable]:
        """State the priority of the most urgent waiter (`RunQueue.highest()`; None: none) when it changed. Returns the
        running calls that became more urgent: what they ask for from now on is to carry their `effective` priority."""
        before, self._lent = self._lent, -math.inf if priority is None or not self.full else priority
        return [token for token, own in self._running.items() if max(own, before) < self._lent]

    def effective(self, token: Hashable) -> int:
        """The priority at which a running call works now. Raises KeyError for a token that is not running."""
        return int(max(self._running[token], self._lent))
