"""The ledger: every call that was accepted is accounted for."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from .messages import MOST_COUNTED


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of the calls that a plug-in's mailboxes accepted.

    `accepted` is counted by the callers; `replied`, `refused` and `running` by who served them; `waiting` lies in the
    mailbox. The two sides write their own counters, so a call that vanished between them shows in `lost`.
    """

    accepted: int = 0
    replied: int = 0
    refused: int = 0
    running: int = 0
    waiting: int = 0

    @property
    def lost(self) -> int:
        """Accepted, and nobody accounts for it; 0 unless something is wrong."""
        return self.accepted - self.replied - self.refused - self.running - self.waiting

    def plus(self, accepted: int, taken: int, answered: int, refused: int) -> Ledger:
        """With one more channel's counters added."""
        return self.with_(Ledger(accepted, answered, refused, waiting=accepted - taken))

    def closed(self, accepted: int, taken: int, answered: int, refused: int) -> Ledger:
        """With a channel's last counters added; what it left unanswered had lost its caller, and counts as refused."""
        return self.with_(Ledger(accepted, answered, accepted - answered))

    def with_(self, other: Ledger) -> Ledger:
        """The sum of two accounts, each number as far as MOST_COUNTED: a hostile process may write any into its
        channels."""
        sums = (mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        return Ledger(*(max(-MOST_COUNTED, min(each, MOST_COUNTED)) for each in sums))
