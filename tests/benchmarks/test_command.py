"""`python -m benchmarks` where the peers' packages are not installed."""

from __future__ import annotations

import importlib.metadata
import json
import runpy
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
