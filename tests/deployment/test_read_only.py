"""What can't be written to: a store in an image, a lock file that is mounted by itself; and one that is a link."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from deployment_wheels import request

from mukernel import Unavailable
from mukernel.deployment import Installer, store
from mukernel.deployment.cleaning import collect_garbage
from mukernel.deployment.lock_file import LockFile, Resolution
from mukernel.deployment.work import Work


def make_read_only(folder: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system would have it; its own means need a mount, or another user than root."""
    opened, made = os.open, tempfile.mkdtemp

    def refuse(path: object) -> None:
        if str(path).startswith(f"{folder}/"):
            raise OSError(error, os.strerror(error), str(path))

    def open_(path: str, flags: int, *more: int, **named: int) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            refuse(path)
        return opened(path, flags, *more, **named)

    def mkdtemp(suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
        refuse(dir)
        return made(suffix, prefix, dir)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(store, "write_whole", lambda path, _: refuse(path))


def test_a_store_that_can_not_be_written_to(
    own_installer: Installer, wheels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there as it is locked does; for anything else it is said what to do."""
    folder, asked = own_installer.store.folder, request("shop-catalog==1.0")
    first, hold = own_installer.install(asked)
    hold.close()
    (tmp_path / "app.lock").write_text(own_installer.lock_file.path.read_text())
    # Of what another has asked for nothing is remembered there, and can't be.
    other = Installer(folder, lock_file=tmp_path / "app.lock", wheels=[wheels])
    for error in (errno.EROFS, errno.EACCES):
        with monkeypatch.context() as patched:
            make_read_only(folder, error, patched)
            for each in (own_installer, other):
                found, hold = each.install(asked)
                assert found == first and each.store.is_held(found.environment.name)
                hold.close()
                each.keep_locked([asked], Work())
            with pytest.raises(
                Unavailable, match=r"==2\.0' can't be installed: it is not there as it is wanted, and .* can't be wri"
            ):
                other.install(request("shop-catalog==2.0"))
            with pytest.raises(Unavailable, match=r"can't be written to \(.*\); wanted a folder that can be: do this"):
                collect_garbage(other.store, set, Work())


MOUNTED = """
import sys
from pathlib import Path
from mukernel import Unavailable
from mukernel.deployment.lock_file import LockFile, Resolution
folder = Path(sys.argv[1])
old, new = (Resolution(use, "3.13", "linux", "a", version) for use, version in (("a==1", "1"), ("a==2", "2")))
lock = LockFile(folder / "app.lock", LockFile(folder / "spare.lock"))
assert lock.taking(old) is lock
assert lock.taking(new) is lock.spare
lock.spare.add(new)
lock.keep(set())
assert lock.everything() == [old]
try:
    lock.taking(Resolution("a==1", "3.13", "linux", "a", "3"))
except Unavailable as error:
    print(error)
"""


def test_a_lock_file_that_is_mounted_by_itself(tmp_path: Path) -> None:
    """As `docker run -v` does with a file: nothing can be put in its place."""
    (tmp_path / "app.lock").touch()
    LockFile(tmp_path / "mounted.lock").add(Resolution("a==1", "3.13", "linux", "a", "1"))
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine has no namespaces for those who are not root")
    script = 'mount --bind "$0/mounted.lock" "$0/app.lock" && exec "$1" -c "$2" "$0"'
    command = [*apart, "sh", "-c", script, str(tmp_path), sys.executable, MOUNTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "can't be written: it is a mount by itself; mount its folder" in done.stdout, done.stderr


def test_a_lock_file_that_is_a_link_to_where_nothing_is(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "app.lock", LockFile(tmp_path / "spare.lock"))
    lock.path.symlink_to(tmp_path / "gone" / "app.lock")
    with pytest.raises(Unavailable, match=r"app\.lock is a link to .*/gone/app\.lock, whose folder is not there: make"):
        lock.taking(Resolution("a==1", "3.13", "linux", "a", "1"))


def test_a_lock_file_that_is_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    lock = LockFile(tmp_path / "app.lock")
    lock.path.symlink_to(tmp_path / "shared" / "app.lock")
    resolution = Resolution("a==1", "3.13", "linux", "a", "1")
    lock.add(resolution)
    assert lock.path.is_symlink() and LockFile(tmp_path / "shared" / "app.lock").read() == [resolution]
    lock.keep(set())
    assert lock.path.is_symlink() and lock.read() == []
