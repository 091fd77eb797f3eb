"""What a group knows of an event that was delivered and is not settled, and of the member that has it."""

from __future__ import annotations

import msgspec

from .group_journal import Tried


class Outstanding(msgspec.Struct):
    """An event that was delivered and is not settled. `due`: when it is delivered again (seconds, monotonic).

    `seen`: its consumer has it in hands, and not only in what it was sent ahead. `doubtful`: deliveries that ended
    with their member, or their ack wait, and nobody knows whether it had seen the event; they don't count. `put_off`:
    by its consumer. `number`: of the delivery, in the order in which the members were sent them. `given_back`: how
    often consumers put it off.
    """

    deliveries: int
    due: float
    member: str
    seen: bool = False
    doubtful: int = 0
    put_off: bool = False
    number: int = 0
    given_back: int = 0

    @property
    def counted(self) -> int:
        """The deliveries that count."""
        return self.deliveries - self.doubtful

    @property
    def ended(self) -> int:
        """The deliveries that have come to nothing: all but that which is under way."""
        return self.deliveries - (bool(self.member) and not self.put_off)

    def tried(self, offset: int) -> Tried:
        """For the journal."""
        return Tried(offset, self.ended, self.doubtful, self.given_back)


class Progress(msgspec.Struct):
    """How far a member has come in what it was sent: the last delivery of which it said something, and when it said
    anything last (seconds, monotonic)."""

    number: int
    at: float
