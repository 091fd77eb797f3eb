"""The kernel refuses what is left in a mailbox, in its one thread: no caller may keep it with that."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conformance_wires import MAILBOXES, pair

from mukernel.core.instances import refuse_waiting
from mukernel.transports.contract import Received
from mukernel.transports.kind import Kind

BETWEEN_PROCESSES = [each for each in MAILBOXES if each != "memory"]
pytestmark = pytest.mark.parametrize("transport", BETWEEN_PROCESSES)
LARGE = 64 << 20  # bytes
FAR_TOO_MANY = 100_000  # messages


async def test_of_a_large_call_that_is_refused_the_beginning_is_read(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        wires.server.stop_listening()
        body = bytes(range(256)) * (LARGE // 256)
        assert wires.caller.send(Kind.CALL, 1, body)
        assert wires.caller.send(Kind.CALL, 2, b"next")
        first = wires.server.peek()
        assert first is not None
        first.discard()
        assert first.body == body[: len(first.body)] and 0 < len(first.body) < 10_000
        second = wires.server.peek()
        assert second is not None and second.take() == b"next"


async def test_who_goes_on_sending_does_not_keep_the_kernel(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(transport, tmp_path) as wires:
        wires.server.stop_listening()
        numbers, peek = count(1), wires.server.peek

        def with_one_more() -> Received | None:
            number = next(numbers)
            assert number < FAR_TOO_MANY
            wires.caller.send(Kind.ONEWAY, number, b"")
            return peek()

        server: Any = wires.server
        monkeypatch.setattr(server, "peek", with_one_more)
        refuse_waiting(server, Kind.GONE, b"")
        accepted, taken, _, refused = server.ledger()
        assert accepted >= taken == refused > 1
