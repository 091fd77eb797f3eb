"""Dependencies that a distribution names by their address, "NAME @ ADDRESS"."""

from pathlib import Path

import pytest
from deployment_wheels import request, write_project, write_source_distribution, write_wheel

from mukernel import ContractError, Unavailable
from mukernel.deployment import Installer


def write_front(folder: Path, *needs: str) -> str:
    """A wheel with a plug-in that needs others; its path."""
    folder.mkdir()
    points = {"front": "shop_front:Front"}
    return str(write_wheel(folder, "shop-front", "1.0", files={}, requires=needs, plugins=points))


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_they_are_refused_and_with_only_wheels_none_is_built(
    tool: str, tmp_path: Path, wheels: str, shared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_INSTALLER", tool)
    mark, project = tmp_path / "built", tmp_path / "project"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queue.py").write_text(f"open({str(mark)!r}, 'w').close()\n")  # the application's own, not Python's
    archive = write_source_distribution(tmp_path, "1.0", mark)
    write_project(project, "1.0")
    (project / "pyproject.toml").unlink()
    (project / "setup.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    write_wheel(tmp_path, "shop-between", "1.0", files={}, requires=[f"shop-catalog @ {archive.as_uri()}"])
    wheel = Path(wheels, "shop_catalog-1.0-py3-none-any.whl")
    installer = Installer(shared_folder, wheels=[wheels, str(tmp_path)], only_wheels=True)
    before = installer.store.names()
    for needed in (f"shop-catalog @ {project.as_uri()}", "shop-between"):
        with pytest.raises((ContractError, Unavailable), match=r"use = '.*/shop_front-1\.0-"):
            installer.install(request(write_front(tmp_path / str(len(needed)), needed)))
    assert not mark.exists()
    to_wheel = write_front(tmp_path / "front", f"shop-catalog @ {wheel.as_uri()}")
    refused = r"use = '.*/shop_front-1\.0-.*: it depends on 'shop-catalog @ file://.*, a direct reference, .*wanted a"
    with pytest.raises(ContractError, match=refused):
        installer.install(request(to_wheel))
    assert installer.store.names() == before
