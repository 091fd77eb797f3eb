"""Conversations over a link: nothing that arrives is lost, no right is kept that nobody asked for, garbage ends it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from waiting import until

from mukernel import Interface, Kernel, Plugin
from mukernel.core import messages
from mukernel.core.conversation import Conversation
from mukernel.core.messages import Envelope
from mukernel.transports.link import LARGEST_MESSAGE, Link


class Peer:
    """A conversation, and the bare link at its other end."""

    def __init__(self) -> None:
        ours, theirs = Link.pair()
        self.link, self.heard = Link(ours), list[Any]()
        self.gone = False
        self.conversation = Conversation(Link(theirs), asyncio.get_running_loop(), self.handle, self.closed)

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
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
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


async def test_what_nobody_understands_ends_it_and_leaves_no_right() -> None:
    async with peer() as other:
        given = os.memfd_create("given")
        other.link.send(msgspec.msgpack.encode(["no", "message"]), [given])
        await until(lambda: other.gone)
        os.close(given)
        assert not [each for each in open_files() if "memfd:given" in leads_to(each)]


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
