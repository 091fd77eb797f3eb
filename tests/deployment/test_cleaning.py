"""Cleaning, while somebody installs or begins to use what is being looked at."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deployment_wheels import request, write_project

import mukernel.core.deployments
from mukernel import Kernel, SwapFailed
from mukernel.core.deployments import Deployments
from mukernel.deployment import Installer
from mukernel.deployment.cleaning import collect_garbage, uninstall
from mukernel.deployment.environment import Environment, Hold, interpreter, unused, write_record
from mukernel.deployment.pythons import find_python
from mukernel.deployment.request import distribution_of
from mukernel.deployment.store import Store
from mukernel.deployment.work import Work
from mukernel.kernel.clock import Clock

APPLICATION = """
[app]
name = "shop"
[plugins.catalog]
use = "shop-catalog==1.0"
placement = "process"
"""


def written(store: Store, use: str, lock_file: Path | None = None) -> str:
    """An environment of nothing, as if `use` had been installed; its folder."""
    asked = request(use)
    name = use.replace("==", "-")
    folder = store.path(name)
    python = find_python("", None)
    for part in ("bin", "runtime", f"lib/{os.path.basename(python.library)}/site-packages"):
        os.makedirs(os.path.join(folder, part))
    os.symlink(python.executable, interpreter(folder))
    plugins = {distribution_of(use): {"catalog": "shop_module:Shelf"}}
    write_record(folder, Environment(name, python, "1.0", {}, plugins))
    notes = store.notes()
    notes.environments[Installer(store.folder, lock_file=lock_file).note_key(asked)] = name
    store.write_notes(notes)
    return folder


@pytest.fixture
def store(own_installer: Installer) -> Store:
    own_installer.store.make_folders()
    return own_installer.store


def test_what_somebody_has_begun_to_use_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first of several is cleared away, which may take long."""
    first, second = written(store, "shop-catalog==1.0"), written(store, "shop-catalog==2.0")
    holds, rmtree = list[Hold](), shutil.rmtree

    def begin(folder: str, ignore_errors: bool) -> None:
        if not holds:
            holds.append(Hold(second))
        rmtree(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", begin)
    assert [each.name for each in collect_garbage(store, set, Work())] == [os.path.basename(first)]
    assert store.names() == [os.path.basename(second)] == list(store.notes().environments.values())
    holds[0].close()


async def test_a_rollback_to_what_is_just_being_removed(
    own_installer: Installer, catalog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there when the kernel looks, and gone when it wants to keep it: so it is made again."""
    removed = list[str]()

    class Late(Hold):
        def __init__(self, folder: str, wait: bool) -> None:
            if not removed:
                removed.append(folder)
                own_installer.store.remove(Path(folder))
            super().__init__(folder, wait)

    async with Kernel(installer=own_installer) as kernel:
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        await kernel.swap("catalog", "shop-catalog==2.0")
        monkeypatch.setattr(mukernel.core.deployments, "Hold", Late)
        await kernel.rollback("catalog")
        assert (await kernel.get(catalog).versions())[0] == "1.0"
        assert removed == [kernel.registry.entry("catalog").source.environment]


async def test_a_rollback_to_what_can_not_be_made_again(
    own_installer: Installer, catalog: Any, tmp_path: Path
) -> None:  # fmt: skip
    project = tmp_path / "shop"
    write_project(project, "1.0")
    async with Kernel(installer=own_installer) as kernel:
        await kernel.load(str(project), name="catalog", placement="process")
        before = kernel.registry.entry("catalog").source.environment
        write_project(project, "2.0")
        await kernel.swap("catalog", str(project))
        kernel.deployments.release({kernel.registry.entry("catalog").source.environment})
        own_installer.store.remove(Path(before))
        with pytest.raises(SwapFailed, match="has been removed and can't be made again"):
            await kernel.rollback("catalog")
        assert (await kernel.get(catalog).versions())[0] == "2.0"


def test_a_hold_is_of_what_is_there_by_then(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of what was removed, and made anew, while it waited."""
    folder = written(store, "shop-catalog==1.0")

    def lock(*_: object) -> None:
        os.rename(folder, f"{folder}.removed")
        shutil.copytree(f"{folder}.removed", folder, symlinks=True)

    monkeypatch.setattr("mukernel.deployment.environment.fcntl.flock", lock)
    with pytest.raises(FileNotFoundError, match="another environment has its name by now"):
        Hold(folder)


async def test_the_loop_turns_while_it_waits_for_somebody_who_is_about_to_remove(store: Store) -> None:
    """Who may be stopped as it does. `Hold` would wait for it in a thread."""
    folder = written(store, "shop-catalog==1.0")
    deployments = Deployments("shop", None, Clock(), lambda use, step: None)
    with unused(folder) as free:
        assert free
        holding = asyncio.create_task(deployments.hold(folder))
        await asyncio.sleep(0)
        assert not holding.done()
    await holding
    assert store.is_held(os.path.basename(folder))
    deployments.release()


def test_what_is_installed_while_gc_waits_is_kept(store: Store, tmp_path: Path) -> None:
    """What is asked for is looked up once nobody else changes the store."""
    file = tmp_path / "app.toml"
    file.write_text(APPLICATION)
    folder, notes = written(store, "shop-catalog==1.0", tmp_path / "app.lock"), store.notes()
    with store.locked(Work()):
        (store.folder / "notes.json").unlink()  # as before the installation
        command = [sys.executable, "-m", "mukernel.cli", "gc", str(file), "--state", str(store.folder)]
        gc = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert gc.stderr is not None
        assert gc.stderr.readline().startswith("waiting for process")
        store.write_notes(notes)  # as after it
    assert gc.communicate() == ("there is nothing that is not needed\n", "")
    assert os.path.exists(folder)


def test_what_another_application_of_that_name_asks_for_is_kept(store: Store, tmp_path: Path) -> None:
    """Until it does not any more, or is not there any more."""
    here, there = tmp_path / "here.lock", tmp_path / "there.lock"
    (tmp_path / "link").symlink_to(tmp_path)
    first, second = (os.path.basename(written(store, f"shop-catalog=={each}")) for each in ("1.0", "2.0"))
    for lock_file, names in ((tmp_path / "link" / here.name, [first]), (there, [first, second])):
        lock_file.touch()
        for name in names:
            Installer(store.folder, lock_file=lock_file).remember(
                request(name.replace("-catalog-", "-catalog==")), name
            )

    def removed(lock_file: Path, *own: str) -> list[str]:
        return [each.name for each in collect_garbage(store, lambda: own, Work(), lock_file=str(lock_file))]

    assert removed(here, first) == []
    assert removed(here) == []
    assert removed(there, second) == [first]  # the other asks for it no more, either
    there.unlink()
    assert removed(here) == [second]
    assert store.notes().askers == {}


def test_applications_that_share_a_store_and_have_locked_different_versions(store: Store, tmp_path: Path) -> None:
    asked, installers = request("shop-catalog>=1"), []
    for name in ("1.0", "2.0"):
        installers.append(Installer(store.folder, lock_file=tmp_path / f"{name}.lock"))
        installers[-1].lock_file.write([])
        installers[-1].remember(asked, os.path.basename(written(store, f"shop-catalog=={name}")))
    found = [each.present(asked).environment.name for each in installers]
    assert found == ["shop-catalog-1.0", "shop-catalog-2.0"]
    lock_file = str(installers[0].lock_file.path)
    assert collect_garbage(store, lambda: found[:1], Work(), lock_file=lock_file) == []
    uninstall(store, found[0], Work())
    assert not installers[0].is_present(asked) and installers[1].is_present(asked)
