"""A call that is cancelled while it waits in its mailbox is not run, by a successor of the plug-in neither."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from core_samples import Diary, Scribe, blow
from killing import pid_of, stop
from waiting import until, until_event

import mukernel
from mukernel import Interface, Kernel, PluginCrashed, RestartPolicy, Unavailable

FOREVER = 30  # seconds; nothing here takes as long
ITEMS = 60  # of a channel; several times as much as a ring holds
CALLS = 300  # the cancellations of half of them need more room than the last item leaves


class Endless(Interface):
    def numbers(self) -> AsyncIterator[int]: ...


class Counting(Scribe, Endless):
    def save(self) -> list[str]:
        return self.written

    def restore(self, written: list[str]) -> None:
        self.written = written

    async def numbers(self) -> AsyncIterator[int]:
        self.written.append("stream")
        number = 0
        while True:
            yield number
            number += 1


class Late(Counting):
    async def gate(self, whistle: str) -> None:
        """Hold up the event loop until the test writes to WHISTLE.open."""
        blow(whistle, "gate")
        with open(f"{whistle}.open") as pipe:
            pipe.read()


async def read(items: AsyncIterator[int]) -> None:
    async for _ in items:
        pass


@pytest.mark.parametrize("transport", ["ring", "socket"])
@pytest.mark.parametrize("how", ["swap", "kill"])
async def test_it_is_not_run_by_a_successor(
    transport: str, how: str, whistle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    os.mkfifo(whistle.path + ".open")
    async with Kernel() as kernel:
        await kernel.load(Counting, name="counting", placement="process", concurrency=1)
        diary, endless = kernel.get(Diary), kernel.get(Endless)
        gate = asyncio.create_task(diary.gate(whistle.path))
        await whistle.heard()  # the one place there is, is taken
        entry = kernel.registry.entry("counting")
        swapping = asyncio.ensure_future(kernel.swap("counting", Counting)) if how == "swap" else None
        if swapping is not None:
            await until(lambda: entry.replicas[0].successor is not None)
        first = asyncio.create_task(diary.enter("first"))
        calls = [asyncio.create_task(diary.enter("cancelled")), asyncio.create_task(read(endless.numbers()))]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        if swapping is not None:
            blow(whistle.path + ".open")
            await swapping
        else:
            instance = entry.replicas[0].instance
            assert instance is not None
            os.kill(instance.place.pid, signal.SIGKILL)
            await until_event(kernel, "counting", "restart")
        with contextlib.suppress(PluginCrashed):
            await gate
        await first
        assert await diary.entries() == ["first"]
        account = await kernel.ledger("counting")
        assert account.running == 0 and account.lost == 0


@pytest.mark.parametrize("transport", ["ring", "socket"])
async def test_the_others_are_answered_where_nobody_comes_after(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    async with Kernel() as kernel:
        await kernel.load(Counting, name="counting", placement="process", restart=RestartPolicy(intensity=0))
        diary = kernel.get(Diary)
        pid = pid_of(kernel, "counting")
        assert await diary.entries() == []
        stop(pid)
        with mukernel.deadline(FOREVER):
            cancelled, other = (asyncio.create_task(diary.enter(word)) for word in ("cancelled", "other"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable):
            await other


@pytest.mark.parametrize("transport", ["ring", "socket"])
@pytest.mark.parametrize("end", ["goes on", "dies"])
async def test_it_is_not_run_where_its_server_was_late(
    transport: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    async with Kernel() as kernel:
        await kernel.load(Counting, name="counting", placement="process", restart=RestartPolicy(backoff=0.0))
        diary = kernel.get(Diary)
        pid = pid_of(kernel, "counting")
        assert await diary.entries() == []
        stop(pid)
        calls = [asyncio.create_task(diary.enter(f"{number}")) for number in range(100)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls[::2], return_exceptions=True)
        os.kill(pid, signal.SIGCONT if end == "goes on" else signal.SIGKILL)
        await asyncio.gather(*calls[1::2])
        assert await diary.entries() == [f"{number}" for number in range(1, 100, 2)]


@pytest.mark.parametrize("transport", ["ring", "socket"])
@pytest.mark.parametrize("deadline", [None, FOREVER])
async def test_it_is_not_run_where_a_method_holds_up_the_loop(
    transport: str, deadline: int | None, whistle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", transport)
    os.mkfifo(whistle.path + ".open")
    async with Kernel() as kernel:
        await kernel.load(Late, name="late", placement="process")
        diary = kernel.get(Diary)
        gate = asyncio.create_task(diary.gate(whistle.path))
        await whistle.heard()
        with mukernel.deadline(deadline) if deadline else contextlib.nullcontext():
            calls = [asyncio.create_task(diary.enter(f"{number}")) for number in range(100)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls[::2], return_exceptions=True)
        blow(whistle.path + ".open")
        await asyncio.gather(gate, *calls[1::2])
        assert await diary.entries() == [f"{number}" for number in range(1, 100, 2)]


class Chat(Diary):
    def talk(self, words: AsyncIterator[bytes]) -> AsyncIterator[int]: ...


class Chatty(Scribe, Chat):
    async def talk(self, words: AsyncIterator[bytes]) -> AsyncIterator[int]:
        yield 0
        async for word in words:
            yield len(word)


async def test_it_is_not_run_where_the_items_of_a_channel_fill_what_leads_to_its_server() -> None:
    async with Kernel() as kernel:
        await kernel.load(Chatty, name="chatty", placement="process")
        chat, words = kernel.get(Chat), asyncio.Queue[bytes]()

        async def said() -> AsyncIterator[bytes]:
            for _ in range(ITEMS):
                yield await words.get()

        answers = chat.talk(said())
        assert await anext(answers) == 0
        pid = pid_of(kernel, "chatty")
        stop(pid)
        for _ in range(ITEMS):
            words.put_nowait(bytes(15_000))
        await until(words.empty)
        calls = [asyncio.create_task(chat.enter(f"{number}")) for number in range(CALLS)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls[::2], return_exceptions=True)
        os.kill(pid, signal.SIGCONT)
        assert [answer async for answer in answers] == [15_000] * ITEMS
        await asyncio.gather(*calls[1::2])
        assert await chat.entries() == [f"{number}" for number in range(1, CALLS, 2)]
