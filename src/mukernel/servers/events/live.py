"""Who subscribes now: events that are kept in memory only, for who is there when they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from .bell import Bell
from .event_size import size_of
from .interface import Delivery, Subscription
from .topics import matches

GRACE = 5.0  # seconds that a subscriber has to come back for more
BATCH = 64  # events that are sent together, of about LARGE bytes
LARGE = 256 * 1024
WAITING = 64 * 1024 * 1024  # bytes that wait for one subscriber at most
KNOWN_TOPICS = 4096  # topics whose subscribers are remembered


class LiveState(msgspec.Struct):
    """What a swap hands over of one subscriber."""

    asked: Subscription
    waiting: list[Delivery]
    missed: int


class LiveSubscriber:
    """What waits for one subscriber: at most its `prefetch`, and WAITING bytes; the oldest goes when there is more, and
    is counted."""

    def __init__(self, asked: Subscription) -> None:
        self.asked = asked
        self.waiting: deque[Delivery] = deque()
        self.size = 0  # bytes that wait
        self.missed = 0
        self.bell = Bell()
        self.attached = 0  # streams that take from it; usually one
        self.left_at = 0.0  # when the last one ended

    def put(self, event: Delivery) -> int:
        """Returns how many were dropped for it."""
        self.waiting.append(event)
        self.size += size_of(event)
        dropped = 0
        while len(self.waiting) > self.asked.prefetch or (self.size > WAITING and len(self.waiting) > 1):
            self._first()
            dropped += 1
        self.missed += dropped
        self.bell.ring()
        return dropped

    def _first(self) -> Delivery:
        event = self.waiting.popleft()
        self.size -= size_of(event)
        return event

    def take(self) -> list[Delivery]:
        """The next events; the first says how many were missed before it."""
        taken: list[Delivery] = []
        size = 0
        while self.waiting and len(taken) < BATCH and size < LARGE:
            taken.append(self._first())
            size += size_of(taken[-1])
        if taken and self.missed:
            taken[0] = msgspec.structs.replace(taken[0], missed=self.missed)
            self.missed = 0
        return taken


class LiveSubscribers:
    """All of them. `now`: monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.members: dict[str, LiveSubscriber] = {}
        self.known: dict[str, list[LiveSubscriber]] = {}
        self.missed = 0
        self.turn = 0

    def attach(self, asked: Subscription) -> LiveSubscriber:
        """A subscriber that comes, or comes back."""
        found = self.members.get(asked.member)
        if found is None or found.asked != asked:
            found = self.members[asked.member] = LiveSubscriber(asked)
            self.known.clear()
        found.attached += 1
        return found

    def detach(self, subscriber: LiveSubscriber, gone: bool) -> None:
        """Its stream has ended. `gone`: it does not come back."""
        subscriber.attached -= 1
        subscriber.left_at = self.now()
        if gone and not subscriber.attached:
            self._remove(subscriber)

    def _remove(self, subscriber: LiveSubscriber) -> None:
        if self.members.get(subscriber.asked.member) is subscriber:
            del self.members[subscriber.asked.member]
        self.known.clear()
        if subscriber.asked.group:  # the others of its group are there yet
            for event in subscriber.waiting:
                self._put_to_group(event, subscriber.asked)

    def publish(self, event: Delivery) -> None:
        """Give an event to everybody who listens, and to one member of each group."""
        listening = self._listening(event.topic)
        limit = self.now() - GRACE
        late = [each for each in listening if not each.attached and each.left_at < limit]
        for each in late:
            self._remove(each)
        if late:
            listening = self._listening(event.topic)
        groups: dict[tuple[str, str], list[LiveSubscriber]] = {}
        for each in listening:
            if each.asked.group:
                groups.setdefault((each.asked.group, each.asked.pattern), []).append(each)
            else:
                self.missed += each.put(event)
        for members in groups.values():
            self._put_to_one(event, members)

    def _put_to_group(self, event: Delivery, asked: Subscription) -> None:
        same = (asked.group, asked.pattern)
        members = [each for each in self.members.values() if (each.asked.group, each.asked.pattern) == same]
        if members:
            self._put_to_one(event, members)

    def _put_to_one(self, event: Delivery, members: list[LiveSubscriber]) -> None:
        """To the member that is least behind; of several, each in turn."""
        self.turn += 1
        first = self.turn % len(members)
        self.missed += min([*members[first:], *members[:first]], key=lambda each: len(each.waiting)).put(event)

    def _listening(self, topic: str) -> list[LiveSubscriber]:
        found = self.known.get(topic)
        if found is None:
            if len(self.known) >= KNOWN_TOPICS:
                self.known.clear()
            found = [each for each in self.members.values() if matches(each.asked.pattern, topic)]
            self.known[topic] = found
        return found

    def hand_over(self) -> list[LiveState]:
        return [LiveState(each.asked, list(each.waiting), each.missed) for each in self.members.values()]

    def take_over(self, states: list[LiveState]) -> None:
        for state in states:
            found = self.members[state.asked.member] = LiveSubscriber(state.asked)
            for event in state.waiting:
                found.put(event)
            found.missed, found.left_at = state.missed, self.now()
        self.known.clear()
