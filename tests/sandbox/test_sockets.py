"""A socket in a folder that a sandbox may read, or write, is out of its reach: no mount and no Landlock would see to
that, since who connects to a socket neither reads its file nor writes to it."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import pytest
from sandbox_plugins import Escapist, Hostile

from mukernel import Kernel, Sandbox

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are x86-64's")
BY_STREAM = ("connect to a Unix socket of the machine", "a socket with a name")
BY_DATAGRAM = ("a datagram to a Unix socket of the machine", "a packet to a Unix socket of the machine")
ANEW = "connect what it has to a Unix socket"


async def answers(kernel: Kernel, folder: Path) -> dict[str, str]:
    """What each way to the sockets of a folder gave."""
    hostile = kernel.get(Hostile)
    aims = dict.fromkeys((*BY_STREAM, ANEW), folder / "stream") | dict.fromkeys(BY_DATAGRAM, folder / "datagram")
    aims["a socket with a name"] = folder / "new"
    return {way: await hostile.attempt(way, str(aim)) for way, aim in aims.items()}


@pytest.mark.parametrize("grant", ["read", "write"])
async def test_no_socket_in_a_granted_folder_is_reached(tmp_path: Path, grant: str) -> None:
    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        stream.bind(str(tmp_path / "stream"))
        datagram.bind(str(tmp_path / "datagram"))
        stream.listen()
        stream.setblocking(False)
        datagram.setblocking(False)
        sandbox = Sandbox(**{grant: (str(tmp_path),)})
        async with Kernel() as kernel:
            await kernel.load(Escapist, name="hostile", placement="sandbox", sandbox=sandbox)
            assert sorted(os.listdir(tmp_path)) == ["datagram", "stream"]
            told = await answers(kernel, tmp_path)
            assert {way: answer for way, answer in told.items() if answer.startswith("ESCAPED")} == {}
            await kernel.move("hostile", "process")  # where the same ways lead there, so that the test could fail
            told = await answers(kernel, tmp_path)
            assert {way for way, answer in told.items() if answer.startswith("ESCAPED")} == {
                *BY_STREAM, "a datagram to a Unix socket of the machine", ANEW,
            }  # fmt: skip
            assert (tmp_path / "new").exists()
            stream.accept()[0].close()
            assert datagram.recv(10) == b"obey"


async def test_a_file_that_it_reads_is_not_leased(tmp_path: Path) -> None:
    """Who opens a leased file waits until the lease is given up, or the system breaks it."""
    (tmp_path / "file").write_text("shared")
    async with Kernel() as kernel:
        sandbox = Sandbox(read=(str(tmp_path),))
        await kernel.load(Escapist, name="hostile", placement="sandbox", sandbox=sandbox)
        told = await kernel.get(Hostile).attempt("a lease on a file", str(tmp_path / "file"))
        assert told.startswith("PermissionError"), told
        await kernel.move("hostile", "process")
        told = await kernel.get(Hostile).attempt("a lease on a file", str(tmp_path / "file"))
        assert told.startswith("ESCAPED"), told
