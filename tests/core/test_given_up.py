"""What is given up can be brought back at any moment, also while those who called it are still being told of that."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from core_samples import Counter, Sum, Tally
from killing import pid_of
from waiting import until_event, until_state

from mukernel import Kernel, RestartPolicy
from mukernel.core.lifecycle import State
from mukernel.core.registry import Replica

AT_ONCE = RestartPolicy(intensity=0)


@asynccontextmanager
async def revived_while_a_caller_is_silent(kernel: Kernel) -> AsyncIterator[tuple[Replica, asyncio.Task[Any]]]:
    """A plug-in that serves again, and the task that has given it up and waits for a caller: that is stopped as long
    as this lasts."""
    await kernel.load(Tally, name="counter", placement="process", restart=AT_ONCE)
    await kernel.load(Sum, name="sum", placement="process")
    silent, replica = pid_of(kernel, "sum"), kernel.registry.entry("counter").replicas[0]
    os.kill(silent, signal.SIGSTOP)
    os.kill(pid_of(kernel, "counter"), signal.SIGKILL)
    await until_event(kernel, "counter", "given up")
    restart = asyncio.create_task(kernel.restart("counter"))
    await until_state(kernel, "counter", State.SERVING)
    assert replica.restarting is not None
    try:
        yield replica, replica.restarting
    finally:
        os.kill(silent, signal.SIGCONT)
        await restart


async def test_what_is_revived_at_once_answers_what_it_runs(kernel: Kernel, whistle: Any) -> None:
    async with revived_while_a_caller_is_silent(kernel) as (_, giving_up):
        counter = kernel.get(Counter)
        held = asyncio.create_task(counter.hold(whistle.path))
        await whistle.heard()
    await giving_up
    await counter.release()
    assert await held == "one"
    ledger = await kernel.ledger("counter")
    assert (ledger.lost, ledger.waiting, ledger.running) == (0, 0, 0)


async def test_what_is_revived_at_once_and_crashes_again_is_looked_after(kernel: Kernel) -> None:
    async with revived_while_a_caller_is_silent(kernel) as (replica, _):
        os.kill(pid_of(kernel, "counter"), signal.SIGKILL)
        await until_event(kernel, "counter", "crash", times=2)
    async with asyncio.timeout(20):
        await until_event(kernel, "counter", "given up", times=2)
    assert replica.failure is not None
