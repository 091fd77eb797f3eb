"""What the tests of deployment share: a folder of wheels, no index but that, and an installer for each tool."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "core"))

from deployment_wheels import write_wheels
from waiting import is_running

from mukernel import Interface, Kernel, idempotent
from mukernel.deployment import Installer


class Catalog(Interface):
    @idempotent
    async def versions(self) -> list[str]: ...
    async def add(self, number: int) -> int: ...
    async def process(self) -> int: ...


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("wheels")
    write_wheels(folder)
    return str(folder)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of uv: what it knows of an index, from whenever it was asked, it would prefer to a folder of wheels."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str) -> None:
    """No index is asked: what is installed is in the folder of wheels. What an application keeps lies in tmp_path."""
    monkeypatch.setenv("UV_CACHE_DIR", cache)
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for tests that only add to it: what one has installed is there for the next."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def installer(shared_folder: Path, wheels: str) -> Installer:
    return Installer(shared_folder, wheels=[wheels])


@pytest.fixture
def own_installer(tmp_path: Path, wheels: str) -> Installer:
    """One whose store is this test's alone."""
    return Installer(tmp_path / "store", wheels=[wheels])


@pytest.fixture
async def kernel(installer: Installer) -> AsyncIterator[Kernel]:
    async with Kernel(installer=installer) as running:
        yield running
        processes = [place.pid for place in running.places.values()]
    left = [pid for pid in processes if is_running(pid)]
    assert not left, f"processes outlived their kernel: {left}"


@pytest.fixture
def catalog() -> type[Catalog]:
    return Catalog
