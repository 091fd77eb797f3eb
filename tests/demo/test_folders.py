"""Folders that the demo can't index, or keep its index in: each is an error that says why."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest

from mukernel import RemoteError
from mukernel.demo import scene
from mukernel.demo.folder import PREFIX, unkept
from mukernel.demo.walker import LARGEST

from .conftest import Surroundings
from .test_plugins import refuse
from .test_scene import FOLDER

DEMO = [sys.executable, "-m", "mukernel.demo"]


def test_a_folder_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for given in ("", str(tmp_path / "none"), str(tmp_path / "file")):
        assert scene.run_command([given]) == 2
        assert f"FOLDER: got {given!r}, wanted an existing folder" in capsys.readouterr().err


def test_a_folder_whose_name_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    assert scene.run_command([str(folder)]) == 2
    assert "wanted a path in UTF-8" in capsys.readouterr().err


def test_a_folder_that_can_not_be_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "scandir", tmp_path)
    assert scene.run_command([str(tmp_path)]) == 2
    assert f"FOLDER: got {str(tmp_path)!r}, which can't be read: Permission denied" in capsys.readouterr().err


def test_a_folder_without_python(surroundings: Surroundings) -> None:
    (surroundings.folder / "empty").mkdir()
    ended = surroundings.run(*DEMO, str(surroundings.folder / "empty"))
    assert ended.returncode == 2
    assert ended.stderr.endswith("/empty', which defines no class or function in Python\n")
    assert surroundings.left() == []


def test_a_folder_of_which_nothing_can_be_indexed(surroundings: Surroundings) -> None:
    source = surroundings.folder / "source"
    (source / "tests").mkdir(parents=True)
    (source / "tests" / "kept.py").write_text("def kept(): ...\n")
    (source / "broken.py").write_text("def (")
    (source / os.fsdecode(b"caf\xe9.py")).write_text("def café(): ...\n")
    (source / "large.py").write_text("def large(): ...\n" + "#" * LARGEST)
    ended = surroundings.run(*DEMO, str(source))
    assert ended.returncode == 2
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"; unreadable: its name is not UTF-8 (1), not valid Python {version} (1);" in ended.stderr
    assert "; left out: files above 2,000,000 bytes (1), folders of tests (1);" in ended.stderr
    assert "give a folder that was left out as FOLDER itself" in ended.stderr
    assert surroundings.left() == []


def test_a_disk_that_is_full(surroundings: Surroundings) -> None:
    """One sentence that says where there is no room, and what helps."""
    ended = surroundings.run(sys.executable, str(Path(__file__).with_name("full.py")), FOLDER)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Traceback" not in ended.stderr
    problem = f"its index can't be kept in {surroundings.folder / 'tmp'}: database or disk is full; free some room"
    assert problem in ended.stderr and "set TMPDIR" in ended.stderr
    assert surroundings.left() == []


def test_which_errors_say_that_the_index_can_not_be_kept() -> None:
    temporary = tempfile.gettempdir()
    for error in (
        sqlite3.OperationalError("disk I/O error"),
        RemoteError("OperationalError", "disk I/O error"),  # of an index in a process of its own
        OSError(errno.EIO, "disk I/O error", f"{temporary}/{PREFIX}x/kernel.log"),
    ):
        assert (unkept(error) or "").startswith(f"its index can't be kept in {temporary}: disk I/O error; ")
    for other in (RemoteError("ValueError", "full"), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "x", "/x")):
        assert unkept(other) is None
