"""Environments that lack something, or say something else than they should, are made anew."""

import os
import re
import shutil
from glob import glob
from pathlib import Path

import pytest
from deployment_wheels import names, request, write_project

from mukernel import Kernel, NotFound, Sandbox, Unavailable
from mukernel.core.deployments import source_in
from mukernel.core.inspection import inspect_plugins
from mukernel.deployment import Installer
from mukernel.deployment.cleaning import collect_garbage
from mukernel.deployment.work import Work
from mukernel.kernel.process import Limits


@pytest.mark.parametrize("damage", ["torn", "another", "missing", "unreadable"])
def test_a_damaged_environment_is_made_anew(own_installer: Installer, damage: str) -> None:
    asked, store = request("shop-catalog==1.0"), own_installer.store
    installed, hold = own_installer.install(asked)
    record = Path(installed.folder, "environment.json")
    if damage == "torn":
        record.write_bytes(record.read_bytes()[:100])
    elif damage == "another":
        record.write_text("[]")
    else:
        record.unlink()
        if damage == "unreadable":
            record.mkdir()
    assert not own_installer.is_present(asked)
    with pytest.raises(NotFound, match="is not installed; `mukernel install` does it"):
        own_installer.present(asked)
    with pytest.raises(Unavailable, match="is damaged, and is being used; stop the plug-in"):
        own_installer.install(asked)
    assert collect_garbage(store, lambda: {installed.environment.name}, Work()) == []
    hold.close()
    again, hold = own_installer.install(asked)
    hold.close()
    assert (again.folder, again.environment.plugins) == (installed.folder, installed.environment.plugins)
    assert own_installer.present(request("shop-catalog==1.0")) == again
    assert names(own_installer) == [installed.environment.name]


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_damaged_wheel_is_built_anew(own_installer: Installer, tmp_path: Path, damage: str) -> None:
    """The plug-in's, and mukernel's own."""
    write_project(tmp_path / "shop", "1.0")
    asked = request(str(tmp_path / "shop"))
    installed, hold = own_installer.install(asked)
    hold.close()
    shutil.rmtree(installed.folder)
    kept = list(own_installer.store.wheels.glob("*/*.whl"))
    assert len(kept) == 2
    for wheel in kept:
        if damage == "missing":
            wheel.unlink()
        else:
            wheel.write_bytes(wheel.read_bytes()[:1000])
    again, hold = own_installer.install(asked)
    hold.close()
    assert own_installer.present(asked) == again
    assert len(list(own_installer.store.wheels.glob("*/*.whl"))) == 2


async def test_a_sandbox_of_an_environment_that_lacks_mukernel(own_installer: Installer) -> None:
    installed, hold = own_installer.install(request("shop-catalog==1.0"))
    hold.close()
    shutil.rmtree(os.path.join(installed.folder, "runtime"))
    remedy = f"; if files are missing in {installed.folder}, `mukernel install` makes it anew"
    async with Kernel(installer=own_installer) as kernel:
        with pytest.raises(Unavailable, match=f"its process ended before, and its log may say why{re.escape(remedy)}"):
            await kernel.load("shop-catalog==1.0", placement="sandbox")
    source = source_in(own_installer.present(request("shop-catalog==1.0")), None)
    shutil.rmtree(os.path.join(installed.folder, "bin"))
    for boxes in (None, {"shelf": (Sandbox(), Limits())}):
        (problem,) = (await inspect_plugins({"shelf": (source, {})}, ".", boxes=boxes))["shelf"].problems
        assert problem.endswith(remedy)
    assert own_installer.install(request("shop-catalog==1.0"), verify=True)[0].folder == installed.folder
    assert os.path.exists(os.path.join(installed.folder, "runtime", "mukernel"))


@pytest.mark.parametrize(
    "gone", ["shop_library.py", "shop_library-*.dist-info", "mukernel/kernel/clock.py", "../../../bin/python"]
)
def test_an_environment_that_lacks_files_is_damaged(own_installer: Installer, gone: str) -> None:
    asked, store = request("shop-catalog==1.0"), own_installer.store
    installed, hold = own_installer.install(asked)
    name = installed.environment.name
    assert store.damage(name) == "" and installed.environment.lacking == []
    for each in glob(f"{installed.folder}/lib/python*/site-packages/**/__pycache__", recursive=True):
        shutil.rmtree(each)  # Python makes that by itself
    assert store.damage(name) == ""
    (path,) = glob(f"{installed.folder}/lib/python*/site-packages/{gone}")
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    assert re.search("shop-library is not in it|(shop_library.py|clock.py|bin/python),? is missing", store.damage(name))
    with pytest.raises(Unavailable, match="is damaged, and is being used; stop the plug-in"):
        own_installer.install(asked, verify=True)
    assert collect_garbage(store, lambda: {name}, Work()) == []
    hold.close()
    assert [each.name for each in collect_garbage(store, lambda: {name}, Work(), dry=True)] == [name]
    own_installer.install(asked, verify=True)[1].close()
    assert os.path.exists(path) and store.damage(name) == ""
    assert collect_garbage(store, lambda: {name}, Work()) == []


def test_a_damaged_environment_is_garbage(own_installer: Installer) -> None:
    kept, hold = own_installer.install(request("shop-catalog==1.0"))
    hold.close()
    name, store = kept.environment.name, own_installer.store
    Path(kept.folder, "environment.json").write_text("{")
    assert [each.name for each in collect_garbage(store, lambda: {name}, Work(), dry=True)] == [name]
    (removed,) = collect_garbage(store, lambda: {name}, Work())
    assert removed.size >= kept.environment.size
    assert names(own_installer) == []
    with pytest.raises(NotFound):
        own_installer.present(request("shop-catalog==1.0"))


def test_an_environment_that_nobody_could_hold_is_made_anew(own_installer: Installer) -> None:
    installed, hold = own_installer.install(request("shop-catalog==1.0"))
    hold.close()
    Path(installed.folder, "in-use").unlink()
    assert not own_installer.is_present(request("shop-catalog==1.0"))
    again, hold = own_installer.install(request("shop-catalog==1.0"))
    hold.close()
    assert (again.folder, again.environment.plugins) == (installed.folder, installed.environment.plugins)
    assert own_installer.present(request("shop-catalog==1.0")) == again
