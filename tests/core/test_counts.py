"""What processes count may be any number; what the kernel makes of it can be sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mukernel.core import messages
from mukernel.core.ledger import Ledger

LARGEST = (1 << 64) - 1


@pytest.mark.parametrize("number", [LARGEST, messages.MOST_COUNTED + 1, -1])
@pytest.mark.parametrize(
    "kind",
    [
        lambda number: messages.Counts(calls=number),
        lambda number: messages.Counts(lent=number),
        lambda number: messages.Quiesced(None, 1, number, 1),
        lambda number: messages.Quiesced(None, 1, 1, 1, number),
        lambda number: messages.Inventory(1, 1, 1, number, []),
        lambda number: messages.Done(number),
    ],
)
def test_a_process_that_counts_more_than_can_be_added_up_is_not_understood(kind: Any, number: int) -> None:
    said = messages.encode(messages.Envelope(1, True, kind(number)))
    with pytest.raises(msgspec.ValidationError):
        messages.decode_of_process(said)


def test_what_a_process_may_count_is_understood() -> None:
    counts = messages.Counts(*[messages.MOST_COUNTED] * 10)
    said = messages.encode(messages.Envelope(1, True, counts))
    assert messages.decode_of_process(said).content == counts


def test_a_ledger_stays_a_number_that_can_be_sent() -> None:
    """A caller and a server may write any numbers into their channel."""
    ledger = Ledger()
    for _ in range(3):
        ledger = ledger.plus(LARGEST, 0, LARGEST, LARGEST).closed(LARGEST, 0, 0, 0).plus(0, LARGEST, 0, 0)
    assert msgspec.msgpack.encode([ledger.accepted, ledger.replied, ledger.refused, ledger.waiting, ledger.lost])
