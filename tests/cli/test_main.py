"""The command line by itself: help, usage, what is said where nothing runs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mukernel.cli.main import COMMANDS

from .conftest import piped_to_nobody


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


@pytest.mark.parametrize(
    "words", [("new", "a", "b"), ("run", "app.toml", "extra"), ("ps", "--fly"), ("stop", "a", "--all")], ids=" ".join
)
def test_the_usage_that_is_shown_is_that_of_the_command(mukernel: Any, words: tuple[str, ...]) -> None:
    ended = mukernel(*words)
    assert ended.status == 2
    assert ended.err.startswith(f"usage: mukernel {words[0]} ")
    assert f"mukernel {words[0]}: error: " in ended.err


def test_new_says_which_names_it_takes(mukernel: Any, home: Path, tmp_path: Path) -> None:
    refused = mukernel("new", "Web")
    assert refused.status == 2
    assert "lower-case letters and digits, and '-' or '_' between them, that begins with a letter" in refused.err
    assert mukernel("new", str(tmp_path / "a_b")).status == 0
    for name in ("conftest", "sitecustomize", "usercustomize"):
        refused = mukernel("new", str(tmp_path / name))
        assert (refused.status, (tmp_path / name).exists()) == (2, False)
        assert f"imports a module '{name}' by itself; choose another" in refused.err


def test_the_readme_of_what_new_makes_says_where_its_last_step_comes_from(
    mukernel: Any, home: Path, tmp_path: Path
) -> None:
    mukernel("new", str(tmp_path / "hello")).good()
    steps = [line.strip() for line in (tmp_path / "hello" / "README.md").read_text().splitlines()]
    assert steps[steps.index("pytest") - 1].startswith("pip install pytest ")


def test_new_takes_no_name_that_app_toml_could_not_have(mukernel: Any, home: Path, tmp_path: Path) -> None:
    refused = mukernel("new", str(tmp_path / ("a" * 64)))
    assert (refused.status, [*tmp_path.iterdir()]) == (2, [])
    assert refused.err == f"mukernel: NAME: got 64 characters, {'a' * 20!r}..., wanted at most 63\n"
    assert mukernel("new", str(tmp_path / ("a" * 63))).status == 0
    assert mukernel("check", str(tmp_path / ("a" * 63) / "app.toml")).status == 0


def test_new_leaves_nothing_of_what_it_can_not_write(tmp_path: Path) -> None:
    """The system refuses whatever is written, as a full disk does."""
    script = """
import resource, sys
from mukernel.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.exit(main(["new", sys.argv[1]]))
"""
    made = tmp_path / "hello"
    command = [sys.executable, "-c", script, str(made)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    problem = f"mukernel: {made}/pyproject.toml can't be written: File too large; nothing is kept of {made}\n"
    assert (ended.returncode, ended.stderr) == (1, problem)
    assert not made.exists()


def test_a_call_without_a_method_says_that_only_this_is_missing(mukernel: Any) -> None:
    for command in ("call", "bench"):
        ended = mukernel(command)
        assert ended.status == 2
        assert ended.err.endswith("the following arguments are required: INTERFACE.METHOD\n")


def test_without_an_application_it_says_how_to_start_one(mukernel: Any) -> None:
    ended = mukernel("ps")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "mukernel: no application is running; `mukernel run app.toml` starts one\n"


@pytest.mark.parametrize("words", [["new"], ["--version"]])
def test_an_output_that_can_not_be_written_is_one_sentence(tmp_path: Path, words: list[str]) -> None:
    words = [*words, str(tmp_path / "hello")] if words == ["new"] else words
    command = " ".join(["unset PYTHONUNBUFFERED;", sys.executable, "-m", "mukernel.cli", *words])
    for redirected, problem in {
        "> /dev/full": "mukernel: standard output can't be written: No space left on device\n",
        ">&-": "mukernel: standard output is closed; give it a file, or /dev/null\n",
    }.items():
        shutil.rmtree(tmp_path / "hello", ignore_errors=True)
        ended = subprocess.run(f"{command} {redirected}", shell=True, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (1, problem)
    shutil.rmtree(tmp_path / "hello", ignore_errors=True)
    quiet = subprocess.run(f"{command} 2>&- <&-", shell=True, capture_output=True, text=True, check=False)
    assert quiet.returncode == 0


@pytest.mark.parametrize("imported", ["mukernel", "mukernel.core.kernel", "mukernel.cli.run"])
def test_ctrl_c_while_python_imports_the_command_ends_it_without_a_word(imported: str) -> None:
    """As the installed script does it, up to an import at which Ctrl-C comes."""
    script = f"""
import os, signal, sys
from importlib.metadata import entry_points

class Interrupting:
    def find_spec(name, path, target=None):
        if name == {imported!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
[command] = entry_points(group="console_scripts", name="mukernel")
sys.exit(command.load()())
"""
    command = [sys.executable, "-c", script, "run", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]  # as `nohup` and a shell's `&` may have it
    ended = subprocess.run(ignoring, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_an_encoding_lacks_is_escaped_as_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import json

    from mukernel.cli.terminal import Terminal, as_json
    from mukernel.core.standard_streams import accept_any_text

    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1"))
    accept_any_text()
    Terminal().say("é → \udcff")
    Terminal().say(as_json("é → \N{GRINNING FACE}"))
    text, result = written.getvalue().decode("latin-1").splitlines()
    assert text == r"é \u2192 \udcff"
    assert json.loads(result) == "é → \N{GRINNING FACE}"


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


@pytest.mark.parametrize("errors_too", [False, True])
def test_a_command_that_failed_says_so_by_its_status_though_its_reader_is_gone(
    home: Path, tmp_path: Path, mukernel: Any, errors_too: bool
) -> None:
    def status(*words: str) -> int:
        return piped_to_nobody(*words, folder=tmp_path / "hello", errors_too=errors_too)

    mukernel("new", str(tmp_path / "hello")).good()
    (tmp_path / "hello" / "bad.toml").write_text("[plugins.a]\nuse = 'nowhere:At'\n")
    assert [status("check", "bad.toml", "--json"), status("check", "bad.toml")] == [1, 1]
    assert [status("check", "--json"), status("check"), status("--version")] == [0, 0, 0]
