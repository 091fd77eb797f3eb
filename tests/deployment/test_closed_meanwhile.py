"""A kernel that closes while something is installed for it ends that, too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from deployment_wheels import SLOW_PROJECT
from waiting import is_running, until

from mukernel import Kernel, Unavailable
from mukernel.deployment import Installer

from .conftest import Catalog

BACKEND = """
import os, pathlib, subprocess, time

def build_wheel(*given, **more):
    child = subprocess.Popen(["sleep", "1000"])
    here = pathlib.Path({told!r})
    here.with_suffix(".new").write_text(f"{{os.getpid()}} {{child.pid}}")
    here.with_suffix(".new").rename(here)
    time.sleep(1000)
"""


@pytest.fixture
def slow(tmp_path: Path) -> tuple[str, Path]:
    """A directory of which no wheel is ever built, and the file that has the numbers of the processes that try."""
    folder, told = tmp_path / "slow", tmp_path / "told"
    folder.mkdir()
    (folder / "backend.py").write_text(BACKEND.format(told=str(told)))
    (folder / "pyproject.toml").write_text(SLOW_PROJECT)
    return str(folder), told


@pytest.mark.parametrize("what", ["load", "swap"])
async def test_what_is_being_installed_when_its_kernel_closes(
    what: str, own_installer: Installer, slow: tuple[str, Path]
) -> None:
    folder, told = slow
    changes: dict[str, Callable[[Kernel], Awaitable[object]]] = {
        "load": lambda kernel: kernel.load(folder, name="slow", placement="process"),
        "swap": lambda kernel: kernel.swap("catalog", folder),
    }
    async with Kernel(installer=own_installer) as kernel:
        if what == "swap":
            await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        change = asyncio.ensure_future(changes[what](kernel))
        await until(told.exists)
        if what == "swap":
            assert await kernel.get(Catalog).versions()
    assert change.done(), "it goes on though its kernel has closed"
    with pytest.raises(Unavailable, match=f"this kernel was closed while the {what} was under way"):
        await change
    for pid in map(int, told.read_text().split()):
        await until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]
    assert not kernel.registry.entries and not kernel.places
    left = {each for each in os.listdir(own_installer.store.environments) if not each.startswith("shop-catalog-1.0-")}
    assert not left and not [each for each in os.listdir(own_installer.store.wheels) if each.startswith(".unfinished")]
