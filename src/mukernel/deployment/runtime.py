"""Runtime: mukernel itself as a wheel for an environment, made of the very files that run here.

So the kernel and all its processes are of one version, whichever Python each has. The compiled parts are copied where
the Python is of the same kind, and compiled for it otherwise; where that can't be done the wheel comes without them,
and packets serve in place of the ring.
"""

from __future__ import annotations

import hashlib
import operator
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from ..contract import Unavailable
from .pythons import Python
from .request import normalised
from .wheel import write_wheel
from .work import ToolFailed, Work

PACKAGE = Path(__file__).resolve().parents[1]
TAKEN = (".py", ".pyi", ".pyx", ".pxd", ".h", ".typed")
MODULES = ("kernel/ring", "transports/tracked")  # those that are compiled
NEEDED = ("msgspec",)  # by mukernel, and by nothing that mukernel needs
KEPT = ("Requires-Dist", "Requires-Python", "Provides-Extra")  # of the metadata
SCRIPTS = ("console_scripts", "pytest11")  # entry points that no process of plug-ins needs
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*([^;]*)")  # as mukernel's own are, of which none has a marker
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


began: list[str] = []  # the fingerprint of our files when this process first installed something


class Runtime:
    """The wheel of this mukernel for one Python. `fingerprint`: of the files that it is made of."""

    def __init__(self, python: Python) -> None:
        self.python = python
        self.compiled = [f"{module}{python.suffix}" for module in MODULES]
        self.fits = bool(python.suffix) and all((PACKAGE / path).exists() for path in self.compiled)
        taken = [*sources(), *(self.compiled if self.fits else [])]
        self.fingerprint = fingerprint(tuple((path, *last_changed(path)) for path in taken), python.suffix)
        installed = installed_version()
        self.version = f"{installed}{'.' if '+' in installed else '+'}r{self.fingerprint}"

    @property
    def folder_name(self) -> str:
        return f"mukernel-{self.version}"

    def build(self, folder: str, work: Work, compiler: str | None) -> None:
        """Write the wheel into `folder`. `compiler`: an interpreter of this kind that has Cython and setuptools, where
        the compiled parts don't fit; None: it is done without them."""
        files = {f"mukernel/{path}": (PACKAGE / path).read_bytes() for path in sources()}
        compiled = {path: (PACKAGE / path).read_bytes() for path in self.compiled} if self.fits else {}
        if compiler is not None:
            try:
                compiled = self.compile(os.path.join(folder, "sources"), work, compiler)
            except ToolFailed as error:
                work.say(f"mukernel is not compiled for Python {self.python.version}, packets serve instead: {error}")
            shutil.rmtree(os.path.join(folder, "sources"), ignore_errors=True)
        files.update({f"mukernel/{path}": content for path, content in compiled.items()})
        tag = "py3-none-any"
        if compiled:
            found = re.search(r"cpython-(\d+)(t?)", self.python.suffix)
            kind, threads = (found[1], found[2]) if found else ("".join(self.python.minor.split(".")), "")
            tag = f"cp{kind}-cp{kind}{threads}-{self.python.platform.replace('-', '_').replace('.', '_')}"
        write_wheel(folder, "mukernel", self.version, tag, files, information(self.version))

    def compile(self, folder: str, work: Work, compiler: str) -> dict[str, bytes]:
        """The compiled parts, by where they belong."""
        for path in sources():
            target = Path(folder, "mukernel", path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((PACKAGE / path).read_bytes())
        work.say(f"compiling mukernel for Python {self.python.version}")
        modules = [f"mukernel/{module}.pyx" for module in MODULES]
        cythonize = "import sys; from Cython.Build.Cythonize import main; sys.argv[0] = 'cythonize'; main()"
        work.run([compiler, "-c", cythonize, "-i", "-3", "-q", *modules], "compiling mukernel", folder=folder)
        return {path: Path(folder, "mukernel", path).read_bytes() for path in self.compiled}


def check_as_it_began() -> None:
    """Raises Unavailable where mukernel is another on the disk than when this process began, as nearly as it knows: a
    plug-in would get another mukernel than its kernel is, and might speak another protocol."""
    now = fingerprint(tuple((path, *last_changed(path)) for path in sources()), "")
    if now not in (began or [now]):
        raise Unavailable("mukernel was upgraded since this application started: restart it, then install or swap")
    began[:] = [now]


def sources(within: str = "") -> Iterator[str]:
    """Relative to the package."""
    with os.scandir(PACKAGE / within) as found:
        entries = sorted(found, key=lambda each: each.name)
    for each in entries:
        if each.is_dir() and each.name != "__pycache__":
            yield from sources(f"{within}{each.name}/")
        elif each.name.endswith(TAKEN):
            yield within + each.name


def last_changed(path: str) -> tuple[int, int]:
    found = os.stat(f"{PACKAGE}/{path}")
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def fingerprint(paths: tuple[tuple[str, int, int], ...], suffix: str) -> str:
    """`paths`: with what `last_changed` says of each. It is kept: callers wait for the processor that a swap needs."""
    found = hashlib.sha256(suffix.encode())
    for path, _, _ in paths:
        found.update(f"{path}\0".encode())
        found.update(hashlib.sha256((PACKAGE / path).read_bytes()).digest())
    return found.hexdigest()[:16]


@lru_cache
def installed_version() -> str:
    try:
        return version("mukernel")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def requirements() -> list[str]:
    """Of the running mukernel itself, without those of its extras."""
    try:
        return [each for each in distribution("mukernel").requires or [] if ";" not in each]
    except PackageNotFoundError:
        return list(NEEDED)


def unfulfilled(versions: Mapping[str, str]) -> list[str]:
    """Which requirements of the running mukernel distributions, name → version, do not fulfil: those that were locked
    for another mukernel need not."""
    return [each for each in requirements() if not fulfils(versions, each)]


def fulfils(versions: Mapping[str, str], requirement: str) -> bool:
    """Do they fulfil a requirement such as "msgspec>=0.20,<1"? No, where that is of a form that mukernel's have not:
    a tool, which knows all of them, is asked then."""
    found = REQUIREMENT.fullmatch(requirement)
    version = versions.get(normalised(found[1])) if found else None
    if found is None or version is None:
        return False
    for clause in filter(None, (each.strip() for each in found[2].split(","))):
        sign = next((each for each in COMPARED if clause.startswith(each)), "")
        wanted = clause.removeprefix(sign).strip()
        if not sign or not re.fullmatch(r"\d+(\.\d+)*", wanted) or not COMPARED[sign](order(version), order(wanted)):
            return False
    return True


def order(version: str) -> tuple[list[int], bool]:
    """By which versions are compared: "1.0" and "1" are the same, and come after "1.0rc1"."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(each) for each in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    early = re.match(r"[._-]?(a|b|c|rc|alpha|beta|pre|preview|dev)", version[found.end() if found else 0 :])
    return numbers, early is None


def information(wanted: str) -> dict[str, str]:
    """The metadata of the running mukernel, with the version of the wheel."""
    try:
        about = distribution("mukernel")
    except PackageNotFoundError:
        return {"METADATA": f"Metadata-Version: 2.1\nName: mukernel\nVersion: {wanted}\nRequires-Dist: msgspec\n"}
    metadata = "".join(f"{key}: {value}\n" for key in KEPT for value in about.metadata.get_all(key) or [])
    groups: dict[str, list[str]] = {}
    for point in about.entry_points:
        if point.group not in SCRIPTS:
            groups.setdefault(point.group, []).append(f"{point.name} = {point.value}")
    points = "".join(f"[{group}]\n" + "\n".join(lines) + "\n" for group, lines in groups.items())
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: mukernel\nVersion: {wanted}\n{metadata}",
        "entry_points.txt": points,
    }
