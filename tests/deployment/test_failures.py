"""What is remembered of an installation that failed: of what was asked for, and of nothing else."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from deployment_wheels import request, write_wheel

from mukernel import ContractError, NotFound, Unavailable
from mukernel.deployment import Installer, runtime
from mukernel.deployment.cleaning import collect_garbage
from mukernel.deployment.installer import is_compiled
from mukernel.deployment.store import Failure, Notes, Store
from mukernel.deployment.tools import tools_for
from mukernel.deployment.work import Work


def test_a_failure_is_of_the_entry_that_was_asked_for(installer: Installer) -> None:
    """Else what names another, as the failure said, would be refused with it."""
    wheel = "./missing-1.0-py3-none-any.whl"
    with pytest.raises(NotFound) as raised:
        installer.install(request(wheel))
    assert installer.failure(request(wheel)) == str(raised.value)
    assert installer.failure(request(f"{wheel}:one")) is None


def test_a_failure_is_of_the_settings_that_it_was_met_with(
    shared_folder: Path, wheels: str, tmp_path: Path
) -> None:  # fmt: skip
    """Others may mend it."""
    asked = request("shop-elsewhere==1.0")
    installer = Installer(shared_folder, wheels=[wheels])
    with pytest.raises(Unavailable) as raised:
        installer.install(asked)
    assert installer.failure(asked) == str(raised.value)
    mended = Installer(shared_folder, wheels=[wheels, str(tmp_path)])
    assert [each.failure(asked) for each in (mended, Installer(shared_folder, wheels=[wheels], only_wheels=True))] == [
        None, None,
    ]  # fmt: skip
    write_wheel(tmp_path, "shop-elsewhere", "1.0", files={"shop_else.py": ""}, plugins={"shop": "shop_else:Shop"})
    mended.install(asked)[1].close()
    assert installer.failure(asked) is None


def test_an_installer_that_is_not_there_is_no_failure_of_the_package(
    installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request("shop-catalog==1.0")
    monkeypatch.setenv("MUKERNEL_INSTALLER", "uvv")
    with pytest.raises(ContractError, match="MUKERNEL_INSTALLER: got 'uvv'"):
        installer.install(asked)
    assert installer.failure(asked) is None


def test_the_environment_is_that_of_every_entry(installer: Installer) -> None:
    installer.install(request("shop-catalog==3.0:catalog"))[1].close()
    assert installer.present(request("shop-catalog==3.0:broken")).attribute == "Broken"
    with pytest.raises(ContractError, match="say which is meant"):
        installer.install(request("shop-catalog==3.0"))
    assert installer.present(request("shop-catalog==3.0:catalog")).attribute == "Shelf"


def test_what_failed_can_not_be_forgotten_on_a_full_disk(
    own_installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = own_installer.store
    store.make_folders()
    with monkeypatch.context() as no_room:
        no_room.setattr(Store, "write_notes", full)
        assert collect_garbage(store, set, Work()) == []  # nothing is to be written
    store.write_notes(Notes(failures={"a": Failure("a==1", "", "there is none")}))
    (store.wheels / "unused").mkdir()
    monkeypatch.setattr(Store, "write_notes", full)
    with pytest.raises(Unavailable, match="remembers of environments and failures can't be written: No space left"):
        collect_garbage(store, set, Work())
    assert not (store.wheels / "unused").exists()


def test_mukernel_itself_is_no_plugin(installer: Installer) -> None:
    with pytest.raises(
        ContractError, match=r"'mukernel==0\.1\.0': got mukernel itself, which every environment has in "
    ):
        installer.install(request("mukernel==0.1.0"))


def test_a_repository_that_is_not_reached_is_no_package_index(own_installer: Installer) -> None:
    with pytest.raises(
        Unavailable, match=r"the repository could not be reached .* see to its address, and to the netw"
    ):
        own_installer.install(request("git+http://127.0.0.1:9/shop"))


def test_mukernel_is_upgraded_while_an_application_runs(
    own_installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is installed from then on would not fit its kernel. That is no failure of what was asked for."""
    asked, copy = request("shop-catalog==1.0"), tmp_path / "mukernel"
    own_installer.install(asked)[1].close()
    shutil.copytree(runtime.PACKAGE, copy)
    monkeypatch.setattr(runtime, "PACKAGE", copy)
    own_installer.install(asked)[1].close()  # the same files
    with (copy / "core" / "handshake.py").open("a") as file:
        file.write("PROTOCOLS = (2,)\n")
    with pytest.raises(Unavailable, match="mukernel was upgraded since this application started: restart it"):
        own_installer.install(asked)
    assert own_installer.failure(asked) is None


def test_a_store_that_is_a_symbolic_link(tmp_path: Path) -> None:
    """It is where that leads, which is looked at as ever; a sandbox would not find it by the link. Those in it are
    refused."""
    (tmp_path / "large").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "large")
    store = Store(tmp_path / "link")
    store.make_folders()
    assert store.environments == tmp_path.resolve() / "large" / "environments" and store.environments.is_dir()
    store.tools.rmdir()
    store.tools.symlink_to(tmp_path)
    with pytest.raises(
        Unavailable, match=r"tools is not a folder that only you .* \(owner \d+, a symbolic link\); wan"
    ):
        store.make_folders()


def test_an_environment_is_on_the_disk_before_it_has_its_name(
    own_installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = own_installer.store
    store.make_folders()
    written = list[str]()
    monkeypatch.setattr("mukernel.deployment.store.write_through", written.append)
    with store.making(store.environments / "shop") as unfinished:
        assert written == []
    assert written == [unfinished] and store.names() == ["shop"]


def test_what_kept_mukernel_from_being_compiled_may_have_passed(
    own_installer: Installer, wheels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for an installation is told once that it is not compiled, and it is tried again."""
    store, said = own_installer.store, list[str]()
    store.make_folders()
    monkeypatch.setattr(runtime, "MODULES", ("kernel/nothing",))  # no wheel of this mukernel fits

    def resolved(installer: Installer, verify: bool = True) -> tuple[list[str], bool]:
        """What was said of compiling, and whether it is."""
        said.clear()
        work = Work(said.append)
        asked = request("shop-catalog==1.0")
        subject, resolution = installer.resolved(asked, tools_for(store), work, False, verify)
        installer.lock_file.add(resolution)
        return [line for line in said if "compil" in line], is_compiled(installer.wheel_folder(subject))

    (line,), compiled = resolved(own_installer)  # there is no index that has Cython
    assert line.startswith("mukernel is not compiled for Python") and not compiled
    assert resolved(own_installer) == ([], False)  # another plug-in of the same installation
    again = Installer(store.folder, wheels=[wheels])
    assert resolved(again) == ([line], False)
    monkeypatch.setattr(Installer, "compiler", lambda *_: "python")
    monkeypatch.setattr(runtime.Runtime, "compile", lambda *_: {"kernel/nothing.so": b""})
    later = Installer(store.folder, wheels=[wheels])
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)  # as it is in an image
        assert resolved(later) == ([], False)
    assert resolved(later, verify=False) == ([], False)
    assert resolved(later) == ([], True)
    assert len(os.listdir(store.wheels)) == 1
