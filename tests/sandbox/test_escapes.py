"""A plug-in in a sandbox tries each way out that we know of, and fails; the kernel and its neighbours serve on."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from pathlib import Path

import pytest
from sandbox_plugins import SECRET, WAYS, Escapist, Hostile, Neighbour, Quiet

from mukernel import Kernel
from mukernel.kernel.process import Limits

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are x86-64's")
LIMITS = Limits(memory=256 << 20, files=256)


def arguments(kernel: Kernel, folder: Path) -> dict[str, str]:
    """What each way out is aimed at; "" where it needs no aim."""
    secret = str(folder / "secret.txt")
    pid = str(os.getpid())
    neighbour = kernel.registry.entry("neighbour").replicas[0].instance
    assert neighbour is not None
    return {
        "connect to a Unix socket of the machine": str(folder / "socket"),
        "connect what it has to a Unix socket": str(folder / "socket"),
        "a datagram to a Unix socket of the machine": str(folder / "socket"),
        "a packet to a Unix socket of the machine": str(folder / "socket"),
        "a socket with a name": "/tmp/socket",
        "a lease on a file": os.path.abspath(__file__),
        "connect to an abstract socket of the machine": f"mukernel-{pid}",
        "list the home": os.path.expanduser("~"),
        "read a file of the operator": secret,
        "read it by a link": secret,
        "read it by ..": secret,
        "write to a file of the operator": secret,
        "the rings of another by /proc": str(neighbour.place.pid),
        "signal the kernel": pid,
        "ptrace": str(neighbour.place.pid),
        "limits of the kernel": pid,
    }


async def test_no_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "a password")
    (tmp_path / "secret.txt").write_text("a secret")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as abstract:
        listening.bind(str(tmp_path / "socket"))
        abstract.bind(f"\0mukernel-{os.getpid()}")
        listening.listen()
        abstract.listen()
        async with Kernel() as kernel:
            await kernel.load(Quiet, name="neighbour", placement="process")
            await kernel.load(Escapist, name="hostile", placement="sandbox", limits=LIMITS)
            hostile, neighbour = kernel.get(Hostile), kernel.get(Neighbour)
            aims = arguments(kernel, tmp_path)
            answers = {way: await hostile.attempt(way, aims.get(way, "")) for way in await hostile.names()}
            assert len(answers) == len(WAYS) >= 20
            assert {way: answer for way, answer in answers.items() if answer.startswith("ESCAPED")} == {}
            assert await neighbour.ping() > 0
            assert kernel.registry.entry("hostile").restarts == 0
    assert (tmp_path / "secret.txt").read_text() == "a secret"


async def test_the_same_ways_are_open_without_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above could fail."""
    monkeypatch.setenv(SECRET, "a password")
    (tmp_path / "secret.txt").write_text("a secret")
    async with Kernel() as kernel:
        await kernel.load(Quiet, name="neighbour", placement="process")
        await kernel.load(Escapist, name="hostile", placement="process")
        hostile, aims = kernel.get(Hostile), arguments(kernel, tmp_path)
        for way in (
            "a socket of any other family", "read /etc/passwd", "list the home", "read a file of the operator",
            "write to a file of the operator", "the rings of another by /proc", "the kernel's environment",
            "signal the kernel", "signal anybody", "personality", "its own descriptors by /proc",
            "semaphores of System V", "give up pages of a segment",
            "the inotify instances of a user", "the timers of a user",
        ):  # fmt: skip
            answer = await hostile.attempt(way, aims.get(way, ""))
            assert answer.startswith("ESCAPED"), (way, answer)


async def test_what_it_prints_does_not_fill_the_disk(tmp_path: Path) -> None:
    """More than its log may have is left out until that was put aside, and the log says so."""
    from sandbox_printing import Printer, Printing

    async with Kernel(log_folder=str(tmp_path), heartbeat=0) as kernel:
        await kernel.load(Printer, name="printer", placement="sandbox")
        await asyncio.wait_for(kernel.get(Printing).print_much(80), None)
    log = tmp_path / "printer.log"
    assert log.stat().st_size < 33 << 20
    assert b"the rest is left out" in log.read_bytes()[-200:]
