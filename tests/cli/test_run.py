"""`mukernel run`: its beginning, its ends, what it leaves behind."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from .conftest import APPLICATION, PATIENCE, write_shop


def children(pid: int) -> list[int]:
    """The processes that a process has started, theirs included."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def wait_for_end(handles: list[int]) -> None:
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(30_000), "a process outlived its kernel"
        os.close(handle)


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


def test_it_says_what_runs_where_and_ends_in_order_on_sigterm(folder: Path, start: Any, mukernel: Any) -> None:
    app = start(folder)
    assert "shop   kernel" in app.lines[0]
    assert [line.split()[0] for line in app.lines[1:3]] == ["greeter", "catalog"]  # as they need each other
    assert app.lines[1].split()[1] == "process:talk"
    everyone = children(app.process.pid)
    assert len(everyone) >= 3  # the fork server and two processes of plug-ins
    handles = [os.pidfd_open(pid) for pid in everyone]
    assert app.end(signal.SIGTERM) == 0
    wait_for_end(handles)
    assert app.lines[-1] == "shop has ended"
    assert mukernel("ps").status == 1


def test_ctrl_c_ends_it_with_0(folder: Path, start: Any) -> None:
    app = start(folder)
    assert app.end(signal.SIGINT) == 0


@pytest.mark.parametrize(("plugin", "status"), [("shop:English", 0), ("shop:Broken", 1)])
def test_it_is_started_though_nobody_reads_what_it_says(
    home: Path, tmp_path: Path, mukernel: Any, plugin: str, status: int
) -> None:
    folder = write_shop(tmp_path / "shop", APPLICATION.replace("shop:English", plugin))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mukernel.cli", "run", str(folder / "app.toml")]
    with subprocess.Popen(command, stdout=writer, stderr=writer) as running:
        os.close(writer)
        while running.poll() is None:
            shown = mukernel("ps", "--json")
            if shown.status == 0 and [each["state"] for each in json.loads(shown.out)] == ["serving"] * 2:
                running.terminate()
                break
    assert running.returncode == status


@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}]
)
def test_an_output_that_knows_only_ascii_ends_nothing(
    folder: Path, home: Path, start: Any, monkeypatch: pytest.MonkeyPatch, encoding: dict[str, str]
) -> None:
    for name, value in encoding.items():
        monkeypatch.setenv(name, value)

    def said(*words: str) -> str:
        command = [sys.executable, "-m", "mukernel.cli", *words]
        ended = subprocess.run(command, capture_output=True, encoding="ascii", check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    app = start(folder)
    assert r"\u251c\u2500 process talk" in said("tree")
    assert r"\u251c\u2500 greeter" in said("tree", "--help")
    assert said("call", "Greeter.greet", r'name:="\u0141\u00f3d\u017a"') == "Hello \\u0141\\u00f3d\\u017a!\n"
    assert r"English process:talk \u2192 Loud process:talk" in said("swap", "greeter", "shop:Loud")
    assert r"English process:talk \u2192 Loud process:talk" in app.until("swap")
    log = (home / "mukernel" / "shop" / "logs" / "kernel.log").read_text(encoding="utf-8")
    assert "English process:talk → Loud process:talk" in log
    assert "SINCE" in said("top", "--once", "--every", "20ms")
    assert "calls/s" in said("bench", "Greeter.greet", "name=Ada", "--seconds", "20ms")
    app.end()
    assert not any("Traceback" in line or "Logging error" in line for line in app.lines)


def test_sighup_ends_it_in_order_unless_it_is_ignored(folder: Path, start: Any, mukernel: Any) -> None:
    app = start(folder)
    app.process.send_signal(signal.SIGHUP)
    assert app.end(signal.SIGHUP) == 0  # a second one hurries nobody
    assert app.lines[-1] == "shop has ended"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        app = start(folder)
    finally:
        signal.signal(signal.SIGHUP, before)
    app.process.send_signal(signal.SIGHUP)
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello Ada!"
    assert app.end(signal.SIGTERM) == 0
    assert not any("SIGHUP" in line for line in app.lines)


def test_who_closes_its_terminal_ends_it_in_order(home: Path, tmp_path: Path, mukernel: Any) -> None:
    folder = write_shop(tmp_path / "shop")
    with open(folder / "shop.py", "a") as file:
        file.write("    async def stop(self) -> None: open(os.path.dirname(__file__) + '/stopped', 'w').close()\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mukernel.cli", "run", str(folder / "app.toml")]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b" runs;" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    process.wait(PATIENCE)
    assert (folder / "stopped").exists()
    assert mukernel("ps").status == 1


def test_a_second_ctrl_c_does_not_wait(home: Path, tmp_path: Path, start: Any) -> None:
    application = APPLICATION.replace("shop:English", "shop:Slow")
    folder = write_shop(tmp_path / "shop", application)
    with open(folder / "shop.py", "a") as file:
        file.write(
            "class Slow(English):\n    async def stop(self):\n        print('stopping', flush=True)\n"
            "        import asyncio; await asyncio.Event().wait()\n"
        )
    app = start(folder)
    handles = [os.pidfd_open(pid) for pid in children(app.process.pid)]
    app.process.send_signal(signal.SIGINT)
    app.until("shop is ending")
    assert app.end(signal.SIGINT) == 130
    wait_for_end(handles)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", ["while True: pass", "import time; time.sleep(1000)"])
def test_a_second_signal_ends_it_though_an_inline_plugin_blocks_the_loop(
    home: Path, tmp_path: Path, start: Any, work: str, number: signal.Signals
) -> None:
    application = APPLICATION.replace("shop:English", "shop:Blocking").replace('"process:talk"', '"inline"')
    folder = write_shop(tmp_path / "shop", application)
    with open(folder / "shop.py", "a") as file:
        file.write("class Blocking(English):\n    async def hang(self):\n        print('blocked', flush=True)\n")
        file.write(f"        {work}\n")
    app = start(folder)
    handles = [os.pidfd_open(pid) for pid in children(app.process.pid)]
    command = [sys.executable, "-m", "mukernel.cli", "call", "Greeter.hang"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as caller:
        app.until("blocked")
        app.process.send_signal(number)
        app.until(f"{number.name}: it will end in order; a second one ends it at once")
        assert app.end(number) == 128 + number
        caller.kill()
    wait_for_end(handles)
    assert app.lines[-1] == "ended at once"


def test_state_folder_and_socket_are_private(folder: Path, home: Path, start: Any) -> None:
    start(folder)
    state = home / "mukernel" / "shop"
    assert stat.S_IMODE(os.stat(home / "mukernel").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(state).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(state / "control").st_mode) == 0o600


def test_a_second_run_is_refused_with_the_pid_of_the_first(folder: Path, start: Any, mukernel: Any) -> None:
    app = start(folder)
    ended = mukernel("run", str(folder / "app.toml"))
    assert ended.status == 1
    assert f"shop can't be run: it is running already, as process {app.process.pid} " in ended.err
    assert len(json.loads(mukernel("ps", "--json").good())) == 2  # the first is unharmed


def test_two_applications_are_told_apart(folder: Path, tmp_path: Path, start: Any, mukernel: Any) -> None:
    start(folder)
    other = write_shop(tmp_path / "other", APPLICATION.replace('"shop"', '"other"'))
    state = tmp_path / "s"
    app = start(other, "--state", str(state))
    assert json.loads(mukernel("tree", "--json").good())["name"] == "shop"  # the only one that is known by its name
    assert json.loads(mukernel("tree", "--json", "--state", str(state)).good())["pid"] == app.process.pid
    app.end()
    start(other)
    assert "several applications are running: other, shop; say which with --app NAME" in mukernel("ps").err
    assert json.loads(mukernel("tree", "--json", "--app", "other").good())["name"] == "other"


def test_killed_with_9_it_leaves_no_process_and_no_shared_memory(folder: Path, start: Any, mukernel: Any) -> None:
    before = set(os.listdir("/dev/shm"))
    app = start(folder)
    for _ in range(3):
        mukernel("call", "Catalog.welcome", "Ada").good()  # channels, from the kernel and between processes
    everyone = children(app.process.pid)
    handles = [os.pidfd_open(pid) for pid in everyone]
    assert app.end(signal.SIGKILL) == -signal.SIGKILL
    wait_for_end(handles)
    assert set(os.listdir("/dev/shm")) <= before
    assert mukernel("ps").status == 1  # its socket is still there, and means nothing
    again = start(folder)
    assert mukernel("call", "Catalog.welcome", "Ada").good() == "Hello Ada!"
    assert again.end() == 0


def test_a_plugin_that_cannot_start_ends_the_run_and_leaves_nothing(home: Path, tmp_path: Path, mukernel: Any) -> None:
    folder = write_shop(tmp_path / "shop", APPLICATION.replace("shop:English", "shop:Broken"))
    before = children(os.getpid())
    ended = mukernel("run", str(folder / "app.toml"))
    assert ended.status == 1
    problem, where = ended.err.splitlines()
    assert problem == "mukernel: app.toml: plugins.greeter can't be started: RuntimeError: it does not start"
    assert re.fullmatch(r'  shop\.py:\d+: .*raise RuntimeError\("it does not start"\)', where)
    assert 'shop.py", line' in mukernel("run", str(folder / "app.toml"), "--verbose").err
    assert children(os.getpid()) == before
    assert mukernel("ps").status == 1


@pytest.mark.parametrize("placement", ["inline", "process"])
def test_a_plugin_that_raises_what_ctrl_c_raises_is_named(home: Path, tmp_path: Path, placement: str) -> None:
    application = APPLICATION.replace("shop:English", "shop:Raising").replace('"process:talk"', f'"{placement}"')
    folder = write_shop(tmp_path / "shop", application)
    with open(folder / "shop.py", "a") as file:
        file.write("class Raising(English):\n    async def start(self):\n        raise KeyboardInterrupt\n")
    command = [sys.executable, "-m", "mukernel.cli", "run", str(folder / "app.toml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        "mukernel: app.toml: plugins.greeter can't be started: plug-in 'greeter' raised KeyboardInterrupt, which is no "
        "Exception, while it was being started\n"
    )


def test_a_plugin_without_enough_memory_says_which_key_is_meant(home: Path, tmp_path: Path, mukernel: Any) -> None:
    folder = write_shop(tmp_path / "shop", APPLICATION.replace('"512M"', '"31M"'))
    refused = mukernel("check", str(folder / "app.toml"))
    assert refused.status == 1
    assert "plugins.catalog.memory: got '31M', wanted '32M', which a process needs to start, to '1024T'" in refused.err
    (folder / "app.toml").write_text(APPLICATION.replace('"512M"', '"32M"'))
    with open(folder / "shop.py", "a") as file:
        file.write("    async def start(self) -> None: self.filled = bytearray(64 << 20)\n")
    ended = mukernel("run", str(folder / "app.toml"))
    assert ended.status == 1
    problem, where = ended.err.splitlines()
    assert problem == (
        "mukernel: app.toml: plugins.catalog can't be started: MemoryError; its process may have 32.0M of its own: "
        "wanted a larger `memory`"
    )
    assert "bytearray(64 << 20)" in where


def test_a_plugin_that_takes_long_to_start_is_named(home: Path, tmp_path: Path, start: Any, mukernel: Any) -> None:
    folder = write_shop(tmp_path / "shop", APPLICATION.replace("shop:English", "shop:Late"))
    with open(folder / "shop.py", "a") as file:
        file.write("class Late(English):\n    async def start(self):\n")
        file.write("        import asyncio; await asyncio.Event().wait()\n")
    app = start(folder, until="greeter   is still starting; Ctrl-C ends the wait")
    states = {each["name"]: each["state"] for each in json.loads(mukernel("ps", "--json").good())}
    assert states == {"greeter": "starting"}
    called = mukernel("call", "Greeter.greet", "Ada")
    assert called.status == 1 and "the application is still starting, and to come are: greeter" in called.err
    assert app.end(signal.SIGINT) == 0


def test_a_crashed_plugin_is_restarted_and_that_is_said(folder: Path, start: Any, mukernel: Any) -> None:
    app = start(folder)
    os.kill(int(mukernel("call", "Greeter.where").good()), signal.SIGKILL)
    app.until("greeter   crash   ended by signal 9")
    app.until("greeter   restart   serves again")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello Ada!"
    assert json.loads(mukernel("ps", "--json").good())[0]["restarts"] == 1
    assert "greeter crash ended by signal 9" in mukernel("logs", "kernel").good()


def test_a_process_that_does_not_answer_keeps_nobody_waiting(folder: Path, start: Any, mukernel: Any) -> None:
    start(folder)
    pid = int(mukernel("call", "Greeter.where").good())
    os.kill(pid, signal.SIGSTOP)
    states = {each["name"]: each["state"] for each in json.loads(mukernel("ps", "--json").good())}
    os.kill(pid, signal.SIGCONT)
    assert states == {"greeter": "not answering", "catalog": "serving"}
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello Ada!"


@pytest.mark.parametrize("words", ["top --every 50ms", "bench Greeter.greet name=Ada --seconds 60", "logs --follow"])
def test_a_command_that_goes_on_says_that_the_application_has_gone(
    home: Path, tmp_path: Path, start: Any, mukernel: Any, words: str
) -> None:
    app = start(write_shop(tmp_path / "shop"))
    command = subprocess.Popen(
        [sys.executable, "-m", "mukernel.cli", *words.split()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert command.stdout is not None
        if words.startswith("bench"):
            while not json.loads(mukernel("ps", "--json").good())[0]["calls"]:
                assert command.poll() is None
        else:
            assert command.stdout.readline()
        app.end(signal.SIGKILL)
        err = command.communicate(timeout=60)[1]
    finally:
        command.kill()
    assert err == "mukernel: the application shop has gone: its kernel has ended, or was killed\n"
    assert command.returncode == 1
