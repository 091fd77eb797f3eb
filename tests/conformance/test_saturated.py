"""A channel with as many calls in flight as it can account for: what waits there may be given up, and is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from conformance_wires import MAILBOXES, Pair, Peer, pair

from mukernel import DeadlineExceeded, PluginCrashed, Unavailable, deadline
from mukernel.transports.backlog import Backlog
from mukernel.transports.kind import Kind

IN_FLIGHT = 1024  # that a channel can account for
pytestmark = pytest.mark.parametrize("transport", [each for each in MAILBOXES if each != "memory"])


@asynccontextmanager
async def saturated(transport: str, folder: Path) -> AsyncIterator[tuple[Pair, Peer, list[asyncio.Task[Any]]]]:
    """A peer that runs as many calls as its channel takes, and these."""
    async with pair(transport, folder) as wires:
        peer = Peer(wires)
        held = [asyncio.create_task(peer.call("hold_call", "x")) for _ in range(IN_FLIGHT)]
        await came(lambda: wires.server.saturated)
        try:
            yield wires, peer, held
        finally:
            for call in held:
                call.cancel()
            await asyncio.gather(*held, return_exceptions=True)


async def came(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["cancelled", "late", "left"])
async def test_a_call_that_waits_there_is_given_up_and_the_others_go_on(
    transport: str, how: str, tmp_path: Path
) -> None:
    async with saturated(transport, tmp_path) as (wires, peer, held):

        async def give_up() -> None:
            if how == "left":
                await anext(peer.stream("count", 3))
            with deadline(0.2) if how == "late" else nullcontext():
                await peer.call("add", 100)

        given_up = asyncio.create_task(give_up())
        others = [asyncio.create_task(peer.call("add", 1)) for _ in range(3)]
        await came(lambda: wires.server.ledger()[0] == IN_FLIGHT + 4)
        if how != "late":
            given_up.cancel()
        with pytest.raises(DeadlineExceeded if how == "late" else asyncio.CancelledError):
            await given_up
        await came(lambda: wires.server.ledger()[3])
        assert wires.server.ledger() == (IN_FLIGHT + 4, IN_FLIGHT + 1, 0, 1)  # at once, though no call has ended
        held.pop().cancel()
        assert await asyncio.gather(*others) == [1, 2, 3]
        assert peer.actor.produced == 0 and wires.server.closed is None
        assert wires.server.ledger() == (IN_FLIGHT + 4, IN_FLIGHT + 4, 3, 2)


async def test_what_was_accepted_of_a_caller_that_is_gone_is_run(transport: str, tmp_path: Path) -> None:
    async with saturated(transport, tmp_path) as (wires, peer, _):
        call, note = peer.remotes["add"], peer.remotes["note"]
        assert wires.caller.send(Kind.CALL, 5000, call.codec.encode_arguments((1,), {}), call.index)
        assert wires.caller.send(Kind.ONEWAY, 5001, note.codec.encode_arguments(("last",), {}), note.index)
        peer.server.abandon(wires.server)  # before it has looked at any of them
        await came(lambda: peer.actor.noted)
        await came(lambda: wires.server.closed)
        assert wires.server.closed == "the caller is gone" and peer.actor.sum == 0


async def test_a_call_that_is_refused_there_has_its_answer_and_breaks_nothing(transport: str, tmp_path: Path) -> None:
    async with saturated(transport, tmp_path) as (wires, peer, held):
        assert wires.caller.send(Kind.ONEWAY, 5000, b"", 999)  # a method that is none
        peer.remotes["add"].index, known = 999, peer.remotes["add"].index
        with pytest.raises(Exception, match="999"):
            async with asyncio.timeout(60):
                await peer.call("add", 1)
        peer.remotes["add"].index = known
        await came(lambda: wires.server.ledger()[3] == 2)
        peer.server.paused, peer.server.backlog = True, Backlog(1)
        waiting = [asyncio.create_task(peer.call("add", 1)) for _ in range(2)]
        if transport == "ring":  # the other shows its first call alone
            with pytest.raises(Unavailable, match="more calls wait here than the plug-in may hold"):
                await waiting.pop()
        peer.server.resume()
        held.pop().cancel()
        assert await asyncio.gather(*waiting) == list(range(1, len(waiting) + 1))
        assert wires.server.closed is None


async def test_a_successor_runs_what_waited_and_not_what_was_given_up(transport: str, tmp_path: Path) -> None:
    async with saturated(transport, tmp_path) as (wires, peer, held):
        given_up = [asyncio.create_task(peer.call("add", 100)) for _ in range(2)]
        waiting = [asyncio.create_task(peer.call("add", 1)) for _ in range(3)]
        await came(lambda: wires.server.ledger()[0] == IN_FLIGHT + 5)
        given_up[0].cancel()
        await came(lambda: wires.server.ledger()[3])
        wires.server.stop_listening()
        given_up[1].cancel()  # it has not heard of this when it dies
        await asyncio.sleep(0)
        wires.server.close("died")
        successor = wires.successor()
        assert len(successor.interrupted()) == IN_FLIGHT
        successor.end_interrupted(Kind.INTERRUPTED)
        successor.listen()
        peer.serve(successor)
        ended = await asyncio.gather(*held, return_exceptions=True)
        assert {type(each) for each in ended} == {PluginCrashed}
        await asyncio.gather(*waiting)
        await came(lambda: sum(successor.ledger()[2:]) == IN_FLIGHT + 5)
        assert successor.ledger()[:2] == (IN_FLIGHT + 5, IN_FLIGHT + 5)
        assert peer.actor.sum in (3, 103)  # in a ring it may find the call before it finds that nobody wants it
        successor.close()
