"""A NATS server with JetStream, in a process of its own, and its Python client: the peer of the event server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks.peers import PeerMissing, require

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


def missing() -> str:
    """What is not installed, and how to get it; "" if all is there."""
    try:
        require("nats", "nats-py")
    except PeerMissing as error:
        return str(error)
    return "" if binary() else "nats-server is not installed; in Debian it is the package nats-server"


def binary() -> str | None:
    return shutil.which("nats-server", path=PATH)


def version() -> str:
    return subprocess.run([binary() or "", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


@contextlib.asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[Any]:
    """A connection to a server that keeps its streams in a folder; it ends with the block, or with this process."""
    nats = require("nats", "nats-py")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(binary()), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs on the loop yet
        [sys.executable, "-c", _DIE_WITH_PARENT, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            # The client tries again until the server listens.
            connection = await nats.connect(
                f"nats://127.0.0.1:{port}", reconnect_time_wait=0.05, max_reconnect_attempts=200,
                allow_reconnect=True, error_cb=ignore,
            )  # fmt: skip
            try:
                yield connection
            finally:
                await connection.close()
        finally:
            server.kill()


async def ignore(_: Exception) -> None:
    """The first attempts find nobody."""
