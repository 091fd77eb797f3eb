"""Commands and a kernel that does not answer: nobody waits for ever, and work that takes long is not cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mukernel import Unavailable
from mukernel.cli.client import greeted
from mukernel.core.state_folder import StateFolder

from .conftest import APPLICATION, write_shop

CALL = [sys.executable, "-m", "mukernel.cli", "call"]
SLOW = """
import asyncio, time
class Blocking(English):
    async def hang(self):
        print("blocked", flush=True)
        while not os.path.exists("go-on"): time.sleep(0.01)
class Slow(English):
    async def start(self): await asyncio.sleep(1.5)
class SlowAndBlocking(English):
    async def start(self): time.sleep(1.5)
"""


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """A shop whose greeter is inline and may block the kernel's loop."""
    application = APPLICATION.replace("shop:English", "shop:Blocking").replace('"process:talk"', '"inline"')
    folder = write_shop(tmp_path / "shop", application)
    with open(folder / "shop.py", "a") as file:
        file.write(SLOW)
    return folder


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


COMMANDS = (
    "ps", "tree", "describe greeter", "swap greeter", "stop greeter", "logs", "top", "call Greeter.where",
    "bench Greeter.where", "stop --all --app shop",
)  # fmt: skip


def test_a_stopped_kernel_is_told_from_a_slow_one(folder: Path, start: Any, mukernel: Any) -> None:
    app = start(folder)
    with stopped(app.process.pid):
        for command in COMMANDS:
            ended = mukernel(*command.split(), "--timeout", "100ms")
            assert ended.status == 1
            assert ended.err == (
                f"mukernel: shop does not answer: no word from its kernel, process {app.process.pid}, within 100 ms; "
                f"it is stopped, by SIGSTOP, Ctrl-Z or a debugger: `kill -CONT {app.process.pid}` lets it go on\n"
            )
    mukernel("ps").good()  # and none of them was done afterwards


def test_a_kernel_whose_loop_is_blocked(folder: Path, start: Any, mukernel: Any) -> None:
    app = start(folder)
    with subprocess.Popen([*CALL, "Greeter.hang"], stdout=subprocess.PIPE, text=True) as caller:
        app.until("blocked")
        ended = mukernel("ps", "--timeout", "100ms")
        Path("go-on").touch()  # where the application runs, too
        assert caller.wait() == 0  # its own call, which took long, was not cut
    Path("go-on").unlink()
    assert ended.status == 1
    assert f"process {app.process.pid}, within 100 ms; a plug-in that is placed inline may keep" in ended.err
    assert "mukernel/shop/logs/kernel.log" in ended.err
    assert f"`kill {app.process.pid}`, a second time" in ended.err


def test_work_that_takes_long_is_not_cut(folder: Path, start: Any, mukernel: Any) -> None:
    start(folder)
    ended = mukernel("swap", "greeter", "shop:Slow", "--timeout", "500ms")
    assert "Blocking inline → Slow inline" in ended.good()
    assert ended.err == ""  # the kernel answers meanwhile
    ended = mukernel("swap", "greeter", "shop:SlowAndBlocking", "--timeout", "500ms")
    assert "Slow inline → SlowAndBlocking inline" in ended.good()
    assert ended.err.count("does not answer: no word from its kernel") == 1
    assert ended.err.endswith("; still waiting, Ctrl-C ends the wait\n")


def test_a_timeout_that_is_none(shop: Any, mukernel: Any) -> None:
    for given in ("soon", "0s"):
        ended = mukernel("ps", "--timeout", given)
        assert ended.status == 2
        assert f"--timeout: got {given!r}, wanted a" in ended.err


@pytest.mark.parametrize("runs", [True, False])
async def test_who_is_starting_or_ending_is_named(tmp_path: Path, runs: bool) -> None:
    folder = StateFolder(tmp_path / "app")
    folder.path.mkdir()
    if runs:  # it has the lock, and does not listen yet
        folder.claim()
    kernel = f"the kernel {os.getpid()}" if runs else "the kernel"
    with pytest.raises(Unavailable, match=f"^{kernel} of app does not answer: it is starting, or ending; try again$"):
        await greeted(folder, 1.0)
    folder.release()
