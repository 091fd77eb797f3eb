"""A server that has as many callers as its limit of files has room for is killed, or replaced: the others are told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from core_samples import Arithmetic, Plain
from killing import kill, stop

from mukernel import Interface, Kernel, Overloaded, Plugin, SwapFailed
from mukernel.core.checks import LEAST_FILES
from mukernel.core.registry import Instance, Replica
from mukernel.kernel.process import Limits

LIMITS = Limits(files=64)
CALLERS = 30  # more than that has room for
NO_ROOM = "its process serves no more callers: it may open no more files"


@pytest.fixture(params=["ring", "socket"], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", request.param)


class Greedy(Arithmetic):
    """Its constructor opens many files."""

    def __init__(self) -> None:
        super().__init__()
        self.files = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]


class Crowded(Arithmetic):
    """Its constructor leaves room for the rights to a channel (five, with the bell), and one file more."""

    left = 6

    def __init__(self) -> None:
        super().__init__()
        self.files = list[int]()
        with contextlib.suppress(OSError):
            while True:
                self.files.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(self.left):
            os.close(self.files.pop())


class Minus(Interface):
    async def minus(self, a: int) -> int: ...


class Difference(Plugin, Minus):
    async def minus(self, a: int) -> int:
        return a - 1


class Full(Crowded, Minus):
    left = 1

    async def minus(self, a: int) -> int:
        return a - 1


class Callers:
    """Threads, each of which calls by a channel of its own, and keeps that as long as it lives."""

    def __init__(self, kernel: Kernel) -> None:
        self.plain = kernel.get(Plain, blocking=True)
        self.threads = [ThreadPoolExecutor(1) for _ in range(CALLERS)]
        self.here = threading.Barrier(CALLERS)

    def one(self, number: int) -> str:
        self.here.wait()
        try:
            outcome = f"{self.plain.plus(number)}"
        except Overloaded as error:
            outcome = str(error)
        self.here.wait()
        return outcome

    async def call(self) -> tuple[list[int], list[int]]:
        """All of them at once; those that were served, and those that were refused."""
        loop, numbers = asyncio.get_running_loop(), range(CALLERS)
        calls = [loop.run_in_executor(thread, self.one, number) for number, thread in enumerate(self.threads)]
        outcomes = await asyncio.gather(*calls)
        served, refused = (
            [n for n in numbers if outcomes[n].isdigit()],
            [n for n in numbers if NO_ROOM in outcomes[n]],
        )
        assert len(served) + len(refused) == CALLERS
        return served, refused

    def end(self, numbers: Iterable[int] = range(CALLERS)) -> None:
        for number in numbers:
            self.threads[number].shutdown()

    def until_served(self) -> int:
        while True:
            try:
                return self.plain.plus(1)
            except Overloaded:
                pass


@pytest.fixture
async def callers(kernel: Kernel) -> AsyncIterator[Callers]:
    """They have called once, so the server has no room left."""
    await kernel.load(Arithmetic, name="plain", placement="process", limits=LIMITS)
    made = Callers(kernel)
    await made.call()
    yield made
    made.end()


async def test_one_that_is_killed_comes_back_and_serves_as_many(kernel: Kernel, callers: Callers) -> None:
    for _ in range(2):
        await kill(kernel, "plain")
        served, refused = await callers.call()
        assert len(served) > 5
    assert [each.what for each in kernel.events].count("crash") == 2
    while not refused:  # on a busy machine threads may share the spare channel for a while
        served, refused = await callers.call()
    callers.end(served)
    assert await asyncio.get_running_loop().run_in_executor(callers.threads[refused[0]], callers.until_served) == 2


async def test_one_that_is_swapped_is_replaced_by_one_that_serves_as_many(kernel: Kernel, callers: Callers) -> None:
    for _ in range(2):
        await kernel.swap("plain", Arithmetic)
        served, _ = await callers.call()
        assert len(served) > 5
    assert "crash" not in [each.what for each in kernel.events]


async def test_who_finds_no_room_in_the_old_version_keeps_nobody_from_a_swap(
    kernel: Kernel, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach_all, trying = kernel.instances.attach_all, list[Any]()

    def attach(replica: Replica, instance: Instance) -> None:
        attach_all(replica, instance)
        route = callers.plain._mukernel_route  # type: ignore[attr-defined]
        trying.extend(kernel.space.connect_now(route, 0) for _ in range(5))  # given to both versions

    monkeypatch.setattr(kernel.instances, "attach_all", attach)
    for _ in range(2):
        await kernel.swap("plain", Arithmetic)
        served, _ = await callers.call()
        assert len(served) > 5
    assert len(trying) == 10


async def test_a_swap_to_one_that_has_no_room_for_its_callers_is_rolled_back(kernel: Kernel, callers: Callers) -> None:
    with pytest.raises(SwapFailed, match=r"not open enough files to serve the \d+ callers .* be left over") as raised:
        await kernel.swap("plain", Greedy)
    assert raised.value.report is not None
    assert raised.value.report.rolled_back
    served, _ = await callers.call()
    assert len(served) > 5
    assert "crash" not in [each.what for each in kernel.events]


async def test_one_that_has_no_room_for_what_its_first_channel_needs_refuses_that(kernel: Kernel) -> None:
    await kernel.load(Crowded, name="plain", placement="process", limits=Limits(files=LEAST_FILES))
    with contextlib.suppress(Overloaded):  # by sockets it is served
        assert await asyncio.to_thread(kernel.get(Plain, blocking=True).plus, 1) == 2
    assert "crash" not in [each.what for each in kernel.events]


async def test_who_is_refused_asks_again_as_it_calls_and_not_before(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kernel.load(Full, name="plain", placement="process", limits=Limits(files=LEAST_FILES))
    await kernel.load(Difference, name="other", placement="process")
    unattached, refused = kernel.instances.unattached, list[int]()

    def count(channel: int, key: str, space: str) -> None:
        refused.append(channel)
        unattached(channel, key, space)

    monkeypatch.setattr(kernel.processes, "on_unattached", count)
    plain, other = kernel.get(Minus, plugin="plain"), kernel.get(Minus, plugin="other")
    for _ in range(3):
        with pytest.raises(Overloaded, match=NO_ROOM):
            await plain.minus(1)
        for number in range(200):
            assert await other.minus(number) == number - 1
    assert len(refused) == 3


async def test_a_thread_whose_channel_is_refused_before_its_first_call_is_told(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kernel.load(Arithmetic, name="plain", placement="process")
    plain, connect, replica = (
        kernel.get(Plain, blocking=True),
        kernel.space.connect_on_loop,
        kernel.registry.entry("plain").replicas[0],
    )
    instance, channels = replica.instance, replica.port.channels
    assert instance is not None

    async def connect_and_refuse(route: Any, turn: int) -> Any:
        before = set(channels)
        made = await connect(route, turn)
        (number,) = channels.keys() - before
        kernel.instances.unattached(number, instance.blueprint.key, instance.place.space)
        return made

    monkeypatch.setattr(kernel.space, "connect_on_loop", connect_and_refuse)
    stop(instance.place.pid)  # so that it is the kernel alone who answers
    for _ in range(2):
        with pytest.raises(Overloaded, match=NO_ROOM):
            await asyncio.to_thread(plain.plus, 1)
    os.kill(instance.place.pid, signal.SIGCONT)


async def test_a_version_that_ends_as_it_is_asked_for_how_many_it_has_room_is_named(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach_all = kernel.instances.attach_all

    def attach(replica: Replica, instance: Instance) -> None:
        attach_all(replica, instance)
        os.kill(instance.place.pid, signal.SIGKILL)  # type: ignore[attr-defined]

    await kernel.load(Arithmetic, name="plain", placement="process")
    monkeypatch.setattr(kernel.instances, "attach_all", attach)
    with pytest.raises(SwapFailed, match=r"plug-in 'plain': its process ended by signal 9 \(SIGKILL\) while it was"):
        await kernel.swap("plain", Arithmetic)
