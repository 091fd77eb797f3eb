"""Links in a folder of this machine: those within a mount are followed, and nothing leads out of one."""

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mukernel.servers.files import beneath
from mukernel.servers.files.local import LocalFolder


@pytest.fixture(params=["openat2", "by parts"])
def local(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFolder:
    monkeypatch.setattr(beneath, "_known", [request.param == "openat2"])
    (tmp_path / "mount").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    return LocalFolder(str(tmp_path / "mount"))


@pytest.mark.parametrize("target", ["../secret", "/{}/secret", "in/../../secret"])
def test_no_link_leads_out_of_a_mount(local: LocalFolder, tmp_path: Path, target: str) -> None:
    (tmp_path / "mount" / "in").mkdir()
    os.symlink(target.format(tmp_path), tmp_path / "mount" / "out")
    os.symlink(target.format(tmp_path) + "/key", tmp_path / "mount" / "key")
    attempts: list[Callable[[], object]] = [
        lambda: local.read("out/key", 0, None, None), lambda: local.read("key", 0, None, None),
        lambda: local.stat("out"), lambda: [*local.list("out")], lambda: local.append("key", memoryview(b"x")),
        lambda: local.write("key", memoryview(b"x")), lambda: local.write("out/new", memoryview(b"x")),
        lambda: local.commit("key", "0" * 32, 4), lambda: local.mkdir("out/new", True),
        lambda: local.remove("out/key", False), lambda: local.rename("out/key", "taken"),
    ]  # fmt: skip
    local.write_part("0" * 32, 0, memoryview(b"mine"))
    for attempt in attempts:
        with pytest.raises(PermissionError):
            attempt()
    local.remove("key", False)
    local.write("key", memoryview(b"mine"))
    assert (tmp_path / "secret" / "key").read_text() == "secret"
    assert sorted(os.listdir(tmp_path / "secret")) == ["key"]
    assert [(each.path, each.kind) for each in local.list("")] == [
        ("in", "directory"), ("key", "file"), ("out", "other"),
    ]  # fmt: skip
    local.remove("out", True)
    assert (tmp_path / "secret" / "key").exists()
    local.close()


@pytest.mark.parametrize("how", ["write", "append", "commit"])
def test_what_is_written_runs_with_nobody_elses_rights(local: LocalFolder, tmp_path: Path, how: str) -> None:
    path = tmp_path / "mount" / "program"
    path.write_bytes(b"#!")
    path.chmod(0o7755)
    if how == "commit":
        local.write_part("0" * 32, 0, memoryview(b"mine"))
        local.commit("program", "0" * 32, 4)
    else:
        getattr(local, how)("program", memoryview(b"mine"))
    assert path.read_bytes().endswith(b"mine")
    assert path.stat().st_mode & 0o7777 == 0o755
    local.close()


# Each in a process of its own, so that it never goes in step with us, as threads that share a lock do.
EXCHANGE_FOLDER = """
import os
os.symlink("../secret", "link")
print("ready", flush=True)
while True:
    os.rename("folder", "aside")
    os.rename("link", "folder")
    os.rename("folder", "link")
    os.rename("aside", "folder")
"""
EXCHANGE_LINK = """
import itertools, os, sys
print("ready", flush=True)
for leads_to in itertools.cycle((sys.argv[1], "in/key")):
    os.symlink(leads_to, "next")
    os.rename("next", "current")
"""


@contextmanager
def running(program: str, folder: Path, *arguments: str) -> Iterator[None]:
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def test_a_folder_that_is_exchanged_for_a_link_meanwhile_lets_nobody_out(local: LocalFolder, tmp_path: Path) -> None:
    """What a check before the use would miss: the link is there for a moment only."""
    mount = tmp_path / "mount"
    (mount / "folder").mkdir()
    (mount / "folder" / "key").write_text("public")
    seen = set()
    with running(EXCHANGE_FOLDER, mount):
        tries = itertools.count()
        while next(tries) < 3000 or b"public" not in seen:
            try:
                seen.add(bytes(local.read("folder/key", 0, None, None)))
            except OSError as error:
                seen.add(type(error).__name__.encode())
    assert b"secret" not in seen
    local.close()


@pytest.mark.parametrize("leads_to", ["../secret/key", "/{}/secret/key"])
def test_a_link_that_is_exchanged_meanwhile_lets_no_writer_out(
    local: LocalFolder, tmp_path: Path, leads_to: str
) -> None:
    mount = tmp_path / "mount"
    (mount / "in").mkdir()
    os.symlink("in/key", mount / "current")
    seen = set()
    with running(EXCHANGE_LINK, mount, leads_to.format(tmp_path)):
        tries = itertools.count()
        while (number := next(tries)) < 1000 or "PermissionError" not in seen:
            try:
                local.write("current", memoryview(str(number).encode()))
                seen.add("written")
            except OSError as error:
                seen.add(type(error).__name__)
    assert os.listdir(tmp_path / "secret") == ["key"]
    assert (tmp_path / "secret" / "key").read_text() == "secret"
    assert (mount / "current").is_symlink()
    local.close()


@pytest.mark.parametrize("how", ["write", "append", "commit"])
def test_links_within_a_mount_are_followed(tmp_path: Path, how: str) -> None:
    """To read and to write, one after the other, those to files that are not there yet among them."""
    if not beneath.has_openat2():
        pytest.skip("this system has no openat2: no link is followed")
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "in" / "file").write_text("")
    links = {
        "link": "in/side", "in/current": "file", "in/side/up": "../current", "new": "in/side/../new",
        "round": "about", "about": "round", "folder": "in", "above": "in/..", "lost": "nowhere/file",
    }  # fmt: skip
    for name, leads_to in links.items():
        os.symlink(leads_to, tmp_path / name)
    local = LocalFolder(str(tmp_path))

    def put(path: str, content: bytes) -> None:
        if how != "commit":
            getattr(local, how)(path, memoryview(content))
            return
        local.write_part("0" * 32, 0, memoryview(content))
        for _ in range(2):  # it may be run again
            local.commit(path, "0" * 32, len(content))
        local.discard("0" * 32)

    put("link/up", b"here")
    put("new", b"made")
    assert (tmp_path / "in" / "file").read_bytes() == b"here" == bytes(local.read("link/up", 0, None, None))
    assert (tmp_path / "in" / "new").read_bytes() == b"made"
    for path, kind, number in [
        ("round", OSError, errno.ELOOP), ("folder", IsADirectoryError, errno.EISDIR),
        ("above", IsADirectoryError, errno.EISDIR), ("lost", FileNotFoundError, errno.ENOENT),
    ]:  # fmt: skip
        with pytest.raises(kind) as caught:
            put(path, b"x")
        assert caught.value.errno == number
    assert {name: os.readlink(tmp_path / name) for name in links} == links
    narrow = local.without_links()
    with pytest.raises(PermissionError):
        narrow.append("new", memoryview(b"x"))
    narrow.write("new", memoryview(b"x"))  # for whoever follows none it is a name like others
    assert (tmp_path / "in" / "new").read_bytes() == b"made" and not (tmp_path / "new").is_symlink()
    local.close()
