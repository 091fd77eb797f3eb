"""Pythons: the interpreters of this machine, found by their version."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from ..contract import ContractError, NotFound
from .request import OLDEST
from .work import environment_variables

NEWEST_LOOKED_FOR = 20  # of 3.X: the names that are looked for on PATH
PATIENCE = 20.0  # seconds that an interpreter has to say what it is
PROBE = """
import json, sys, sysconfig
print(json.dumps(dict(
    executable=sys.executable if sys.prefix == sys.base_prefix else getattr(sys, "_base_executable", sys.executable),
    version="%d.%d.%d" % sys.version_info[:3], implementation=sys.implementation.name,
    suffix=sysconfig.get_config_var("EXT_SUFFIX") or "", base_prefix=sys.base_prefix,
    library=sysconfig.get_path("stdlib"), platform=sysconfig.get_platform())))
"""


class Python(msgspec.Struct, frozen=True):
    """An interpreter. `suffix`: of the extension modules that it can import; `library`: the folder of its standard
    library."""

    executable: str
    version: str
    implementation: str
    suffix: str
    base_prefix: str
    library: str
    platform: str

    @property
    def minor(self) -> str:
        """ "3.13.1" → "3.13"."""
        return self.version.rpartition(".")[0]

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))

    @property
    def identity(self) -> str:
        """What tells it from others, for the names of folders."""
        return f"{self.implementation}-{self.version}-{digest_of(self)}"


def digest_of(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:12]


def find_python(wanted: str, uv: str | None) -> Python:
    """The interpreter of a version ("3.13", "3.13.1") or a path; "": the kernel's own.

    `uv`: the command of uv, which knows of more, where there is one. Raises NotFound that lists those that were found,
    ContractError for one that is too old.
    """
    if not wanted:
        own = probed(sys.executable)
        if own is None:
            raise NotFound(f"python: the kernel's own, {sys.executable}, does not say what it is")
        return own
    if os.path.isabs(wanted):
        given = probed(wanted)
        if given is None:
            raise NotFound(f"python: got {wanted!r}, which is no Python that runs; {known()}")
        return checked_age(given, wanted)
    fields = tuple(map(int, wanted.split(".")))
    if fields[:2] < OLDEST:
        raise ContractError(f"python: got {wanted!r}, wanted 3.{OLDEST[1]} or later")
    for candidate in [*candidates(wanted), *([] if uv is None else by_uv(uv, wanted))]:
        found = probed(candidate)
        if found is not None and found.numbers[: len(fields)] == fields:
            return found
    raise NotFound(f"python: got {wanted!r}, which is not on this machine; {known()}")


def checked_age(python: Python, wanted: str) -> Python:
    if python.numbers[:2] < OLDEST:
        raise ContractError(f"python: got {wanted!r}, which is {python.version}, wanted 3.{OLDEST[1]} or later")
    return python


def candidates(wanted: str) -> Iterator[str]:
    """Where a version may be: the kernel's own, on PATH, under pyenv."""
    minor = ".".join(wanted.split(".")[:2])
    yield sys.executable
    for name in (f"python{wanted}", f"python{minor}", "python3", "python"):
        yield from on_path(name)
    yield from reversed(of_pyenv(wanted))


def on_path(name: str) -> Iterator[str]:
    """All of that name, not only the first, which may be a shim for another version."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if folder and (found := shutil.which(name, path=folder)):
            yield found


def of_pyenv(wanted: str = "3.") -> list[str]:
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    return sorted(glob.glob(os.path.join(glob.escape(root), "versions", f"{wanted}*", "bin", "python3")))


def by_uv(uv: str, wanted: str) -> list[str]:
    command = [uv, "python", "find", "--no-python-downloads", "--no-project", "--quiet", wanted]
    found = subprocess.run(command, capture_output=True, text=True, env=environment_variables(), check=False)
    return found.stdout.split("\n")[:1] if found.returncode == 0 else []


def known() -> str:
    """The interpreters that were found, for a message."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST_LOOKED_FOR)]
    paths = [sys.executable, *(path for name in names for path in on_path(name)), *of_pyenv()]
    found = {each.version: each for each in map(probed, paths) if each is not None and each.numbers[:2] >= OLDEST}
    versions = sorted(found, key=lambda version: found[version].numbers)
    return "found: " + ", ".join(f"{version} ({found[version].executable})" for version in versions)


def probed(executable: str) -> Python | None:
    """What an interpreter says of itself; None where it says nothing."""
    try:
        return asked(executable)
    except (OSError, subprocess.SubprocessError, ValueError, RecursionError, msgspec.ValidationError):
        return None


@lru_cache  # of what was said; one that says nothing now is asked again, since it may be installed by then
def asked(executable: str) -> Python:
    said = subprocess.run(
        [executable, "-I", "-c", PROBE], capture_output=True, text=True, timeout=PATIENCE,
        env=environment_variables(), stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return msgspec.convert(json.loads(said.stdout), Python)
