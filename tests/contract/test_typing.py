"""Strict type checkers see an interface's own types through kernel.get(), and see mistakes; without
generated code."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mukernel

EXAMPLE = Path(__file__).with_name("typing_example.py")
PLAIN_EXAMPLE = Path(__file__).with_name("typing_plain_example.py")
SOURCES = Path(mukernel.__file__).parents[1]

# Each mistake, put at the end of application(), must be found by every checker, in its own line.
MISTAKES = [
    "await greeter.greet(3)",
    "await greeter.greet()",
    "await greeter.greet('Ada', True)",
    "await greeter.great('Ada')",
    "number_of_it: int = await greeter.greet('Ada')",
    "greeter.echo(['a list'])",
    "door.open('wide')",
    "wrong: Door = kernel.get(Greeter)",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy has found of our own sources, which the first run reads for all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def mistaken(tmp_path: Path) -> Path:
    file = tmp_path / "mistaken_example.py"
    file.write_text(EXAMPLE.read_text() + "".join(f"        {mistake}\n" for mistake in MISTAKES))
    return file


def mistaken_lines(file: Path) -> set[int]:
    last = len(file.read_text().splitlines())
    return set(range(last - len(MISTAKES) + 1, last + 1))


def mypy(file: Path, cache: Path) -> tuple[int, set[int], str]:
    """(exit status, lines with errors, all that it said)."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"]
    command += ["--cache-dir", str(cache), "--follow-imports=silent", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"MYPYPATH": str(SOURCES), "PATH": "/usr/bin:/bin"}
    )
    said = done.stdout + done.stderr
    errors = [line for line in said.splitlines() if ": error:" in line]
    return done.returncode, {int(line.split(":")[1]) for line in errors}, said


def pyright(file: Path, configuration: Path) -> tuple[int, set[int], str]:
    """(exit status, lines with errors, all that it said)."""
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(SOURCES)], "include": [str(file)]}
    configuration.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "--project", str(configuration)], capture_output=True, text=True)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [each for each in found if each["severity"] == "error"]
    return done.returncode, {each["range"]["start"]["line"] + 1 for each in errors}, done.stdout


def test_mypy_accepts_the_example(cache: Path) -> None:
    status, _, said = mypy(EXAMPLE, cache)
    assert status == 0, said


def test_mypy_accepts_callers_of_a_plain_class_and_finds_their_mistakes(tmp_path: Path, cache: Path) -> None:
    status, _, said = mypy(PLAIN_EXAMPLE, cache)
    assert status == 0, said
    mistakes = ["formatter.render(3)", "formatter.rendered('a')", "wrong: int = formatter.render('a')"]
    file = tmp_path / "mistaken_plain_example.py"
    file.write_text(PLAIN_EXAMPLE.read_text() + "".join(f"        {mistake}\n" for mistake in mistakes))
    last = len(file.read_text().splitlines())
    assert mypy(file, cache)[1] == {last - 2, last - 1, last}


def test_mypy_finds_every_mistake(mistaken: Path, cache: Path) -> None:
    _, lines, said = mypy(mistaken, cache)
    assert lines == mistaken_lines(mistaken), said


# pyright is no dependency of the tests: it brings a JavaScript runtime. Where it is installed, it must agree.
if importlib.util.find_spec("pyright") is not None:

    def test_pyright_accepts_the_example(tmp_path: Path) -> None:
        status, _, said = pyright(EXAMPLE, tmp_path / "pyrightconfig.json")
        assert status == 0, said

    def test_pyright_finds_every_mistake(mistaken: Path, tmp_path: Path) -> None:
        _, lines, said = pyright(mistaken, tmp_path / "pyrightconfig.json")
        assert lines == mistaken_lines(mistaken), said
