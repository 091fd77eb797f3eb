"""What a mailbox keeps when its reader dies, on every transport whose mailbox belongs to the channel."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from conformance_wires import MAILBOXES, Peer, pair

from mukernel import PermissionDenied, PluginCrashed, Unavailable
from mukernel.contract import encode_fault
from mukernel.core.instances import finish
from mukernel.transports.contract import Wire
from mukernel.transports.kind import Kind

pytestmark = pytest.mark.parametrize("transport", MAILBOXES)


async def test_a_mailbox_outlives_its_reader(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires, concurrency=1)
        running = asyncio.ensure_future(peer.call("hold_call", "x"))
        again = asyncio.ensure_future(peer.call("where"))
        waiting = [asyncio.ensure_future(peer.call("add", 1)) for _ in range(100)]
        await peer.actor.held("x")
        wires.server.close("died")  # without a word to anybody
        successor = wires.successor()
        assert [call for call, _, _ in successor.interrupted()] == [1]
        successor.close("died, too, before it had told anybody")
        successor = wires.successor()
        assert [call for call, _, _ in successor.interrupted()] == [1]
        successor.end_interrupted(Kind.INTERRUPTED)
        assert successor.interrupted() == []
        successor.listen()  # first, as everybody does: it begins at the first call that was not started
        peer.serve(successor)
        peer.server.pump(successor)
        with pytest.raises(PluginCrashed):
            await running
        assert await asyncio.gather(*waiting) == list(range(1, 101))
        assert await again > 0
        accepted, taken, answered, refused = successor.ledger()
        assert (accepted, taken, answered, refused) == (102, 102, 101, 1)
        successor.close()


async def test_what_a_warm_successor_tells_comes_after_all_that_was_sent_since(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        successor = wires.successor()
        assert await peer.call("add", 1) == 1
        running = asyncio.ensure_future(peer.call("hold_call", "x"))
        await peer.actor.held("x")
        wires.server.close("died")
        successor.end_interrupted(Kind.INTERRUPTED)
        with pytest.raises(PluginCrashed, match="hold_call: its process died while it ran this call"):
            async with asyncio.timeout(60):
                await running
        successor.close()


async def test_a_closed_end_tells_nobody_of_what_was_interrupted(transport: str, tmp_path: Path) -> None:
    """The number of the bell that it rang may be another's by now."""
    async with pair(transport, tmp_path) as wires:
        bell = getattr(wires.server, "peer_bell", -1)
        wires.server.close("its caller wrote garbage")
        reads, writes = os.pipe2(os.O_NONBLOCK)
        if bell not in (-1, reads, writes):
            os.dup2(writes, bell)
        wires.server.end_interrupted(Kind.INTERRUPTED)
        with pytest.raises(BlockingIOError):
            os.read(reads, 10)
        for descriptor in {reads, writes, *((bell,) if bell != -1 else ())}:
            os.close(descriptor)


async def test_who_was_being_run_is_told_by_the_first_that_lives_until_there_is_room(
    transport: str, tmp_path: Path
) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        running = asyncio.ensure_future(peer.call("hold_call", "x"))
        await peer.actor.held("x")
        wires.server.close("died")
        wires.caller.stop_listening()
        successor = wires.successor()
        for kind, size in ((Kind.ITEM, 1000), (Kind.END, 0)):  # items leave room for what ends calls
            for _ in range(100_000):
                if not successor.send(kind, 1, bytes(size)):  # of a call that is no stream
                    break
        successor.end_interrupted(Kind.INTERRUPTED, mortal=True)
        told = successor.interrupted() == []  # where what is sent finds room for ever
        successor.close("died before its caller has read")
        successor = wires.successor()
        assert [call for call, _, _ in successor.interrupted()] == [1] * (not told)
        successor.end_interrupted(Kind.INTERRUPTED, mortal=True)
        successor.listen()
        peer.serve(successor)
        wires.caller.listen()
        with pytest.raises(PluginCrashed):
            await running
        assert successor.interrupted() == []
        assert await peer.call("add", 1) == 1
        assert successor.ledger() == (2, 2, 1, 1)
        assert told is (transport == "memory")
        successor.close()


async def test_an_idempotent_call_is_run_once_more_though_its_caller_is_told_twice(
    transport: str, tmp_path: Path
) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        running = asyncio.ensure_future(peer.call("hold_once", str(tmp_path / "mark")))
        await peer.actor.held("once")
        wires.server.close("died")
        successor = wires.successor()
        assert [call for call, _, _ in successor.interrupted()] == [1]
        assert successor.send(Kind.INTERRUPTED, 1, b"")
        successor.close("died before it had noted that")
        while 2 not in peer.caller.pending:  # noqa: ASYNC110 - until the call has been sent again
            await asyncio.sleep(0)
        successor = wires.successor()
        assert [call for call, _, _ in successor.interrupted()] == [1]
        successor.end_interrupted(Kind.INTERRUPTED, mortal=True)
        successor.listen()
        peer.serve(successor)
        peer.server.pump(successor)
        assert await running == "run again"
        assert successor.closed is None and successor.interrupted() == []
        successor.close()


async def test_who_is_replaced_leaves_one_way_calls_of_a_caller_that_is_gone_to_its_successor(
    transport: str, tmp_path: Path
) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        let_go: list[Wire] = []
        peer.server.when_let_go = let_go.append
        peer.server.pause(lambda: None)
        note = peer.remotes["note"]
        await peer.caller.oneway(note, note.codec.encode_arguments(("a",), {}))
        unanswered = asyncio.ensure_future(peer.call("add", 1))
        await asyncio.sleep(0)
        peer.server.abandon(wires.server)
        peer.server.forget_waiting()
        wires.server.close("handed over")
        assert let_go == []
        successor = wires.successor()
        successor.listen()
        peer.serve(successor)
        peer.server.when_let_go = let_go.append
        peer.server.abandon(successor)
        while not let_go:  # noqa: ASYNC110 - until it has been run
            await asyncio.sleep(0)
        assert let_go == [successor] and successor.closed is not None
        assert peer.actor.noted == ["a"] and successor.ledger()[:2] == (2, 2)
        unanswered.cancel()
        await asyncio.gather(unanswered, return_exceptions=True)


async def test_the_ledger_adds_up(transport: str, tmp_path: Path) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        await asyncio.gather(*(peer.call("add", 1) for _ in range(50)))
        with pytest.raises(Exception, match="nothing"):
            await peer.call("fail", "nothing")
        held = asyncio.ensure_future(peer.call("hold_call", "x"))
        await peer.actor.held("x")
        assert wires.server.ledger() == (52, 52, 51, 0)
        held.cancel()
        await peer.actor.cancelled("x cancelled")
        await peer.call("add", 1)
        assert wires.server.ledger() == (53, 53, 52, 1)


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        (Kind.ERROR, encode_fault(PermissionDenied("the grant was revoked")), PermissionDenied),
        (Kind.GONE, b"the plug-in was unloaded", Unavailable),
    ],
)
async def test_what_is_sent_too_late_ends_as_what_waited(
    transport: str, tmp_path: Path, kind: Kind, body: bytes, error: type[Exception]
) -> None:
    async with pair(transport, tmp_path) as wires:
        peer = Peer(wires)
        wires.server.stop_listening()
        before = [asyncio.ensure_future(peer.call("add", 1)) for _ in range(3)]
        await asyncio.sleep(0)
        finish(wires.server, kind, body)
        after = [asyncio.ensure_future(peer.call("add", 1)) for _ in range(3)]  # nobody has told them yet
        for call in [*before, *after]:
            with pytest.raises(error, match="was"):
                await call
        with pytest.raises(error, match="was"):
            await peer.call("add", 1)
