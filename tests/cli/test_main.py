"""The command line by itself: help, usage, what is said where nothing runs."""

from __future__ import annotations

from typing import Any

import pytest

from mukernel.cli.main import COMMANDS


def test_help_teaches_with_examples(mukernel: Any) -> None:
    text = mukernel("--help").good()
    assert all(f"    {name} " in text for name in COMMANDS)
    assert "mukernel call Greeter.greet name=Ada" in text
    assert "exit status: 0 done, 1 it failed, 2 the command was not understood" in text
    assert mukernel().good() == text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(mukernel: Any, command: str) -> None:
    text = mukernel(command, "--help").good()
    assert f"examples:\n  mukernel {command}" in text


def test_version(mukernel: Any) -> None:
    from importlib.metadata import version

    assert mukernel("--version").good().startswith(f"mukernel {version('mukernel')} (Python 3.")


def test_what_is_not_understood_exits_with_2(mukernel: Any) -> None:
    assert mukernel("fly").status == 2
    assert mukernel("ps", "--fly").status == 2
    assert mukernel("stop").status == 2


def test_without_an_application_it_says_how_to_start_one(mukernel: Any) -> None:
    ended = mukernel("ps")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "mukernel: no application is running; `mukernel run app.toml` starts one\n"


def test_colours_only_on_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from mukernel.cli.terminal import Terminal

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Terminal(Screen()).paint("x", "red") == "\x1b[31mx\x1b[0m"
    assert Terminal(io.StringIO()).paint("x", "red") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Terminal(Screen()).paint("x", "red") == "x"


def test_a_table_is_straight_in_spite_of_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    from mukernel.cli.terminal import Terminal, visible

    terminal = Terminal()
    terminal.colour = True
    lines = terminal.table(("A", "N"), [[terminal.paint("red", "red"), "1"], ["long name", "100"]], ("N",)).splitlines()
    assert [visible(line) for line in lines] == [14, 14, 14]
