"""What runs is chosen anew: a branch that was pushed to, a wheel that was built anew under its name."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployment_wheels import write_catalog, write_project, write_wheels

from mukernel import Kernel, SwapFailed
from mukernel.deployment import Installer

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
