"""The host of third-party plug-ins: each has the library that it needs, what the hostile one tries is refused, and all
others go on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "plugin_host"
NEW = r"by Markdown (3\.([6-9]|\d\d+)|[4-9])[\d.]*"
EXPECTED = [
    r"summary: granted Files:read:/in",
    r"publisher: granted Files:read:/in, Files:write:/out, Events",
    r"hostile: granted Files:read:/in, refused Files:read:/secrets",
    r"summary: 2 headings: Tea, Ink \(by Markdown 3\.[0-4][\d.]*\)",
    rf"publisher: made /out/notes\.html \({NEW}\)",
    r"hostile: open the file: refused, FileNotFoundError",
    r"hostile: ask the file server: refused, PermissionDenied",
    r"hostile: by a detour: refused, ValueError",
    r"hostile: write what it may read: refused, PermissionDenied",
    r"hostile: read the environment: refused, KeyError",
    r"hostile: read a neighbour's source: refused, FileNotFoundError",
    r"hostile: change what is installed: refused, OSError",
    r"hostile: call home: refused, PermissionError",
    r"hostile: start a program: refused, FileNotFoundError",
    r"hostile: end the host: refused, ProcessLookupError",
    r"hostile: PluginCrashed",
    r"the host goes on: 2 headings: Tea, Ink \(by Markdown 3\.[0-4][\d.]*\)",
    r"event: documents\.made notes\.html",
    r"written: <ol><li>Tea</li><li><code>Ink</code></li></ol> <h1 id=\"tea\">Tea</h1> <p>It is <em>ready</em>\.</p> .*",
]


def run(store: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(FOLDER / "app" / "host.py"), "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})


def check(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(EXPECTED), done.stdout
    for line, wanted in zip(lines, EXPECTED, strict=True):
        assert re.fullmatch(wanted, line), f"it said {line!r}, wanted {wanted!r}"


def test_it_runs_and_the_next_start_asks_no_index(tmp_path: Path) -> None:
    done = run(tmp_path / "store")
    if "no package index could be reached" in done.stderr:
        pytest.skip("what this example installs can't be had here")
    check(done)
    check(run(tmp_path / "store", UV_OFFLINE="1", UV_NO_INDEX="1", UV_NO_CACHE="1", PIP_NO_INDEX="1"))


def test_it_passes_a_strict_type_checker() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, sorted(FOLDER.rglob("*.py")))],
        capture_output=True, text=True, check=False, cwd=FOLDER.parents[1],
        env={**os.environ, "MYPYPATH": str(FOLDER / "app")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
