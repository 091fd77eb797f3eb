"""What plug-ins say reaches a terminal as text, and not as something that it obeys."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mukernel.cli.logs import show
from mukernel.cli.run import HarmlessFormatter
from mukernel.cli.terminal import Terminal, harmless
from mukernel.cli.top import SHOW_CURSOR

from .conftest import write_shop


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("\x1b]0;a title\x07", "?]0;a title?"),
        ("\x1b[2J\x1b[Hgone", "?[2J?[Hgone"),
        ("done\rnot done", "done?not done"),
        ("of Windows\r\n", "of Windows\n"),
        ("\x9b2J", "?2J"),  # the same as ESC [ in one character
        ("a\u202eb", "a?b"),  # what follows would run backwards
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),  # colours stay, and end
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("naïve 日本 👩‍🚀", "naïve 日本 👩‍🚀"),
    ],
)
def test_nothing_is_left_to_obey_but_colours(said: str, shown: str) -> None:
    assert harmless(said) == shown


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_kept_from_obeying_and_a_file_gets_what_was_said() -> None:
    screen, file = Screen(), io.StringIO()
    for stream in (screen, file):
        Terminal(stream).say("a\x1b[2Jb")
    assert screen.getvalue() == "a?[2Jb\n"
    assert file.getvalue() == "a\x1b[2Jb\n"


def test_what_is_logged_to_a_terminal_is_harmless() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 1, "it said %s", ("\x1b]0;title\x07",), None)
    assert HarmlessFormatter("%(message)s").format(record) == "it said ?]0;title?"


def on_a_terminal(*words: str) -> bytes:
    """What a command writes to a terminal, output and errors."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "mukernel.cli", *words], stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while more := os.read(ours, 4096):
            seen += more
    except OSError:  # how a terminal says that nobody writes to it any more
        pass
    os.close(ours)
    process.wait()
    return seen


def test_errors_and_results_of_a_plugin_are_shown_harmlessly(home: Path, tmp_path: Path, start: Any) -> None:
    folder = write_shop(tmp_path / "shop")
    with open(folder / "shop.py", "a") as file:
        file.write(
            "\nasync def fail(self): raise ValueError('bad \\x1b]0;owned\\x07 \\x1b[2J')\nEnglish.fail = fail\n"
            "async def greet(self, name, *, times=1):\n    print('\\x1b[2Jprinted', flush=True)\n"
            "    return 'Hi \\x1b[2J'\nEnglish.greet = greet\n"
        )
    start(folder)
    for words in (["Greeter.fail"], ["Greeter.fail", "--verbose"], ["Greeter.greet", "Ada"]):
        seen = on_a_terminal("call", *words)
        assert b"?[2J" in seen and b"\x1b[2J" not in seen and b"\x1b]" not in seen, words
    seen = on_a_terminal("logs", "greeter")
    assert b"?[2Jprinted" in seen and b"\x1b[2J" not in seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_top_shows_the_cursor_again_whatever_ends_it(
    home: Path, tmp_path: Path, start: Any, number: signal.Signals
) -> None:
    start(write_shop(tmp_path / "shop"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mukernel.cli", "top", "--every", "50ms"]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"CALLS/S" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(number)
    with contextlib.suppress(OSError):
        while more := os.read(ours, 4096):
            seen += more
    os.close(ours)
    assert seen.endswith(SHOW_CURSOR.encode())
    assert process.wait() == 128 + number


def test_logs_show_what_was_put_aside_too(tmp_path: Path) -> None:
    log = tmp_path / "greeter.log"
    log.write_text("three\nfour\n")
    (tmp_path / "greeter.log.1").write_text("one\ntwo\n")
    arguments = argparse.Namespace(lines=3, json=False, follow=False)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert show([str(log)], arguments) == {str(log): log.stat().st_size}
    assert shown.getvalue() == "two\nthree\nfour\n"
