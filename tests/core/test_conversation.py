"""Conversations over a link: nothing that arrives is lost, no right is kept that nobody asked for, garbage ends it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from waiting import until

from mukernel import Interface, Kernel, Plugin
from mukernel.contract import ContractError, RemoteError, Unavailable, decode_fault
from mukernel.contract.description import Description
from mukernel.core import messages
from mukernel.core.conversation import (
    LARGEST_BUILT,
    LARGEST_FAULT,
    LARGEST_OF_PROCESS,
    MOST_COMPLAINTS,
    MOST_UNREAD,
    Conversation,
)
from mukernel.core.messages import Envelope
from mukernel.transports.link import (
    LARGEST_CONTROL_MESSAGE,
    LARGEST_MESSAGE,
    LARGEST_RIGHTS,
    SEALS,
    Link,
    close_all,
)


class Peer:
    """A conversation, and the bare link at its other end."""

    def __init__(self, of_process: bool = False) -> None:
        ours, theirs = Link.pair()
        self.link, self.heard = Link(ours), list[Any]()
        self.gone = False
        loop = asyncio.get_running_loop()
        self.conversation = Conversation(Link(theirs), loop, self.handle, self.closed, of_process)

    async def handle(self, message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
        self.heard.append(message)
        for fd in rights:
            os.close(fd)
        return messages.Done(), ()

    def closed(self) -> None:
        self.gone = True

    def send(self, number: int, answer: bool, content: Any, rights: Sequence[int] = ()) -> None:
        self.link.send(messages.encode(Envelope(number, answer, content)), rights)


@asynccontextmanager
async def peer(of_process: bool = False) -> AsyncIterator[Peer]:
    made = Peer(of_process)
    try:
        yield made
    finally:
        made.conversation.close()
        made.link.close()


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_what_arrives_behind_the_answer_to_a_blocking_question_is_not_lost() -> None:
    async with peer() as other:
        other.send(0, False, messages.Detach(1))
        other.send(1, True, messages.Done())
        other.send(9, False, messages.Ping())
        other.send(0, False, messages.Detach(2))
        assert other.conversation.ask_blocking(messages.Ping()) == (messages.Done(), [])
        await until(lambda: len(other.heard) == 3)
        assert other.heard == [messages.Detach(1), messages.Ping(), messages.Detach(2)]


@pytest.mark.parametrize("answer", [False, True])
async def test_rights_that_nobody_asked_for_are_given_up(answer: bool) -> None:
    async with peer() as other:
        before = open_files()
        null = os.open("/dev/null", os.O_RDONLY)
        for _ in range(10):
            other.send(1 if answer else 0, answer, messages.Done() if answer else messages.Detach(1), [null] * 4)
        other.send(0, False, messages.Detach(2))
        await until(lambda: messages.Detach(2) in other.heard)
        os.close(null)
        assert open_files() == before


async def test_more_rights_than_one_packet_takes_come_with_one_message() -> None:
    async with peer() as other:
        asked = asyncio.ensure_future(other.conversation.ask(messages.Ping()))
        before = open_files()
        files = [os.memfd_create(f"given-{number}") for number in range(LARGEST_RIGHTS * 2 + 7)]
        other.send(1, True, messages.Connected("x" * LARGEST_CONTROL_MESSAGE, []), files)  # itself in memory, too
        _, rights = await asked
        assert [os.fstat(fd).st_ino for fd in rights] == [os.fstat(fd).st_ino for fd in files]
        close_all([*files, *rights])
        assert open_files() == before


async def test_the_process_of_a_plugin_sends_no_more_rights_than_one_packet_takes() -> None:
    async with peer(of_process=True) as other:
        null = os.open("/dev/null", os.O_RDONLY)
        before = open_files()
        message = messages.Connect(Description("Anything", "1.0"), None, "")
        other.send(1, False, message, [null] * (LARGEST_RIGHTS + 1))
        await until(lambda: other.gone)
        assert open_files() < before and other.heard == []
        os.close(null)


async def test_what_nobody_understands_ends_it_and_leaves_no_right() -> None:
    async with peer() as other:
        given = os.memfd_create("given")
        other.link.send(msgspec.msgpack.encode(["no", "message"]), [given])
        await until(lambda: other.gone)
        os.close(given)
        assert not [each for each in open_files() if "memfd:given" in leads_to(each)]


@pytest.mark.parametrize("of_process", [False, True])
async def test_what_is_nested_too_deep_ends_it_and_leaves_no_right(of_process: bool) -> None:
    """It raises RecursionError where it is decoded, which is no error of msgspec's."""
    async with peer(of_process) as other:
        before = open_files()
        given = os.open("/dev/null", os.O_RDONLY)
        deep = b"\x93\x00\xc2\x82\xa4type\xa4Done\xa1x" + b"\x91" * 100_000 + b"\xc0"
        other.link.send(deep, [given] * 200)
        await until(lambda: other.gone)
        os.close(given)
        assert len(open_files()) < len(before)  # nothing is left, and the link is closed


def told_in_memory(link: Link, content: bytes, size: int, seals: int = SEALS) -> None:
    """Send a message that lies in a memfd of `size` bytes, of which only `content` was written."""
    memory = os.memfd_create("told", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    os.pwrite(memory, content, 0)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    link.backlog.append((b"\x01", [memory]))
    link.flush()


async def test_a_message_with_holes_ends_it_and_is_not_read() -> None:
    """A state of a hundred megabytes that was never written costs its sender nothing."""
    async with peer(of_process=True) as other:
        other.conversation.link.largest = 1 << 30
        size = 100 << 20
        head = messages.encode(Envelope(0, False, messages.Checkpoint("a#0.1", b"", 1)))
        tracemalloc.start()
        try:
            told_in_memory(other.link, head, size)
            await until(lambda: other.gone)
            assert tracemalloc.get_traced_memory()[1] < size // 2
        finally:
            tracemalloc.stop()
        assert other.heard == []


async def test_a_message_that_can_still_be_changed_ends_it() -> None:
    async with peer() as other:
        data = messages.encode(Envelope(0, False, messages.Ping()))
        told_in_memory(other.link, data, len(data), seals=0)
        await until(lambda: other.gone)
        assert other.heard == []


async def test_a_state_and_what_an_instance_is_may_be_large_and_nothing_else_that_a_process_says() -> None:
    async with peer(of_process=True) as other:
        other.conversation.link.largest = 2 * LARGEST_BUILT
        state = messages.Checkpoint("a#0.1", bytes(LARGEST_BUILT + 1), 1)
        other.send(0, False, state)
        await until(lambda: other.heard == [state])
        question = asyncio.ensure_future(other.conversation.ask(messages.Ping()))
        built = messages.Built([], False, documentation="x" * LARGEST_OF_PROCESS)
        await asyncio.sleep(0)
        other.send(1, True, built)
        assert (await question)[0] == built
        other.send(0, False, messages.Asks("a#0.1", ["x" * LARGEST_OF_PROCESS]))
        await until(lambda: other.gone)
        assert other.heard == [state]


async def test_a_state_beyond_what_its_process_may_save_ends_it() -> None:
    async with peer(of_process=True) as other:
        other.send(0, False, messages.Checkpoint("a#0.1", bytes(LARGEST_BUILT), 1))
        await until(lambda: other.gone)
        assert other.heard == []


async def test_what_only_the_kernel_says_ends_it_when_a_process_does() -> None:
    async with peer(of_process=True) as other:
        other.send(0, False, messages.Ping())
        await until(lambda: other.gone)
        assert other.heard == []


async def test_an_answer_brings_no_rights_but_to_channels() -> None:
    async with peer(of_process=True) as other:
        null = os.open("/dev/null", os.O_RDONLY)
        question = asyncio.ensure_future(other.conversation.ask(messages.Ping()))
        await asyncio.sleep(0)
        before = open_files()
        other.send(1, True, messages.Connect(Shell.__contract__.describe(), None, "a"), [null] * 4)
        assert (await question)[1] == []
        assert open_files() == before
        os.close(null)


async def test_one_message_is_handled_before_the_next_is_taken() -> None:
    async with peer(of_process=True) as other:
        seen, under_way = list[int](), 0

        async def handle(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
            nonlocal under_way
            under_way += 1
            seen.append(under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return messages.Done(), ()

        other.conversation.handler = handle
        for channel in range(20):
            other.send(0, False, messages.Disconnect(channel))
        await until(lambda: len(seen) == 20)
        assert max(seen) == 1


async def test_who_does_not_read_its_answers_is_not_heard_meanwhile() -> None:
    async with peer(of_process=True) as other:
        asked = 0
        with pytest.raises(BlockingIOError):
            while True:
                for _ in range(100):
                    socket.send_fds(other.link.socket, [b"\x00" + question(asked + 1)], [])
                    asked += 1
                for _ in range(1000):
                    await asyncio.sleep(0)
        assert len(other.conversation.link.backlog) <= MOST_UNREAD
        answered = set[int]()
        while len(answered) < asked:  # and then it is heard again
            found = other.link.receive()
            if found is None:
                await asyncio.sleep(0)
            else:
                answered.add(messages.decode(found[0]).number)
        assert answered == set(range(1, asked + 1))


def question(number: int) -> bytes:
    return messages.encode(Envelope(number, False, messages.Disconnect(number)))


async def test_what_is_logged_of_a_process_is_short_and_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    async with peer(of_process=True) as other:
        refused = 0

        async def handle(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
            nonlocal refused
            refused += 1
            raise ContractError("not that")

        other.conversation.handler = handle
        for sent in range(1, 3 * MOST_COMPLAINTS + 1):
            other.send(0, False, messages.Quiesced(b"\x01" * 100_000, 1, 0, 0))
            await until(lambda sent=sent: refused == sent and not other.conversation.tasks)
        assert len(caplog.records) == MOST_COMPLAINTS
        assert "what comes after it is not told" in caplog.text
        assert len(caplog.text) < 5_000 * MOST_COMPLAINTS


async def failure(other: Any) -> messages.Failed:
    """What comes next, which is one."""
    while (found := other.link.receive()) is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    failed = messages.decode(found[0]).content
    assert isinstance(failed, messages.Failed)
    return failed


async def test_an_answer_that_is_too_large_for_the_kernel_is_an_error_and_ends_nothing() -> None:
    async with peer() as other:

        async def handle(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
            return messages.Built([], False, documentation="long " * LARGEST_BUILT), ()

        other.conversation.handler = handle
        other.send(7, False, messages.Ping())
        failed = await failure(other)
        assert "a plug-in that serves nothing: got 20,971" in str(decode_fault(failed.fault)) and not other.gone


async def test_what_is_asked_for_and_too_large_for_the_kernel_is_named() -> None:
    async with peer() as other:
        large = Description("Large", "1.0", documentation="long " * LARGEST_OF_PROCESS)
        with pytest.raises(ContractError, match=r"interface 'Large': got 2,621,\d+ bytes, wanted at most 524,288"):
            await other.conversation.ask(messages.Connect(large, None, "here"))
        assert not other.gone


async def test_an_error_that_says_too_much_is_cut() -> None:
    async with peer() as other:

        async def handle(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
            raise RuntimeError("long " * LARGEST_FAULT)

        other.conversation.handler = handle
        other.send(7, False, messages.Ping())
        failed = await failure(other)
        error = decode_fault(failed.fault)
        assert isinstance(error, RemoteError) and error.type_name == "RuntimeError"
        assert error.message.startswith("long long") and error.message.endswith("[cut]") and len(error.message) < 5000


def leads_to(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # the one by which the folder was listed
        return ""


async def test_a_message_that_claims_to_be_huge_ends_it() -> None:
    """It need not be: a file of any size costs its sender nothing."""
    async with peer() as other:
        memory = os.memfd_create("huge")
        os.ftruncate(memory, LARGEST_MESSAGE + 1)
        other.link.backlog.append((b"\x01", [memory]))
        other.link.flush()
        await until(lambda: other.gone)


class Shell(Interface, version="1.0"):
    """Runs programs."""

    async def inherited(self, report: str) -> list[str]: ...


class Sh(Plugin, Shell):
    """Asks a program that it starts, without closing anything first, which files it was given."""

    async def inherited(self, report: str) -> list[str]:
        os.system(f"ls -l /proc/self/fd > {report}")  # unlike subprocess, it closes nothing
        lines = [line.rpartition(" ")[2] for line in Path(report).read_text().splitlines()]
        return [line for line in lines if "mukernel" in line or "anon_inode" in line or "socket:" in line]


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_program_that_a_plugin_starts_inherits_no_right(kernel: Kernel, placement: str, tmp_path: Path) -> None:
    await kernel.load(Sh, placement=placement)
    await kernel.load(Sh, name="other", placement="process")
    assert await kernel.get(Shell, plugin="sh").inherited(f"{tmp_path}/report") == []


@pytest.mark.parametrize("unread", [0, 3])
@pytest.mark.parametrize("how", ["send", "close"])
async def test_checkpoints_that_a_process_had_told_before_it_went_are_kept(unread: int, how: str) -> None:
    """Also where it had not read all that it was sent."""
    last = messages.Checkpoint("one#0.1", b"last", 1)
    async with peer(of_process=True) as other:
        for number in range(unread):
            other.conversation.tell(messages.Detach(number))
        answer = asyncio.create_task(other.conversation.ask(messages.Ping()))
        await asyncio.sleep(0)
        for content in (messages.Checkpoint("one#0.1", b"first", 1), messages.Emptied(1), last):
            other.send(0, False, content)
        other.send(1, True, messages.Done())
        other.link.close()
        if how == "send":
            with pytest.raises(Unavailable):
                other.conversation.tell(messages.Detach(9))
        else:
            other.conversation.close()
        assert other.gone and other.heard[-1] == last and len(other.heard) == 2
        with pytest.raises(Unavailable):
            await answer
