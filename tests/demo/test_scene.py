"""The demo from end to end, as its users run it: what it says, how it ends, and that nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mukernel.demo import scene
from mukernel.demo.screen import LEAVE
from mukernel.demo.summary import Summary

from .conftest import Surroundings

FOLDER = os.path.dirname(os.__file__) + "/email"  # a part of the standard library: 20 files, 500 symbols
PULL = [sys.executable, "-m", "mukernel.demo", FOLDER]


def test_every_call_is_answered_and_the_summary_says_so(surroundings: Surroundings) -> None:
    source = surroundings.folder / "email"
    shutil.copytree(FOLDER, source)
    (source / "tests").mkdir()
    ended = surroundings.run(sys.executable, "-m", "mukernel.demo", str(source), "--json", "--seconds", "4")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    summary = msgspec.convert(json.loads(ended.stdout), Summary)
    assert summary.good and not summary.problems
    assert summary.indexed.files > 10 and summary.indexed.symbols > 100
    assert summary.indexed.left_out == {"folders of tests": 1}
    calls = summary.calls
    assert calls.made == calls.right > 100
    assert (calls.wrong, calls.failed, calls.hung) == (0, 0, 0)
    assert 0 < calls.p50_ms <= calls.p99_ms <= calls.longest_ms
    assert {name: ledger.lost for name, ledger in summary.ledgers.items()} == {
        "index": 0,
        "ranker": 0,
        "search": 0,
    }
    assert summary.ledgers["search"].accepted >= calls.made
    assert summary.results.before != summary.results.after
    happened = [(event.what, event.plugin) for event in summary.events]
    for wanted in (("swap", "ranker"), ("scale", "search"), ("kill -9", "index")):
        assert happened.count(wanted) == 1
    assert happened.count(("move", "index")) == 2
    assert happened.count(("rolled back", "ranker")) == 2
    assert happened.count(("kill -9", "search")) == happened.count(("serves again", "search")) == 2
    assert surroundings.left() == []


@pytest.mark.parametrize(("encoding", "arrow"), [("utf-8", "→"), ("ascii", r"\u2192")])
def test_without_a_terminal_it_prints_plain_lines(surroundings: Surroundings, encoding: str, arrow: str) -> None:
    surroundings.environment["PYTHONIOENCODING"] = encoding
    ended = surroundings.run(*PULL, "--seconds", "2")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert f"Bm25Ranker {arrow} SymbolRanker" in ended.stdout
    assert "\x1b" not in ended.stdout + ended.stderr
    assert ended.stdout.rstrip().endswith("every call was answered, and answered rightly")
    assert surroundings.left() == []


@pytest.mark.parametrize(("way", "outcome"), [("wrong", "wrong"), ("raising", "failed"), ("hanging", "hung")])
def test_a_search_that_loses_calls_is_found_out(surroundings: Surroundings, way: str, outcome: str) -> None:
    script = str(Path(__file__).with_name("losing.py"))
    ended = surroundings.run(sys.executable, script, way, FOLDER)
    assert ended.returncode == 1, ended.stderr + ended.stdout
    summary = json.loads(ended.stdout)
    assert summary["good"] is False
    assert summary["calls"][outcome] > 0
    assert any(f"of {summary['calls']['made']} calls" in problem for problem in summary["problems"])
    assert surroundings.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(surroundings: Surroundings, number: signal.Signals) -> None:
    process = surroundings.start(*PULL, "--seconds", "11")
    assert process.stdout is not None
    for line in process.stdout:
        if "swap" in line:
            break
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number
    assert surroundings.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once_and_says_nothing(surroundings: Surroundings, number: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PULL, "--seconds", "30"], env={**surroundings.environment, "TERM": "xterm"}, stdin=theirs, stdout=theirs,
        stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"calls/s" not in seen:
        seen += os.read(ours, 65536)
    process.send_signal(number)
    process.send_signal(number)
    with contextlib.suppress(OSError):  # there is nobody left who could write
        while more := os.read(ours, 65536):
            seen += more
    os.close(ours)
    assert process.wait() in (128 + number, -number)  # by the system, if Python was ending already
    assert b"Traceback" not in seen
    assert seen.endswith(LEAVE.encode())
    for handle in [os.pidfd_open(pid) for pid in surroundings.processes()]:
        assert select.select([handle], [], [], 60)[0], "a process outlived its demo"
        os.close(handle)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["picture and table", "json"])
def test_a_terminal_obeys_no_name_of_a_file(surroundings: Surroundings, options: list[str]) -> None:
    source = surroundings.folder / "\x1b]0;title\x07"
    source.mkdir()
    for number in range(9):
        (source / f"a\x1b[31mred\x1b]0;owned\x07\n\x9b2J\u202e{number}.py").write_text("def copy(): 'Copies.'\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mukernel.demo", str(source), "--seconds", "1", *options],
        env={**surroundings.environment, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
        while more := os.read(ours, 65536):
            seen += more
    os.close(ours)
    process.wait()
    shown = seen.decode()
    assert "red" in shown and "owned" in shown
    for obeyed in ("\x1b]", "\x07", "\x1b[31mred", "\x9b", "\u202e"):
        assert obeyed not in shown


@pytest.mark.parametrize("options", [[], ["--keep", "--seconds", "1"]], ids=["at work", "kept running"])
def test_what_a_killed_demo_left_goes_with_the_next(surroundings: Surroundings, options: list[str]) -> None:
    temporary, empty = surroundings.folder / "tmp", surroundings.folder / "empty"
    empty.mkdir()
    process = surroundings.start(*PULL, *options)
    assert process.stdout is not None and process.stderr is not None
    for line in process.stderr if options else process.stdout:
        if "Ctrl-C" in line or "swap" in line:
            break
    [killed] = temporary.iterdir()
    surroundings.run(sys.executable, "-m", "mukernel.demo", str(empty))
    assert [*temporary.iterdir()] == [killed]  # its demo lives
    process.kill()
    process.communicate()
    assert [*temporary.iterdir()] == [killed]
    strange = temporary / "mukernel-demo-strange"  # no demo has locked anything in it
    strange.mkdir()
    ended = surroundings.run(sys.executable, "-m", "mukernel.demo", str(empty))
    assert ended.returncode == 2, ended.stderr
    assert [*temporary.iterdir()] == [strange]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_kept_running_it_answers_the_command_line(surroundings: Surroundings, number: signal.Signals) -> None:
    process = surroundings.start(*PULL, "--keep", "--seconds", "1")
    assert process.stderr is not None
    for line in process.stderr:
        if "Ctrl-C" in line:
            break
    command = [sys.executable, "-m", "mukernel.cli"]
    listed = surroundings.run(*command, "ps", "--app", "demo", "--json")
    called = surroundings.run(*command, "call", "Search.search", "query=message", "--app", "demo", "--json")
    process.send_signal(number)
    process.communicate()
    assert listed.returncode == 0, listed.stderr
    assert {plugin["name"] for plugin in json.loads(listed.stdout)} >= {"index", "ranker", "search"}
    assert called.returncode == 0, called.stderr
    assert "essage" in called.stdout
    assert process.returncode == 0
    assert surroundings.left() == []


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", "1e9"])
def test_seconds_that_are_none(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        scene.run_command(["--seconds", seconds])
    assert ended.value.code == 2
    assert (
        f"got {seconds!r}, wanted a number of seconds above 0, such as 20, and at most 86400" in capsys.readouterr().err
    )
