"""The installer: what is asked for becomes an environment that is whole, or nothing does."""

import errno
import os
import platform
import shutil
import subprocess
import sys
import threading
from glob import glob
from importlib.metadata import version
from pathlib import Path

import pytest
from deployment_wheels import names, request, write_catalog, write_project, write_source_distribution, write_wheel

from mukernel import ContractError, NotFound, Unavailable
from mukernel.deployment import Installer, read_request
from mukernel.deployment.cleaning import collect_garbage, uninstall
from mukernel.deployment.environment import interpreter
from mukernel.deployment.pythons import find_python
from mukernel.deployment.tools import Uv
from mukernel.deployment.work import Cancelled, Work

INSTALL = """
import sys
from mukernel.deployment import Installer, read_request
from mukernel.deployment.work import Work
installer = Installer(sys.argv[1], wheels=[sys.argv[2]])
installer.install(read_request(sys.argv[3]), Work(lambda text: print(text, flush=True)))
print("done", flush=True)
"""


LOCK = """format = 1

[[environment]]
use = "a==1"
python = "3.11"
platform = "linux-x86_64"
distribution = "a"
[[environment.distributions]]
name = "a"
version = "1"
[[environment.distributions]]
name = "b"
version = "2"
"""


@pytest.fixture(params=["uv", "pip"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MUKERNEL_INSTALLER", request.param)
    return str(request.param)


def test_an_environment_has_what_was_asked_for_and_nothing_of_ours(tool: str, own_installer: Installer) -> None:
    installed, hold = own_installer.install(request("shop-catalog==1.0"))
    hold.close()
    assert (installed.module, installed.attribute, installed.version) == ("shop_module", "Shelf", "1.0")
    there = installed.environment.distributions
    assert there == {
        "mukernel": installed.environment.runtime, "msgspec": version("msgspec"), "shop-catalog": "1.0",
        "shop-library": "1.0",
    }  # fmt: skip
    look = "import mukernel, shop_library, sys; print(mukernel.__file__); import pytest"
    seen = subprocess.run([interpreter(installed.folder), "-P", "-c", look], capture_output=True, text=True)
    assert seen.stdout.startswith(installed.folder)
    assert "No module named 'pytest'" in seen.stderr


def test_equal_environments_are_one(installer: Installer, wheels: str) -> None:
    uses = ["shop-catalog==1.0", "shop-catalog<2", f"{wheels}/shop_catalog-1.0-py3-none-any.whl"]
    found = {installer.install(request(use))[0].folder for use in uses}
    assert len(found) == 1
    assert installer.install(request("shop-catalog==2.0"))[0].folder not in found


def test_folders_may_have_any_name(tmp_path: Path, wheels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUKERNEL_INSTALLER", "uv")  # pip takes any path
    folder = tmp_path / "sh elf #1 %41 ü"
    shutil.copytree(wheels, folder)
    installer = Installer(tmp_path / "st #ü 1", wheels=[str(folder)])
    assert installer.install(request("shop-catalog==1.0"))[0].version == "1.0"


def test_what_is_locked_is_obeyed_and_names_no_host(tool: str, tmp_path: Path, wheels: str) -> None:
    folder, lock = tmp_path / "wheels", tmp_path / "app.lock"
    shutil.copytree(wheels, folder)
    first = Installer(tmp_path / "one", lock_file=lock, wheels=[str(folder)])
    write_catalog(folder, "1.1", "shop-library<2")
    assert first.install(request("shop-catalog<2"))[0].version == "1.1"
    text = lock.read_text()
    assert (
        "sha256:" in text
        and str(tmp_path) not in text
        and "://" not in text
        and "mukernel" not in text.split("\n", 1)[1]
    )
    write_catalog(folder, "1.2", "shop-library<2")
    elsewhere = Installer(tmp_path / "two", lock_file=lock, wheels=[str(folder)])
    assert elsewhere.install(request("shop-catalog<2"))[0].version == "1.1"
    assert lock.read_text() == text
    assert elsewhere.install(request("shop-catalog<2"), upgrade=True)[0].version == "1.2"
    assert lock.read_text() != text


def test_a_marker_that_excludes_the_python(tool: str, installer: Installer) -> None:
    asked = request("shop-catalog==1.0; python_version < '3'")
    with pytest.raises(ContractError, match=r"what stands after ';' excludes Python 3\..* wanted a marker that holds"):
        installer.install(asked)


def test_another_file_than_the_locked_one_is_refused(
    tmp_path: Path, wheels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_NO_CACHE", "1")  # else uv has the file that was locked, and installs that
    folder, lock = tmp_path / "wheels", tmp_path / "app.lock"
    shutil.copytree(wheels, folder)
    Installer(tmp_path / "one", lock_file=lock, wheels=[str(folder)]).install(request("shop-catalog==1.0"))
    write_wheel(folder, "shop-library", "1.0", files={"shop_library.py": "VERSION = 'forged'\n"})
    elsewhere = Installer(tmp_path / "two", lock_file=lock, wheels=[str(folder)])
    with pytest.raises(Unavailable, match="another than the one that is locked"):
        elsewhere.install(request("shop-catalog==1.0"))
    assert names(elsewhere) == []
    wheel = folder / "shop_catalog-1.0-py3-none-any.whl"
    elsewhere.install(request(str(wheel)), upgrade=True)
    write_catalog(folder, "1.0", "shop-library>=2")
    with pytest.raises(ContractError, match="the file is another than the one in"):
        elsewhere.install(request(str(wheel)))


def test_a_lock_file_that_cannot_be_read_is_not_ignored(tmp_path: Path, wheels: str) -> None:
    lock = tmp_path / "app.lock"
    for text, why in (("[[", "can't be read"), ("format = 9\n", "format: got 9, wanted 1"),
                      ("format = 1\n[[environment]]\nuse = 3\n", "line 3: .*mend it, or remove it"),
                      (LOCK.replace('version = "2"', "version = 2"), r"line 13: Expected `str`, got `int`"),
                      (LOCK.replace('python = "3.11"', ""), r"line 3: .*missing required field `python`"),
                      ("format = 1\nenvironment = [3]\n", r"app\.lock: Expected `object`")):  # fmt: skip
        lock.write_text(text)
        with pytest.raises(ContractError, match=why):
            Installer(tmp_path / "store", lock_file=lock, wheels=[wheels]).install(request("shop-catalog==1.0"))
        assert lock.read_text() == text


@pytest.mark.parametrize(
    ("use", "more", "wrong", "why"),
    [
        ("shop-catalog==9", {}, Unavailable, "shop-catalog==9"),
        ("shop-nowhere==1", {}, Unavailable, "shop-nowhere"),
        ("shop-torn==1.0", {}, Unavailable, "shop-library"),
        ("shop-empty==1.0", {}, ContractError, "offers no plug-in; wanted an entry point of group 'mukernel.plugins'"),
        ("shop-catalog==3.0", {}, ContractError, "several plug-ins: broken, catalog; say which"),
        ("shop-catalog==3.0:shelf", {}, NotFound, "offers no plug-in 'shelf'; it has: broken, catalog"),
        ("shop-catalog==1.0", {"python": "3.99"}, NotFound, r"python: got '3.99'.* found: .*3\.1"),
        ("shop-catalog==1.0", {"python": "3.9"}, ContractError, "wanted 3.11 or later"),
        ("shop-catalog==1.0", {"python": "/bin/true"}, NotFound, "no Python that runs; found: "),
        ("missing-1.0-py3-none-any.whl", {}, NotFound, "there is no file"),
        ("./nowhere", {}, NotFound, "there is no folder"),
        ("git+file:///nowhere", {}, Unavailable, "nowhere"),
    ],
)
def test_what_cannot_be_installed(
    use: str, more: dict[str, str], wrong: type[Exception], why: str, installer: Installer
) -> None:
    installer.install(request("shop-catalog==2.0"))
    before, locked = names(installer), installer.lock_file.path.read_text()
    asked = request(use, **more)
    with pytest.raises(wrong, match=why) as raised:
        installer.install(asked)
    assert len(str(raised.value)) < 1000
    assert (names(installer), installer.lock_file.path.read_text()) == (before, locked)
    assert installer.failure(asked) == str(raised.value)


@pytest.mark.parametrize(
    ("use", "why"),
    [
        ("git+ext::sh -c true", "wanted 'git\\+SCHEME"),
        ("git+file:///x@--upload-pack=x", "wanted a branch"),
        (
            "shop-catalog==2.0 --index-url https://an.index",
            "got the option '--index-url', wanted a requirement",
        ),
        ("shop-catalog[extra] >=2,<3 -i https://an.index", "got the option '-i'"),
        ("shop-catalog --pre", "got the option '--pre'"),
        ("shop-catalog @ file:///x%20y/z.whl", "got a direct reference, wanted '/x y/z.whl' alone, or a version"),
        ("shop-catalog[extra]@./x.whl ; python_version > '3'", r"wanted '\./x\.whl' alone"),
        ("shop-catalog @ git+https://an.origin/x@v1", r"wanted 'git\+https://an\.origin/x@v1' alone"),
        ("shop-catalog @ https://an.origin/x.whl:entry", "wanted the path of a wheel or a directory on this machine"),
        ("git+file:///x#subdirectory=../y", "a folder in it"),
    ],
)
def test_what_cannot_be_read(use: str, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        read_request(use)
    for python in ("2.7", "python3", "3.13; rm"):
        with pytest.raises(ContractError, match="python: got"):
            read_request("a==1", python=python)


def test_what_is_no_request() -> None:
    for use in ("shop.catalog:Catalog", "file.py:Class", "./file.py:Class", "catalog", "entry-point:group/name",
                "module:Class[one, two]", 7):  # fmt: skip
        assert read_request(use) is None


def test_wheels_that_do_not_fit(tool: str, own_installer: Installer, tmp_path: Path) -> None:
    for tag in ("cp311-cp311-win_amd64", "py3-none-macosx_11_0_arm64", "cp39-cp39-manylinux_2_17_x86_64"):
        path = write_wheel(tmp_path, "shop-foreign", "1.0", files={"a.py": ""}, tag=tag)
        with pytest.raises((ContractError, Unavailable), match=r"shop[-_]foreign"):
            own_installer.install(request(str(path)))
    torn = tmp_path / "shop_half-1.0-py3-none-any.whl"
    torn.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ContractError, match="it is no whole wheel"):
        own_installer.install(request(str(torn)))
    assert names(own_installer) == []


def test_no_network(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "PIP_NO_INDEX", "UV_CACHE_DIR"):
        monkeypatch.delenv(name)
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "https://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    installer = Installer(tmp_path / "store")
    with pytest.raises(Unavailable, match="no package index could be reached"):
        installer.install(request("shop-nowhere==1"))


def test_killed_in_the_middle_of_it(own_installer: Installer, wheels: str) -> None:
    """Whatever was done by then: nothing half is found, and the next one goes on as if nothing had been."""
    store = str(own_installer.store.folder)
    command = [sys.executable, "-c", INSTALL, store, wheels, "shop-catalog==1.0"]
    for step in ("resolving", "installing"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(step):
                process.kill()
                break
        process.wait()
        process.stdout.close()
        assert own_installer.store.all() == []
    installed, hold = own_installer.install(request("shop-catalog==1.0"))
    hold.close()
    assert names(own_installer) == [installed.environment.name]  # what was left half made is gone


def test_who_comes_second_waits(own_installer: Installer, tmp_path: Path) -> None:
    said, waiting = list[str](), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    with own_installer.store.locked(Work()):
        work = Work(say)
        problems: list[BaseException] = []

        def install() -> None:
            try:
                own_installer.install(request("shop-catalog==1.0"), work)
            except Cancelled as cancelled:
                problems.append(cancelled)

        thread = threading.Thread(target=install)
        thread.start()
        waiting.wait()
        assert said[0].startswith(f"waiting for process {os.getpid()}, which is installing")
        work.cancel()
        thread.join()
        assert len(problems) == 1


def test_cancelled_while_a_tool_runs(own_installer: Installer) -> None:
    work = Work()
    work.say = lambda text: work.cancel() if text.startswith("resolving") else None
    with pytest.raises(Cancelled):
        own_installer.install(request("shop-catalog==1.0"), work)
    assert names(own_installer) == []
    assert own_installer.failure(request("shop-catalog==1.0")) is None


def test_a_full_disk(own_installer: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mukernel.deployment.installer.write_record", full)
    with pytest.raises(Unavailable, match="can't be installed: the disk is full"):
        own_installer.install(request("shop-catalog==1.0"))
    assert names(own_installer) == []


FULL = """
import resource, signal, sys
from mukernel.deployment import Installer, read_request
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # the system refuses whatever is written, as a full disk does
print(Installer(sys.argv[1], wheels=[sys.argv[2]]).install(read_request("shop-catalog==1.0"))[0].folder)
"""


def test_what_is_installed_needs_no_room_on_the_disk(own_installer: Installer, wheels: str) -> None:
    installed, hold = own_installer.install(request("shop-catalog==1.0"))
    hold.close()
    command = [sys.executable, "-c", FULL, str(own_installer.store.folder), wheels]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == installed.folder, done.stderr


def test_the_store_of_somebody_else_is_not_used(own_installer: Installer) -> None:
    own_installer.store.folder.mkdir()
    own_installer.store.folder.chmod(0o777)
    with pytest.raises(Unavailable, match="is not a folder that only you may write to"):
        own_installer.install(request("shop-catalog==1.0"))


def test_garbage(own_installer: Installer) -> None:
    kept, held = own_installer.install(request("shop-catalog==1.0"))
    other, hold = own_installer.install(request("shop-catalog==2.0"))
    store = own_installer.store
    assert collect_garbage(store, lambda: {kept.environment.name}, Work()) == []
    with pytest.raises(Unavailable, match="is being used"):
        uninstall(store, other.environment.name, Work())
    held.close()
    hold.close()
    assert [each.name for each in collect_garbage(store, lambda: {kept.environment.name}, Work(), dry=True)] == [
        other.environment.name
    ]
    assert len(names(own_installer)) == 2
    collect_garbage(store, lambda: {kept.environment.name}, Work())
    assert names(own_installer) == [kept.environment.name]
    assert own_installer.is_present(request("shop-catalog==1.0"))
    assert not own_installer.is_present(request("shop-catalog==2.0"))
    assert uninstall(store, kept.environment.name, Work()).size > 0
    with pytest.raises(NotFound, match="there are: none"):
        uninstall(store, kept.environment.name, Work())
    collect_garbage(store, set, Work())
    assert os.listdir(store.wheels) == os.listdir(store.tools) == []
    assert own_installer.install(request("shop-catalog==2.0"))[0].version == "2.0"  # from what is locked


def test_only_wheels(tool: str, tmp_path: Path, wheels: str) -> None:
    """What a source tree's author wrote is run when it is built, and so it is not built."""
    folder, mark = tmp_path / "wheels", tmp_path / "built"
    folder.mkdir()
    for name in ("shop_library-1.0", "msgspec"):
        for path in Path(wheels).glob(f"{name}*"):
            shutil.copy(path, folder)
    write_source_distribution(folder, "1.0", mark)
    write_project(tmp_path / "project", "1.1")
    installer = Installer(tmp_path / "store", wheels=[str(folder)], only_wheels=True)
    for use, what in ((f"{tmp_path}/project/", "a directory"), ("git+file:///nowhere", "a repository")):
        for do in (installer.install, installer.present):
            with pytest.raises(ContractError, match=f"{what} is a source tree, and only_wheels refuses to build one"):
                do(request(use))
    with pytest.raises(Unavailable, match="only_wheels is set: what has no wheel for this Python is not taken"):
        installer.install(request("shop-catalog==1.0"))
    assert not mark.exists()
    assert names(installer) == []
    installer.only_wheels = False
    installer.install(request("shop-catalog==1.0"))[1].close()
    assert mark.exists()


def test_nothing_of_a_wheel_is_run_while_it_is_installed(tool: str, own_installer: Installer, tmp_path: Path) -> None:
    """Python runs what a .pth file or a sitecustomize says as it starts, so it is not started there."""
    mark = tmp_path / "ran"
    line = f"import os; open({str(mark)!r}, 'w').close()\n"
    files = {"shop_module.py": "", "shop_torn.py": "not Python", "shop.pth": line, "sitecustomize.py": line}
    wheel = write_wheel(tmp_path, "shop-sly", "1.0", files=files, plugins={"sly": "shop_module:Sly"})
    installed, hold = own_installer.install(request(str(wheel)))
    hold.close()
    assert not mark.exists()
    assert glob(f"{installed.folder}/lib/python*/site-packages/__pycache__/shop_module.*.pyc")
    subprocess.run([interpreter(installed.folder), "-c", ""], check=True)
    assert mark.exists()  # that is what would have run it


def test_what_was_left_of_a_resolution_keeps_nobody_from_the_next(
    own_installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pip is used, whose report lies in a folder: killed at any time, it leaves nothing that is not cleared."""
    monkeypatch.setenv("MUKERNEL_INSTALLER", "pip")
    seen: set[str] = set()
    run = Work.run

    def watched(self: Work, *given: object, **more: object) -> str:
        seen.update(os.listdir(own_installer.store.tools))
        return run(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Work, "run", watched)
    (own_installer.store.tools / "resolution" / "left").mkdir(parents=True, mode=0o700)
    own_installer.store.folder.chmod(0o700)
    own_installer.store.tools.chmod(0o700)
    own_installer.install(request("shop-catalog==1.0"))[1].close()
    assert [name for name in seen if not name.startswith((".unfinished-", "pip-"))] == ["resolution"]
    assert len(os.listdir(own_installer.store.tools)) == 2


def test_the_lock_file_is_changed_by_one_at_a_time(own_installer: Installer) -> None:
    own_installer.install(request("shop-catalog==1.0"))[1].close()
    locked = own_installer.lock_file.path.read_text()
    work = Work()
    work.say = lambda text: work.cancel()
    with own_installer.store.locked(Work()), pytest.raises(Cancelled):
        own_installer.keep_locked([], work)
    assert own_installer.lock_file.path.read_text() == locked
    own_installer.keep_locked([request("shop-catalog==1.0")], Work())
    assert own_installer.lock_file.path.read_text() == locked
    own_installer.keep_locked([], Work())
    assert not own_installer.lock_file.path.exists()


def test_a_python_that_is_installed_later_is_found(tmp_path: Path) -> None:
    path = tmp_path / "python3"
    with pytest.raises(NotFound, match="no Python that runs"):
        find_python(str(path), None)
    path.symlink_to(sys.executable)
    assert find_python(str(path), None).version == platform.python_version()


def test_a_lock_file_gives_no_option_to_an_installer(tmp_path: Path, wheels: str) -> None:
    lock = tmp_path / "app.lock"
    installer = Installer(tmp_path / "store", lock_file=lock, wheels=[wheels])
    installer.install(request("shop-catalog==1.0"))[1].close()
    text = lock.read_text()
    for old, new in (
        ('version = "1.0"', 'version = "1.0\\n--index-url=https://localhost"'),
        ('name = "msgspec"', 'name = "--pre"'),
        ("sha256:", "md5:"),
    ):
        assert old in text
        lock.write_text(text.replace(old, new))
        with pytest.raises(ContractError, match="matching regex"):
            installer.install(request("shop-catalog==1.0"))


def test_an_application_in_a_folder_that_can_not_be_written_to(
    tmp_path: Path, shared_folder: Path, wheels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it swaps to is locked in the store; what app.lock says stays so, which is said before anything is built."""
    (tmp_path / "app").mkdir()
    installer = Installer(shared_folder, lock_file=tmp_path / "app" / "app.lock", wheels=[wheels])
    installer.install(request("shop-catalog<2"))[1].close()
    locked, can = installer.lock_file.path.read_text(), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "app" and can(path, mode))
    installer.install(request("shop-catalog>=2,<3"))[1].close()
    installer.install(request("shop-catalog<2"))[1].close()
    assert installer.lock_file.path.read_text() == locked
    again = Installer(shared_folder, lock_file=tmp_path / "app" / "app.lock")
    assert [len(again.lock_file.read()), len(again.lock_file.everything())] == [1, 2]
    assert again.present(request("shop-catalog>=2,<3")).version == "2.0"
    write_catalog(tmp_path, "1.5", "shop-library<2")
    newer = Installer(shared_folder, lock_file=tmp_path / "app" / "app.lock", wheels=[wheels, str(tmp_path)])
    monkeypatch.setattr(Uv, "create", None)
    with pytest.raises(
        Unavailable, match=r"app\.lock locks something else, and can't be written: its folder is read-on"
    ):
        newer.install(request("shop-catalog<2"), upgrade=True)
    assert newer.failure(request("shop-catalog<2")) is None
    newer.keep_locked([request("shop-catalog<2")], Work())
    assert newer.lock_file.everything() == newer.lock_file.read() == again.lock_file.read()
    newer.keep_locked([], Work())
    assert installer.lock_file.path.read_text() == locked
