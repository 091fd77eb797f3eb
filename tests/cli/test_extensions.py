"""What is said where the compiled parts are missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import write_shop

COMPILED = ("mukernel.kernel.ring", "mukernel.transports.tracked")
for each in COMPILED:  # where one is really missing, the tests below would miss both
    pytest.importorskip(each)


def command(missing: tuple[str, ...], *words: str, **settings: str) -> subprocess.Popen[str]:
    """One command in a process that can't import `missing`."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        f"from mukernel.cli.main import main; sys.exit(main({words!r}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **settings},
    )  # fmt: skip


@pytest.fixture
def file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MUKERNEL_TRANSPORT", raising=False)
    return str(write_shop(tmp_path / "shop") / "app.toml")


@pytest.mark.parametrize("missing", [COMPILED, COMPILED[:1], COMPILED[1:]])
def test_check_says_once_what_is_slower_and_how_to_get_it(file: str, missing: tuple[str, ...]) -> None:
    out, err = command(missing, "check", file).communicate()
    assert "is sound" in out
    assert err.startswith("note: mukernel's compiled part is missing: ") and err.count("\n") == 1
    assert ("by sockets instead of shared memory" in err) is (COMPILED[0] in missing)
    assert ("are counted in Python" in err) is (COMPILED[1] in missing)
    assert "`MUKERNEL_EXTENSIONS=require pip install" in err


def test_run_says_it_once(file: str) -> None:
    run = command(COMPILED, "run", file)
    assert run.stdout is not None
    for line in run.stdout:
        if " runs;" in line:
            break
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate()
    assert run.returncode == 0, err
    assert err.count("mukernel's compiled part is missing") == 1
    assert "pip install" in err


def test_nothing_is_said_where_nothing_is_missing_or_sockets_are_wanted(file: str) -> None:
    out, err = command((), "check", file, MUKERNEL_TRANSPORT="socket").communicate()
    assert ("is sound" in out, err) == (True, "")
    assert command(COMPILED[:1], "check", file, MUKERNEL_TRANSPORT="socket").communicate()[1] == ""
