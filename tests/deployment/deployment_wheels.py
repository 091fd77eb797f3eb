"""What the tests of deployment install: small distributions, built here, in a folder of wheels."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from mukernel.deployment import Installer, Request, read_request

CATALOG = """
import os, sys
from importlib.metadata import version
import shop_library
from mukernel import Interface, Plugin, idempotent

class Catalog(Interface):
    @idempotent
    async def versions(self) -> list[str]: ...
    async def add(self, number: int) -> int: ...
    async def process(self) -> int: ...

class Shelf(Plugin, Catalog):
    def __init__(self, *, extra: str = "") -> None:
        self.total, self.extra = 0, extra
    async def versions(self) -> list[str]:
        python = "%d.%d" % sys.version_info[:2]
        return [version("shop-catalog"), shop_library.VERSION, python, self.extra]
    async def add(self, number: int) -> int:
        self.total += number
        return self.total
    async def process(self) -> int:
        return os.getpid()
    def save(self) -> int: return self.total
    def restore(self, total: int) -> None: self.total = total

class Broken(Shelf):
    async def start(self) -> None: raise RuntimeError("it does not start")
"""
CLERK = """
from mukernel import Blocking, Interface, Plugin, idempotent

class Catalog(Interface):
    @idempotent
    async def versions(self) -> list[str]: ...
    async def add(self, number: int) -> int: ...
    async def process(self) -> int: ...

class Desk(Interface):
    async def ask(self, number: int) -> int: ...
    async def ask_blocking(self, number: int) -> int: ...

class Clerk(Plugin, Desk):
    def __init__(self, catalog: Catalog, blocking: Blocking[Catalog]) -> None:
        self.catalog, self.blocking = catalog, blocking
    async def ask(self, number: int) -> int:
        return await self.catalog.add(number)
    def ask_blocking(self, number: int) -> int:
        return self.blocking.add(number)
"""
BACKEND = '''
"""The whole of a build backend, which needs nothing: it packs module.py and the metadata."""
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "shop_catalog-%(version)s"
    files = {
        "shop_module.py": open("shop_module.py").read(),
        f"{name}.dist-info/METADATA": "Metadata-Version: 2.1\\nName: shop-catalog\\nVersion: %(version)s\\n"
        "Requires-Dist: shop-library\\nRequires-Dist: mukernel\\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{name}.dist-info/entry_points.txt": "[mukernel.plugins]\\ncatalog = shop_module:Shelf\\n",
    }
    record = f"{name}.dist-info/RECORD"
    files[record] = "".join(f"{each},,\\n" for each in [*files, record])
    with zipfile.ZipFile(f"{wheel_directory}/{name}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return f"{name}-py3-none-any.whl"
'''
SLOW_PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "shop-slow"
version = "1.0"
"""  # its backend is each test's own


def write_wheel(
    folder: Path, name: str, version: str, *, files: Mapping[str, str | bytes], requires: Sequence[str] = (),
    plugins: Mapping[str, str] | None = None, tag: str = "py3-none-any", scripts: str = "",
) -> Path:  # fmt: skip
    """A wheel; `plugins`: entry points of the group "mukernel.plugins"; `scripts`: other groups."""
    stem = f"{name.replace('-', '_')}-{version}"
    about = f"{stem}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    content: dict[str, str | bytes] = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if plugins:
        lines = "".join(f"{point} = {value}\n" for point, value in plugins.items())
        content[f"{about}/entry_points.txt"] = f"[mukernel.plugins]\n{lines}{scripts}"
    content[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{about}/RECORD"])
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for where, what in content.items():
            archive.writestr(where, what)
    return path


def write_catalog(folder: Path, version: str, library: str, **more: str) -> Path:
    """A version of shop-catalog that needs `library`, such as "shop-library<2"."""
    plugins = more or {"catalog": "shop_module:Shelf"}
    return write_wheel(
        folder, "shop-catalog", version, files={"shop_module.py": CATALOG}, requires=[library, "mukernel>=0.1"],
        plugins=plugins,
    )  # fmt: skip


def write_installed(folder: Path, name: str) -> None:
    """A wheel of a distribution that is installed here, so that no index has to be asked for it."""
    found = distribution(name)
    tag = next(line.removeprefix("Tag: ") for line in (found.read_text("WHEEL") or "").splitlines() if "Tag: " in line)
    files = {
        str(each): Path(str(each.locate())).read_bytes()
        for each in found.files or ()
        if not str(each).startswith("..") and "__pycache__" not in str(each)
        and not str(each).endswith(("dist-info/METADATA", "dist-info/WHEEL", "dist-info/RECORD"))
    }  # fmt: skip
    write_wheel(folder, name, found.version, files=files, tag=tag)


def write_wheels(folder: Path) -> None:
    """shop-library 1.0 and 2.0, two versions of shop-catalog that need one each, and what every environment has."""
    for version in ("1.0", "2.0"):
        write_wheel(folder, "shop-library", version, files={"shop_library.py": f"VERSION = {version!r}\n"})
    write_catalog(folder, "1.0", "shop-library<2")
    write_catalog(folder, "2.0", "shop-library>=2")
    write_wheel(folder, "shop-empty", "1.0", files={"shop_empty.py": ""})
    write_wheel(folder, "shop-torn", "1.0", files={}, requires=["shop-catalog==1.0", "shop-library>=2"])
    write_catalog(folder, "3.0", "shop-library>=2", catalog="shop_module:Shelf", broken="shop_module:Broken")
    write_wheel(
        folder, "shop-clerk", "1.0", files={"shop_clerk.py": CLERK}, requires=["mukernel"],
        plugins={"clerk": "shop_clerk:Clerk"},
    )  # fmt: skip
    write_installed(folder, "msgspec")


def write_source_distribution(folder: Path, version: str, mark: Path) -> Path:
    """A source distribution of shop-catalog alone, whose build makes the file `mark`."""
    path = folder / f"shop_catalog-{version}.tar.gz"
    with TemporaryDirectory() as scratch:
        project = Path(scratch, f"shop_catalog-{version}")
        write_project(project, version)
        backend = project / "backend.py"
        backend.write_text(f"{backend.read_text()}\nopen({str(mark)!r}, 'w').close()\n")
        (project / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: shop-catalog\nVersion: {version}\n")
        with tarfile.open(path, "w:gz") as archive:
            archive.add(project, project.name)
    return path


def write_project(folder: Path, version: str) -> None:
    """A source tree of shop-catalog, with a build backend of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "shop-catalog"\nversion = "{version}"\n'
    )
    (folder / "backend.py").write_text(BACKEND % {"version": version})
    (folder / "shop_module.py").write_text(CATALOG)


def request(use: str, **more: str) -> Request:
    found = read_request(use, **more)
    assert found is not None
    return found


def names(installer: Installer) -> list[str]:
    """Of the folders in the store; whatever is half made, too."""
    return sorted(os.listdir(installer.store.environments))
