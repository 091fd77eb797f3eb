"""The table of locks by itself."""

from contextlib import aclosing

import pytest

from mukernel.core.builtin import BuiltinClock
from mukernel.kernel.clock import VirtualClock
from mukernel.servers.files.leaving import Leaving
from mukernel.servers.files.locks import LockTable


async def test_a_lock_that_was_not_had_leaves_nothing() -> None:
    table = LockTable(BuiltinClock(VirtualClock()), 0)
    async with aclosing(table.hold("/x", "ada", False, True, None, Leaving())) as held:
        await anext(held)
        async with aclosing(table.hold("/x", "bob", False, False, None, Leaving())) as refused:
            with pytest.raises(BlockingIOError, match="'ada'"):
                await anext(refused)
        assert not table.queues
