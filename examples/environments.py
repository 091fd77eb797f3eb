"""Two plug-ins that need versions of one library which exclude each other, side by side: each has its own environment.

What they need is installed from your package index; here into a folder that goes with the example.
"""

# mypy: disable-error-code="empty-body"
import asyncio
import tempfile
from pathlib import Path

from mukernel import Interface, Kernel, SwapFailed
from mukernel.deployment import Installer

PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "version-reader"
version = "{version}"
dependencies = ["mukernel", "packaging{wanted}"]

[project.entry-points."mukernel.plugins"]
reader = "version_reader:PackagingReader"

[tool.setuptools]
py-modules = ["version_reader"]
"""
MODULE = """\
from importlib.metadata import version

from packaging.version import Version
from mukernel import Interface, Plugin


class Reader(Interface, version="1.0"):
    async def newest(self, versions: list[str]) -> str: ...
    async def library(self) -> str: ...


class PackagingReader(Plugin, Reader):
    async def newest(self, versions: list[str]) -> str:
        return max(versions, key=Version)

    async def library(self) -> str:
        return version("packaging")
"""


class Reader(Interface, version="1.0"):
    async def newest(self, versions: list[str]) -> str: ...
    async def library(self) -> str: ...


def write_plugin(folder: Path, version: str, wanted: str) -> str:
    """A source tree, as the plug-in's author has it."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT.format(version=version, wanted=wanted))
    (folder / "version_reader.py").write_text(MODULE)
    return str(folder)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        old = write_plugin(Path(folder, "old"), "1.0", "<24")
        new = write_plugin(Path(folder, "new"), "2.0", ">=24")
        async with Kernel(installer=Installer(Path(folder, "store"))) as kernel:
            await kernel.load(old, name="old", placement="process")
            await kernel.load(new, name="new", placement="process")
            for name in ("old", "new"):
                reader = kernel.get(Reader, plugin=name)
                print(f"{name}: {await reader.newest(['1.9', '1.10'])}, by packaging {await reader.library()}")

            report = await kernel.swap("old", new)
            print(f"swapped, {report.ledger.lost} lost: packaging {await kernel.get(Reader, plugin='old').library()}")
            await kernel.rollback("old")
            print(f"and back: packaging {await kernel.get(Reader, plugin='old').library()}")
            try:
                await kernel.swap("old", "version-reader==99")
            except SwapFailed:
                print(f"what can't be installed changes nothing: {await kernel.get(Reader, plugin='old').library()}")


if __name__ == "__main__":
    asyncio.run(main())
