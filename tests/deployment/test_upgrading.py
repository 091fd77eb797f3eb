"""What runs is chosen anew: a branch that was pushed to, a directory that was edited, a wheel that was built anew under
its name."""

import shutil
import subprocess
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from deployment_wheels import request, write_catalog, write_project, write_wheel, write_wheels

from mukernel import Kernel, SwapFailed
from mukernel.core.control_server import ControlServer
from mukernel.deployment import Installer, runtime
from mukernel.deployment.tools import tools_for
from mukernel.deployment.work import Work

COMMIT = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false", "commit", "-am", "x"]


def pushed(repository: Path, version: str) -> str:
    """A commit of that version; returns its name."""
    write_project(repository, version)
    for words in (["init", "--quiet", "--initial-branch", "main"], ["add", "-A"], COMMIT):
        subprocess.run(["git", "-C", str(repository), *words], check=True, capture_output=True)
    return subprocess.check_output(["git", "-C", str(repository), "rev-parse", "HEAD"], text=True).strip()


async def test_a_swap_to_a_branch_takes_its_new_commit_when_it_is_asked_to(
    installer: Installer, catalog: Any, tmp_path: Path
) -> None:
    first = pushed(tmp_path / "shop", "5.0")
    use = f"git+file://{tmp_path}/shop@main"
    async with Kernel(installer=installer) as kernel:
        await kernel.load(use, name="catalog", placement="process")
        second = pushed(tmp_path / "shop", "6.0")
        report = await kernel.swap("catalog", use)
        assert report.after == f"Shelf of {use} (commit {first[:12]}) process"  # it is locked
        report = await kernel.swap("catalog", use, upgrade=True)
        assert report.after == f"Shelf of {use} (commit {second[:12]}) process"
        assert (await kernel.get(catalog).versions())[0] == "6.0"
        third = pushed(tmp_path / "shop", "7.0")
        running = kernel.registry.entry("catalog").source
        assert third[:12] in (await kernel.swap("catalog", running, upgrade=True)).after
        assert second[:12] in (await kernel.rollback("catalog")).after


async def test_a_swap_to_a_wheel_that_was_built_anew(own_installer: Installer, catalog: Any, tmp_path: Path) -> None:
    write_wheels(tmp_path)
    use = f"{tmp_path}/shop_catalog-2.0-py3-none-any.whl"
    async with Kernel(installer=own_installer) as kernel:
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        await kernel.swap("catalog", use)
        write_catalog(tmp_path, "2.0", "shop-library>=2", catalog="shop_module:Shelf", broken="shop_module:Broken")
        with pytest.raises(
            SwapFailed, match=r"the file is another .* where it is only swapped to, `mukernel swap NAME USE --upg"
        ):
            await kernel.swap("catalog", use)
        with pytest.raises(SwapFailed, match=r"upgrade: got True with use = .* wanted a plug-in with"):
            await kernel.swap("catalog", "shop_module:Shelf", upgrade=True)
        assert not (await kernel.swap("catalog", f"{use}:catalog", upgrade=True)).rolled_back
        assert kernel.registry.entry("catalog").source.use == f"{use}:catalog"
        control = ControlServer(kernel)
        assert not (await control.rollback("catalog")).rolled_back
        write_catalog(tmp_path, "2.0", "shop-library<2")
        with pytest.raises(SwapFailed, match="the file is another"):
            await control.swapped("catalog")
        assert not (await control.swapped("catalog", upgrade=True)).rolled_back
        assert (await kernel.get(catalog).versions())[1] == "1.0"


async def test_a_directory_that_was_edited_is_built_by_a_swap_without_use_after_a_rollback_too(
    installer: Installer, catalog: Any, tmp_path: Path
) -> None:
    write_project(tmp_path / "shop", "1.1")
    async with Kernel(installer=installer) as kernel:
        await kernel.load("./shop", name="catalog", placement="process", folder=str(tmp_path))
        control = ControlServer(kernel)
        control.uses["catalog"], control.folder = "./shop", str(tmp_path)
        write_project(tmp_path / "shop", "1.2")
        await control.swapped("catalog")
        assert not (await control.rollback("catalog")).rolled_back
        assert (await kernel.get(catalog).versions())[0] == "1.1"
        control.folder = None  # that of what was loaded is meant
        await control.swapped("catalog")
        assert (await kernel.get(catalog).versions())[0] == "1.2"


def test_what_is_locked_gives_way_to_what_a_newer_mukernel_needs(
    tmp_path: Path, wheels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else does, if that can be."""
    newer = tmp_path / "wheels"
    shutil.copytree(wheels, newer)
    installer, said = Installer(tmp_path / "store", wheels=[str(newer)]), list[str]()
    installer.store.make_folders()

    def resolved() -> dict[str, str]:
        found = installer.resolved(request("shop-catalog<2"), tools_for(installer.store), Work(said.append), False)[1]
        installer.lock_file.add(found)
        return {each.name: each.version for each in found.distributions}

    before = resolved()
    locked = {each.name: each for each in installer.lock_file.read()[0].distributions}
    write_wheel(newer, "msgspec", "0.99", files={})
    write_wheel(newer, "shop-library", "1.5", files={})
    write_catalog(newer, "1.5", "shop-library>=1.5,<2")
    upgrade(tmp_path / "a", "msgspec>=0.20,<2", monkeypatch)
    assert resolved() == before
    upgrade(tmp_path / "b", "msgspec>=0.99", monkeypatch)
    assert resolved() == {**before, "msgspec": "0.99"}
    assert [each for each in installer.lock_file.read()[0].distributions if each.name != "msgspec"] == [
        each for each in locked.values() if each.name != "msgspec"
    ]
    assert "what is locked does not fulfil msgspec>=0.99, which this mukernel needs: choosing anew" in said
    write_wheel(newer, "msgspec", "0.999", files={})
    write_catalog(newer, "1.0", "msgspec<0.999")
    upgrade(tmp_path / "c", "msgspec>=0.999", monkeypatch)
    assert resolved() == {"shop-catalog": "1.5", "shop-library": "1.5", "msgspec": "0.999"}
    assert any("choosing all of shop-catalog<2 anew, as what is locked can't stay: it can't" in line for line in said)


def upgrade(folder: Path, requirement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mukernel be another version, which needs that of msgspec."""
    path = folder / f"mukernel-0.1.1+{folder.name}.dist-info"
    path.mkdir(parents=True)
    (path / "METADATA").write_text(f"Name: mukernel\nVersion: 0.1.1+{folder.name}\nRequires-Dist: {requirement}\n")
    monkeypatch.setattr(runtime, "distribution", lambda _: Distribution.at(path))
    monkeypatch.setattr(runtime, "installed_version", lambda: f"0.1.1+{folder.name}")


def test_what_mukernel_needs_can_be_compared_with_what_is_locked() -> None:
    """Its requirements have the form that is understood, and name what lies apart in an environment."""
    assert not runtime.unfulfilled({name: distribution(name).version for name in runtime.NEEDED})
    assert len(runtime.requirements()) == len(runtime.unfulfilled({})) == len(runtime.NEEDED)
    for requirement, good, bad in (
        ("a>=0.20,<1", ("0.20", "0.20.0", "0.20.post1", "0.21rc1", "0.100"), ("0.19.9", "0.20rc1", "0.20.dev1", "1.0")),
        ("a!=1.1, >1", ("1.2",), ("1.1", "1.1.0", "1.0")),
        ("a", ("0",), ()),
        ("a~=1.0", (), ("1.0",)),  # a tool is asked
    ):
        assert [version for version in (*good, *bad) if runtime.fulfils({"a": version}, requirement)] == [*good]
