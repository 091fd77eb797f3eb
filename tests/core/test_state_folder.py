"""The state folder: one owner, whose end, however it comes, gives it back."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mukernel import NotFound, Unavailable
from mukernel.core.state_folder import StateFolder, base, find_running, running_applications, state_folder


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_it_has_one_owner_at_a_time() -> None:
    first, second = state_folder("shop"), state_folder("shop")
    first.claim()
    with pytest.raises(Unavailable, match=rf"it is running already, as process {os.getpid()} "):
        second.claim()
    assert second.pid() == os.getpid()
    first.release()
    assert second.pid() is None
    second.claim()
    second.release()


def test_a_dead_owner_owns_nothing(runtime: Path) -> None:
    claim = (
        "import os; from mukernel.core.state_folder import state_folder as s; "
        "s('shop').claim(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", claim], check=False).returncode == -9
    assert (runtime / "mukernel" / "shop" / "pid").read_text() != ""
    assert state_folder("shop").pid() is None
    assert running_applications() == {}
    again = state_folder("shop")
    again.claim()
    again.release()


def test_it_is_private(runtime: Path) -> None:
    os.mkdir(runtime / "mukernel", 0o755)
    folder = state_folder("shop")
    folder.claim()
    for path in (base(), folder.path, Path(folder.logs)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    folder.release()


@pytest.mark.parametrize("names", [[], ["pid", "logs"], ["pid", "logs", "control"]])
def test_a_folder_that_is_empty_or_a_kernels_own_becomes_private(runtime: Path, names: list[str]) -> None:
    folder = StateFolder(runtime / "mine")
    folder.path.mkdir()
    for name in names:
        (folder.path / name).mkdir() if name == "logs" else (folder.path / name).touch()
    folder.path.chmod(0o755)
    folder.claim()
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    folder.release()


@pytest.mark.parametrize("name", ["thesis.tex", "logs"])
def test_a_folder_that_others_may_enter_is_refused_and_left_as_it_is(runtime: Path, name: str) -> None:
    folder = StateFolder(runtime / "mine")
    folder.path.mkdir()
    (folder.path / name).touch()
    folder.path.chmod(0o755)
    with pytest.raises(Unavailable, match=rf"{folder.path} exists, .* mode 0755; wanted .* `chmod 700 {folder.path}`"):
        folder.claim()
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o755
    assert os.listdir(folder.path) == [name]
    folder.path.chmod(0o700)  # as it says
    (folder.path / name).unlink()
    (folder.path / "other").touch()
    folder.claim()
    folder.release()


def test_a_folder_that_is_a_link_is_refused(runtime: Path) -> None:
    os.mkdir(runtime / "elsewhere")
    os.symlink(runtime / "elsewhere", runtime / "mukernel")
    with pytest.raises(Unavailable, match="is not a folder of ours"):
        state_folder("shop")


def test_a_socket_whose_path_is_too_long_is_refused_before_anything_runs(runtime: Path) -> None:
    with pytest.raises(Unavailable, match="is too long for a Unix socket; choose a shorter folder with --state"):
        StateFolder(runtime / ("x" * 100)).claim()


def test_without_a_runtime_folder_it_lies_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    assert base() == Path(f"/tmp/mukernel-{os.getuid()}")


def test_a_full_disk_is_named_with_the_folder(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = StateFolder(runtime / "shop")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Unavailable, match="shop can't be written: No space left on device; choose another with --"):
            folder.claim()
    folder.claim()  # nothing was left locked
    folder.release()


def test_the_one_that_is_meant_is_found() -> None:
    with pytest.raises(NotFound, match=r"no application is running; `mukernel run app\.toml` starts one"):
        find_running(None, None, None)
    with pytest.raises(NotFound, match=r"bank, whose app\.toml lies here, is not running; `mukernel run` starts it"):
        find_running(None, None, "bank")
    shop, bank = state_folder("shop"), state_folder("bank")
    shop.claim()
    with pytest.raises(NotFound, match=r"bank, whose app\.toml lies here, is not running; running: shop, which --app"):
        find_running(None, None, "bank")
    with pytest.raises(NotFound, match="no application was named; running: shop; say so with --app NAME"):
        find_running(None, None, None, alone=False)
    assert find_running(None, None, None).path == shop.path
    assert find_running("shop", None, None).path == shop.path
    assert find_running(None, str(shop.path), "bank").path == shop.path
    with pytest.raises(NotFound, match="no application named 'bank' is running; running: shop"):
        find_running("bank", None, None)
    bank.claim()
    with pytest.raises(NotFound, match="several applications are running: bank, shop; say which with --app NAME"):
        find_running(None, None, None)
    assert find_running(None, None, "bank").path == bank.path
    shop.release()
    bank.release()
    with pytest.raises(NotFound, match="no kernel has its state in"):
        find_running(None, str(shop.path), None)
