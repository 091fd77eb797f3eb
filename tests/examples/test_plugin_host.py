"""The host of third-party plug-ins: what the hostile one tries is refused, and all others go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "plugin_host"
WANTED = [
    "hostile: granted Files:read:/in, refused Files:read:/secrets",
    "publisher: granted Files:read:/in, Files:write:/out, Events",
    "summary: granted Files:read:/in",
    "hostile: open the file: refused, FileNotFoundError",
    "hostile: ask the file server: refused, PermissionDenied",
    "hostile: by a detour: refused, ValueError",
    "hostile: write what it may read: refused, PermissionDenied",
    "hostile: read the environment: refused, KeyError",
    "hostile: read a neighbour's source: refused, FileNotFoundError",
    "hostile: call home: refused, PermissionError",
    "hostile: start a program: refused, FileNotFoundError",
    "hostile: end the host: refused, ProcessLookupError",
    "publisher: made /out/notes.txt",
    "summary: 2 lines, 6 words",
    "hostile: PluginCrashed",
    "the host goes on: ['2 lines, 6 words']",
    "event: documents.made notes.txt",
    "written: ['TEA IS READY.', 'INK IS NOT.']",
]


def test_it_runs() -> None:
    command = [sys.executable, str(FOLDER / "app" / "host.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == WANTED


def test_it_passes_a_strict_type_checker() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, sorted(FOLDER.rglob("*.py")))],
        capture_output=True, text=True, check=False, cwd=FOLDER.parents[1],
        env={**os.environ, "MYPYPATH": str(FOLDER / "app")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
