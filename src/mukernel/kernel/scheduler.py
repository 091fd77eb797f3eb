"""Who is served next, and how many at a time. Pure data: no I/O, no clock, no lock; one thread owns each.

Order: higher priority first; then, between callers, the earlier deadline; then fair shares among callers.
Calls of one caller and one priority never overtake each other, whatever their deadlines: a caller is placed
by its oldest call.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Entry(Generic[T]):
    """One waiting item. Belongs to exactly one flow from push to pop; `waiting` is false ever after."""

    __slots__ = ("deadline_ns", "flow", "item", "number", "token", "waiting")

    def __init__(self, item: T, flow: "_Flow[T]", deadline_ns: int, token: Hashable, number: int) -> None:
        self.item, self.flow, self.deadline_ns, self.token = item, flow, deadline_ns, token
        self.number, self.waiting = number, True


class _Flow(Generic[T]):
    """What one caller has waiting at one priority, oldest first.

    `turn` is the round in which its head is to be served. `key` is the place of its head in the queue's heap;
    a heap entry whose key is not its flow's `key` is stale and is skipped.
    """

    __slots__ = ("caller", "entries", "key", "priority", "turn")

    def __init__(self, caller: int, priority: int) -> None:
        self.caller, self.priority, self.turn = caller, priority, 0
        self.entries: OrderedDict[int, _Entry[T]] = OrderedDict()
        self.key: tuple[float, ...] | None = None


class _Level:
    """The fair shares of one priority: rounds, in each of which every waiting caller is served once.

    `served` holds the callers that were served in the present round and have nothing waiting: were they
    forgotten, one that asks again after each answer would be served twice in a round, for ever. It is emptied
    when the round advances.
    """

    __slots__ = ("flows", "round", "served")

    def __init__(self) -> None:
        self.flows = 0  # how many have something waiting; a level with none is dropped with its rounds
        self.round = 0
        self.served: set[int] = set()


class RunQueue(Generic[T]):
    """A bounded mailbox of opaque items. Every operation takes O(log n), amortised.

    `bound` is the most items it holds. Deadlines in the same span of `grain_ns` nanoseconds count as equal,
    so that fair shares decide between them; the default compares them exactly, and a caller that fills the
    queue with the same timeout as others then is served in order of arrival. Raises ValueError for a bound or
    grain below 1.
    """

    def __init__(self, bound: int, *, grain_ns: int = 1) -> None:
        for field, value in (("bound", bound), ("grain_ns", grain_ns)):
            if value < 1:
                raise ValueError(f"{field}: got {value!r}, wanted at least 1")
        self._bound, self._grain = bound, grain_ns
        self._flows: dict[tuple[int, int], _Flow[T]] = {}  # by (priority, caller); none that is empty
        self._levels: dict[int, _Level] = {}
        self._heads: list[tuple[tuple[float, ...], _Flow[T]]] = []  # a heap; one valid entry for each flow
        self._deadlines: list[tuple[int, int, _Entry[T]]] = []  # a heap; may hold entries that no longer wait
        self._tokens: dict[Hashable, _Entry[T]] = {}
        self._length = self._number = 0

    def __len__(self) -> int:
        return self._length

    def push(
        self, item: T, *, caller: int, priority: int = 0, deadline_ns: int = 0, token: Hashable = None,
        urgent: bool = False,
    ) -> bool:  # fmt: skip
        """Queue `item`; False when the queue is full, and its sender is to be told so.

        `deadline_ns` 0 means none, and comes after any. `token`, if given, names the item for `remove`;
        ValueError if it is waiting already. `urgent` passes the bound: for the kernel's own few messages
        (cancel, stop), which overload must not shut out.
        """
        if self._length >= self._bound and not urgent:
            return False
        if token is not None and token in self._tokens:
            raise ValueError(f"token: got {token!r}, which is waiting already; wanted one that is not")
        flow = self._flows.get((priority, caller))
        if flow is None:
            flow = self._flows[priority, caller] = _Flow(caller, priority)
            level = self._levels.setdefault(priority, _Level())
            level.flows += 1
            flow.turn = level.round + (caller in level.served)
            level.served.discard(caller)
        self._number += 1
        entry = _Entry(item, flow, deadline_ns, token, self._number)
        flow.entries[entry.number] = entry
        self._length += 1
        if token is not None:
            self._tokens[token] = entry
        if deadline_ns:
            heapq.heappush(self._deadlines, (deadline_ns, entry.number, entry))
        if flow.key is None:
            self._place(flow)
        return True

    def first(self) -> T:
        """The item whose turn it is, left where it is. Raises IndexError when the queue is empty."""
        flow = self._first()
        if flow is None:
            raise IndexError("an empty RunQueue has no first")
        return next(iter(flow.entries.values())).item

    def pop(self) -> T:
        """Take the item whose turn it is. Raises IndexError when the queue is empty."""
        flow = self._first()
        if flow is None:
            raise IndexError("pop from an empty RunQueue")
        entry = next(iter(flow.entries.values()))
        level = self._levels[flow.priority]
        if flow.turn > level.round:
            level.round = flow.turn
            level.served.clear()
        # One that deadlines held back is not owed the rounds it missed: it would starve those who came later.
        flow.turn = max(flow.turn + 1, level.round)
        self._take_out(entry)
        return entry.item

    def remove(self, token: Hashable) -> T | None:
        """Take out the item pushed with `token` (its call was cancelled); None if it is not waiting."""
        entry = self._tokens.get(token)
        if entry is None:
            return None
        self._take_out(entry)
        return entry.item

    def raise_priority(self, token: Hashable, priority: int) -> bool:
        """Let the waiting item `token` inherit `priority`; False if it does not wait, or is as urgent."""
        entry = self._tokens.get(token)
        if entry is None or entry.flow.priority >= priority:
            return False
        self._take_out(entry)
        rest = {"caller": entry.flow.caller, "deadline_ns": entry.deadline_ns}
        return self.push(entry.item, priority=priority, token=token, urgent=True, **rest)

    def expire(self, now_ns: int) -> list[T]:
        """Take out and return the items whose deadline is at or before `now_ns`, the earliest first."""
        expired = []
        while self._deadlines and (self._deadlines[0][0] <= now_ns or not self._deadlines[0][2].waiting):
            entry = heapq.heappop(self._deadlines)[2]
            if entry.waiting:
                self._take_out(entry)
                expired.append(entry.item)
        return expired

    def highest(self) -> int | None:
        """The priority of the most urgent item that waits; None when nothing does."""
        flow = self._first()
        return None if flow is None else flow.priority

    def _first(self) -> _Flow[T] | None:
        while self._heads:
            key, flow = self._heads[0]
            if flow.key is key:
                return flow
            heapq.heappop(self._heads)
        return None

    def _place(self, flow: _Flow[T]) -> None:
        """Put the flow where its present head belongs; what the heap held of it becomes stale."""
        head = next(iter(flow.entries.values()))
        deadline = head.deadline_ns // self._grain if head.deadline_ns else math.inf
        # Unique by the number: flows are never compared.
        flow.key = (-flow.priority, deadline, flow.turn, head.number)
        heapq.heappush(self._heads, (flow.key, flow))

    def _take_out(self, entry: _Entry[T]) -> None:
        flow, entry.waiting = entry.flow, False
        was_head = next(iter(flow.entries)) == entry.number
        del flow.entries[entry.number]
        self._length -= 1
        if entry.token is not None:
            del self._tokens[entry.token]
        if not flow.entries:
            flow.key = None
            del self._flows[flow.priority, flow.caller]
            level = self._levels[flow.priority]
            level.flows -= 1
            if flow.turn > level.round:
                level.served.add(flow.caller)
            if not level.flows:
                del self._levels[flow.priority]
        elif was_head:
            self._place(flow)
        if len(self._heads) > 2 * len(self._flows) + 64:  # more stale than valid: keep memory in proportion
            self._heads = [(key, flow) for key, flow in self._heads if flow.key is key]
            heapq.heapify(self._heads)
        if len(self._deadlines) > 2 * self._length + 64:
            self._deadlines = [place for place in self._deadlines if place[2].waiting]
            heapq.heapify(self._deadlines)


class Slots:
    """At most `limit` calls run at once (None: any number), at priorities that those they hold up may lend.

    A running call's effective priority is the highest of its own, of what its caller inherited
    (`raise_priority`), and, while all slots are taken, of the most urgent call that waits for one
    (`inherit`). What waiters lend ends with the waiting: it is stated anew, never added up. Raises ValueError
    for a limit below 1.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit: got {limit!r}, wanted at least 1, or None")
        self._limit = limit
        self._running: dict[Hashable, int] = {}
        self._lent: int | None = None  # not None only while every slot is taken

    def __len__(self) -> int:
        return len(self._running)

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
        self._lent = None

    def inherit(self, priority: int | None) -> list[Hashable]:
        """State the priority of the most urgent waiter (`RunQueue.highest()`; None: none) when it changed.

        Returns the running calls that became more urgent by it. Whoever serves the calls that they in turn
        wait for is to be told `effective()` of each, by `raise_priority` on its queue and its slots: so it
        passes along a chain.
        """
        before = self._lent
        self._lent = priority if self.full else None
        if self._lent is None:
            return []
        floor = -math.inf if before is None else before
        return [token for token, own in self._running.items() if max(own, floor) < self._lent]

    def raise_priority(self, token: Hashable, priority: int) -> bool:
        """Let one running call inherit `priority` until it leaves; False if not running, or as urgent."""
        own = self._running.get(token)
        if own is None or own >= priority:
            return False
        self._running[token] = priority
        return True

    def effective(self, token: Hashable) -> int:
        """The priority at which a running call works now. Raises KeyError for a token that is not running."""
        own = self._running[token]
        return own if self._lent is None else max(own, self._lent)
