"""What must survive a server that dies: how many calls a channel carried, and which were being run.

It lies in a memfd beside the channel's sockets. Fields are 8 bytes, written whole. `accepted` is written by the
caller only, all else by whoever receives from the channel at the time. What changes several fields is written down
first (the journal) and done then, so that a successor can finish what its predecessor was doing when it died:

- A call is *begun* in three steps: journal, then its slot; take it out of the socket; count it. Where its slot is
empty, or the call is found in the socket, the second step did not happen, and the call waits there as before; else the
third is done again. A call that wants no reply is accounted for then, and its slot is freed.
- One that is never run is *discarded* in three, too, without a slot, as there may be none: journal; take it out of the
socket; count it as taken and refused. Where it is found in the socket, the second step did not happen.
- It is *ended* in two, after the reply was sent: journal, then count it and free its slot. The second may be done
twice.

So a slot is filled after the journal, and freed after what it stands for was counted.

Last come the numbers of calls that were cancelled before they were begun, 0 where there is none: who reads the mailbox
may have heard of that, and be replaced, before it comes to the call.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

SLOTS = 1024
(
    ACCEPTED, TAKEN, ANSWERED, REFUSED, STEP, STEP_SLOT, STEP_TAKEN, STEP_ANSWERED, STEP_REFUSED,
    STEP_CALL,
) = range(10)  # fmt: skip
FIRST_SLOT = 16
BEGINNING, ENDING, BEGINNING_ONEWAY, DISCARDING = 1, 2, 3, 4
FIRST_CANCELLED = FIRST_SLOT + 2 * SLOTS
REMEMBERED = 1024  # cancellations of calls that were not begun
BYTES = 8 * (FIRST_CANCELLED + REMEMBERED)
COUNTS = struct.Struct("=4Q")
ROUND = (1 << 64) - 1  # a count that somebody overwrote goes round, as it does in a ring, and stops nobody
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def make_table() -> int:
    """A memfd with an empty table, whose size no side can change: it is what a table is known by, and one that a peer
    cut short would end every process that has mapped it."""
    memory = os.memfd_create("mukernel-calls", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, BYTES)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
    return memory


def read_counts(memory: int) -> tuple[int, int, int, int]:
    """(accepted, taken, answered, refused) of a table, which is not mapped for that."""
    accepted, taken, answered, refused = COUNTS.unpack(os.pread(memory, COUNTS.size, 8 * ACCEPTED))
    return accepted, taken, answered, refused


class CallTable:
    """The table of one channel, mapped. `unused` is the receiver's own list of free slots."""

    def __init__(self, memory: int) -> None:
        """Raises ConnectionError for a descriptor that is no table."""
        if os.fstat(memory).st_size != BYTES or fcntl.fcntl(memory, fcntl.F_GET_SEALS) != SEALS:
            raise ConnectionError("this file descriptor is no table of calls")
        self.map = mmap.mmap(memory, BYTES)
        self.fields = memoryview(self.map).cast("Q")
        self.unused = [slot for slot in range(SLOTS - 1, -1, -1) if not self.call_in(slot)]

    def call_in(self, slot: int) -> int:
        return self.fields[FIRST_SLOT + 2 * slot]

    def counts(self) -> tuple[int, int, int, int]:
        """(accepted, taken, answered, refused)."""
        fields = self.fields
        return fields[ACCEPTED], fields[TAKEN], fields[ANSWERED], fields[REFUSED]

    # -- the caller's ---------------------------------------------------------------------------------------------

    def accept(self, count: int) -> None:
        """`count` calls more (or less, where one could not be sent after all)."""
        self.fields[ACCEPTED] = self.fields[ACCEPTED] + count & ROUND

    @property
    def waiting(self) -> int:
        """Calls that were sent and not taken. Raises ConnectionError where the receiver has counted what was not
        sent."""
        waiting = self.fields[ACCEPTED] - self.fields[TAKEN]
        if waiting < 0:
            raise ConnectionError("more calls were taken from this channel than were sent: its counts were overwritten")
        return waiting

    # -- the receiver's -------------------------------------------------------------------------------------------

    def begin(self, call: int, interface: int, method: int, reply_wanted: bool) -> int:
        """First step of a call; returns its slot. `taken_out` must follow once it is out of the socket."""
        if not self.unused:
            raise RuntimeError("no free slot for a call in flight: look at `saturated` first")
        fields, slot = self.fields, self.unused.pop()
        fields[STEP_SLOT], fields[STEP_TAKEN] = slot, fields[TAKEN] + 1 & ROUND
        # A call without a reply is accounted for as soon as it is out of the mailbox.
        fields[STEP_ANSWERED] = fields[ANSWERED] + (not reply_wanted) & ROUND
        fields[STEP] = BEGINNING if reply_wanted else BEGINNING_ONEWAY
        fields[FIRST_SLOT + 2 * slot + 1] = interface << 16 | method
        fields[FIRST_SLOT + 2 * slot] = call
        return slot

    def taken_out(self, slot: int, reply_wanted: bool) -> None:
        """The call is out of the socket: count it."""
        fields = self.fields
        fields[TAKEN], fields[ANSWERED] = fields[STEP_TAKEN], fields[STEP_ANSWERED]
        if not reply_wanted:
            self.free(slot)
        fields[STEP] = 0

    def discard(self, call: int) -> None:
        """First step of taking out a call that is never run. `discarded` must follow once it is out of the socket."""
        fields = self.fields
        fields[STEP_CALL], fields[STEP_TAKEN] = call, fields[TAKEN] + 1 & ROUND
        fields[STEP_REFUSED] = fields[REFUSED] + 1 & ROUND
        fields[STEP] = DISCARDING

    def discarded(self) -> None:
        fields = self.fields
        fields[TAKEN], fields[REFUSED] = fields[STEP_TAKEN], fields[STEP_REFUSED]
        fields[STEP] = 0

    def end(self, slot: int, refused: bool) -> None:
        """The reply is out."""
        fields = self.fields
        fields[STEP_SLOT] = slot
        fields[STEP_ANSWERED] = fields[ANSWERED] + (not refused) & ROUND
        fields[STEP_REFUSED] = fields[REFUSED] + refused & ROUND
        fields[STEP] = ENDING
        self.settle(slot)

    def settle(self, slot: int) -> None:
        fields = self.fields
        fields[ANSWERED], fields[REFUSED] = fields[STEP_ANSWERED], fields[STEP_REFUSED]
        self.free(slot)
        fields[STEP] = 0

    def free(self, slot: int) -> None:
        if self.call_in(slot):
            self.fields[FIRST_SLOT + 2 * slot] = 0
            self.unused.append(slot)

    def recover(self, next_call: int | None) -> list[tuple[int, int, int]]:
        """Finish what a dead predecessor was doing; return (call, interface, method) of what it was running.

        `next_call`: the number of the call that lies first in the socket. They are in the table until `forget`.
        """
        fields = self.fields
        slot = fields[STEP_SLOT] % SLOTS
        if fields[STEP] == ENDING:
            self.settle(slot)
        elif fields[STEP] in (BEGINNING, BEGINNING_ONEWAY) and self.call_in(slot):
            if self.call_in(slot) == next_call:
                self.free(slot)
            else:
                self.taken_out(slot, fields[STEP] == BEGINNING)
        elif fields[STEP] == DISCARDING and fields[STEP_CALL] != next_call:
            self.discarded()
        fields[STEP] = 0
        found = []
        for slot in range(SLOTS):
            if call := self.call_in(slot):
                what = fields[FIRST_SLOT + 2 * slot + 1]
                found.append((call, what >> 16 & 0xFFFF, what & 0xFFFF))
        return found

    def forget(self, call: int) -> None:
        """The caller of one that `recover` found has been told: it counts as refused."""
        for slot in range(SLOTS):
            if self.call_in(slot) == call:
                self.end(slot, refused=True)

    def cancelled(self) -> tuple[dict[int, int], list[int]]:
        """The calls that were cancelled before they were begun, each with its place; and the places that are free."""
        numbers = self.fields[FIRST_CANCELLED : FIRST_CANCELLED + REMEMBERED].tolist()
        places = {call: place for place, call in enumerate(numbers) if call}
        return places, [place for place, call in enumerate(numbers) if places.get(call) != place]

    def cancel(self, call: int, place: int) -> None:
        """Remember one, in a place that is free, or instead of another."""
        self.fields[FIRST_CANCELLED + place] = call

    def heed(self, place: int) -> None:
        """The call was taken out of its mailbox: forget it."""
        self.fields[FIRST_CANCELLED + place] = 0

    def close(self) -> None:
        self.fields.release()
        self.map.close()
