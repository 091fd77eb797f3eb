"""Signal handlers in a thread that makes blocking calls: they may call, too, and they may raise."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest

from mukernel import ContractError, Interface, KernelThread, Plugin, oneway
from mukernel.kernel import ipc
from mukernel.transports.carriers import SETTING
from mukernel.transports.waiting_thread import GivenToLoop


class Interrupting(Interface):
    async def outer(self, pid: int) -> str: ...
    async def inner(self, word: str) -> str: ...
    @oneway
    async def note(self, word: str) -> None: ...
    async def notes(self) -> list[str]: ...
    async def year(self, when: datetime) -> int: ...
    @oneway
    async def note_year(self, when: datetime) -> None: ...


class Waiting(Interface):
    async def wait(self, pid: int) -> None: ...
    async def ended(self) -> str: ...


class Waiter(Plugin, Waiting):
    """The call `wait` interrupts who made it, and then waits until it is cancelled."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def wait(self, pid: int) -> None:
        if pid == os.getpid():  # asyncio, by which a thread tells a loop, lets no OSError out of there
            main = threading.main_thread().ident or 0
            while sys._current_frames()[main].f_code is not GivenToLoop.done.__code__:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        os.kill(pid, signal.SIGUSR1)
        try:
            await asyncio.Event().wait()
        finally:
            self.told.set()

    async def ended(self) -> str:
        await self.told.wait()
        return "cancelled"


class Interrupter(Plugin, Interrupting):
    """The call `outer` interrupts who made it, and is answered before the call `inner` that is made then."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    async def outer(self, pid: int) -> str:
        self.began, self.answered = asyncio.Event(), asyncio.Event()
        os.kill(pid, signal.SIGUSR1)
        await self.began.wait()
        self.answered.set()
        return "outer"

    async def inner(self, word: str) -> str:
        self.began.set()
        await self.answered.wait()
        for _ in range(10):  # until the other reply is on its way
            await asyncio.sleep(0)
        return word

    async def note(self, word: str) -> None:
        self.noted.append(word)

    async def notes(self) -> list[str]:
        return self.noted

    async def year(self, when: datetime) -> int:
        return when.year

    async def note_year(self, when: datetime) -> None:
        self.noted.append(str(when.year))


class InterruptedZone(tzinfo):
    """A signal comes while a time in this zone is encoded, for the first time."""

    def __init__(self) -> None:
        self.came = False

    def utcoffset(self, when: datetime | None) -> timedelta:
        if not self.came:
            self.came = True
            signal.raise_signal(signal.SIGUSR1)
        return timedelta(0)


class TimeIsOver(Exception):
    pass


@pytest.fixture(params=["ring", "socket"])
def interrupter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "ring" and ipc.ring is None:
        pytest.skip("the ring is not compiled here")
    monkeypatch.setenv(SETTING, request.param)
    with KernelThread() as kernel:
        kernel.load(Interrupter, placement="process")
        yield kernel.get(Interrupting)


def test_a_signal_handler_calls_while_its_thread_waits_for_a_call(interrupter: Any) -> None:
    answers = []

    def handler(*_: object) -> None:
        interrupter.note("in the handler")
        answers.append(interrupter.inner("inner"))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for _ in range(3):  # the caller of the inner call is kept, and used again
            answers.append(interrupter.outer(os.getpid()))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == ["inner", "outer"] * 3
    assert interrupter.notes() == ["in the handler"] * 3


@pytest.mark.parametrize("call", [lambda proxy, when: proxy.year(when), lambda proxy, when: proxy.note_year(when=when)])
def test_what_a_signal_handler_raises_while_arguments_are_encoded_arrives_as_it_is(interrupter: Any, call: Any) -> None:
    def handler(*_: object) -> None:
        raise TimeIsOver

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeIsOver):
            call(interrupter, datetime(2026, 1, 1, tzinfo=InterruptedZone()))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert interrupter.notes() == []
    with pytest.raises(ContractError, match=r"Interrupting\.year: parameter 'when'"):
        interrupter.year(1j)


@pytest.mark.parametrize("raised", [TimeIsOver, TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["ring", "socket", "inline"])
def test_what_a_signal_handler_raises_ends_the_call_that_waits(
    way: str, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "ring" and ipc.ring is None:
        pytest.skip("the ring is not compiled here")
    if way != "inline":
        monkeypatch.setenv(SETTING, way)

    def handler(*_: object) -> None:
        raise raised

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with KernelThread() as kernel:
            kernel.load(Waiter, placement="inline" if way == "inline" else "process")
            waiting: Any = kernel.get(Waiting)
            with pytest.raises(raised):
                waiting.wait(os.getpid())
            assert waiting.ended() == "cancelled"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_calls_inline_whenever_it_comes() -> None:
    """It interrupts its thread anywhere, also where that is just being told of a reply."""
    handled = 0
    with KernelThread() as kernel:
        kernel.load(Interrupter, placement="inline")
        quick: Any = kernel.get(Interrupting)

        def handler(*_: object) -> None:
            nonlocal handled
            handled += 1
            quick.notes()

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            while handled < 200:
                assert quick.notes() == []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
