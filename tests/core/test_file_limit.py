"""The kernel's process may open as many files as it is allowed, and says so where those are not enough."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from core_samples import Counter, Tally, blow
from files_left import at_most, none_left, open_files
from killing import pid_of
from waiting import until

from mukernel import Interface, Kernel, Overloaded, Plugin, RestartPolicy
from mukernel.core import instances
from mukernel.core.file_limit import raise_file_limit
from mukernel.kernel.ipc import Channel
from mukernel.kernel.process import ProcessError
from mukernel.transports.carriers import Carriers
from mukernel.transports.contract import Wire


class Waits(Interface):
    async def wait(self, whistle: str) -> None: ...


class Waiting(Plugin, Waits):
    async def wait(self, whistle: str) -> None:
        blow(whistle, "waits")
        await asyncio.Event().wait()


class Asks(Interface):
    async def outcomes(self) -> list[str]: ...


class Asking(Plugin, Asks):
    """It calls as it starts, twice: the kernel's own process calls nobody."""

    def __init__(self, waits: Waits, *, whistle: str) -> None:
        self.waits, self.whistle = waits, whistle

    async def start(self) -> None:
        self.calls = [asyncio.create_task(self.waits.wait(self.whistle)) for _ in range(2)]

    async def outcomes(self) -> list[str]:
        return [str(each) for each in await asyncio.gather(*self.calls, return_exceptions=True)]


def test_raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with at_most(min(soft, 256)):
        assert raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_a_process_that_there_are_too_few_files_for(kernel: Kernel, placement: str) -> None:
    """However few there are, nothing is left open of what was begun."""
    await kernel.load(Tally, name="first", placement=placement)  # and with it the fork server
    before = open_files()
    free, room = [number for number in range(9999) if number not in before], 0
    while True:
        with at_most(free[room]):
            try:
                await kernel.load(Tally, name="second", placement=placement)
                break
            except (Overloaded, ProcessError) as error:
                assert "Too many open files" in str(error) or "no file descriptor left" in str(error)
        await until(lambda: open_files() <= before)  # a process that had begun is ended
        room += 1
    assert room > 2
    assert await kernel.get(Counter, plugin="second").add(1) == 1


@pytest.fixture(params=["ring", "socket"])
async def calling(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, whistle: Any
) -> AsyncIterator[Kernel]:
    """A kernel, and two plug-ins with two calls each, of which a third runs one and keeps the others waiting."""
    monkeypatch.setenv("MUKERNEL_TRANSPORT", request.param)
    async with Kernel() as kernel:
        never = RestartPolicy(intensity=0)
        await kernel.load(Waiting, name="waiting", placement="process", restart=never, concurrency=1)
        for name in ("one", "other"):
            await kernel.load(Asking, name=name, placement="process", config={"whistle": whistle.path})
        await whistle.heard()
        while (await kernel.ledger("waiting")).accepted < 4:
            pass
        yield kernel


@pytest.mark.parametrize("how", ["unloaded", "given up"])
async def test_what_ends_while_no_file_is_left_answers_all_that_it_was_sent(
    calling: Kernel, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receives, before = instances.received_by_kernel, len(open_files())

    def full(carriers: Carriers, channel: Channel) -> Wire:
        with none_left():  # whatever the end of the plug-in has closed, others have opened
            return receives(carriers, channel)

    monkeypatch.setattr(instances, "received_by_kernel", full)
    with none_left():
        if how == "unloaded":
            await calling.unload("waiting", drain=0)
        else:
            os.kill(pid_of(calling, "waiting"), signal.SIGKILL)
            await until(lambda: not calling.registry.entry("waiting").replicas[0].port.channels)
    await until(lambda: len(open_files()) < before)
    found = [await calling.get(Asks, plugin=name).outcomes() for name in ("one", "other")]
    assert all(how in text or "died" in text for texts in found for text in texts), found
    assert [text for texts in found for text in texts if how in text]


async def test_one_channel_that_can_not_be_received_from_keeps_no_other_unanswered(
    calling: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receives = instances.received_by_kernel

    def lacking(carriers: Carriers, channel: Channel) -> Wire:
        if channel.caller == spoilt:
            raise MemoryError
        return receives(carriers, channel)

    port = calling.registry.entry("waiting").replicas[0].port
    spoilt = next(iter(port.channels.values())).caller
    monkeypatch.setattr(instances, "received_by_kernel", lacking)
    await calling.unload("waiting", drain=0)
    assert f"what waits in a channel from {spoilt} could not be refused" in caplog.text
    assert not port.channels
    assert not port.bell
    assert len(await calling.get(Asks, plugin="other").outcomes()) == 2
