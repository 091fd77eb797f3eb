"""`python -m benchmarks` where the peers' packages are not installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PEERS = ("Pyro5", "grpcio", "rpyc")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`python -m MODULE WORD ...` in this process, in which no peer is installed."""
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name in PEERS:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    def start(module: str, *words: str) -> None:
        monkeypatch.setattr(sys, "argv", [module, *words])
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
    return start


def test_a_part_that_needs_no_peer_runs(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("benchmarks", "size", "--json")
    measured = json.loads(capsys.readouterr().out)
    assert "Lines of the kernel" in json.dumps(measured)


@pytest.mark.parametrize("command", [("benchmarks", "size", "calls"), ("benchmarks",), ("benchmarks.peers",)])
def test_one_that_needs_them_says_what_to_install_before_it_measures(
    run: Any, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*command)
    problem = str(ended.value.code)
    assert "not installed: Pyro5, grpcio, rpyc" in problem
    assert "pip install 'mukernel[benchmark]'" in problem
    if command[0] == "benchmarks":
        assert (
            "these parts need no peer: inline sandbox chains swaps deployment crashes startup events memory size"
            in problem
        )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.peers"])
@pytest.mark.parametrize(
    ("option", "given", "wanted"),
    [
        *(("--seconds", text, "a number of seconds above 0") for text in ("0", "-1", "nan", "inf", "1e9", "soon")),
        *(("--slices", text, "a whole number of at least 1") for text in ("0", "-3", "1.5", "10001", "many")),
    ],
)
def test_numbers_that_are_none_are_refused(
    run: Any, capsys: pytest.CaptureFixture[str], module: str, option: str, given: str, wanted: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(module, f"{option}={given}")
    assert ended.value.code == 2
    assert f"argument {option}: got {given!r}, wanted {wanted}" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_who_reads_only_the_beginning_is_no_error(options: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    checkout = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "benchmarks", "size", *options]
    ended = subprocess.run(command, cwd=checkout, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    assert (ended.returncode, ended.stderr) == (0, "measuring size: lines of the kernel\n")
