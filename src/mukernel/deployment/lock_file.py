"""Lock file: which versions, and which files by their hashes, an application's environments are made of.

It lies beside the application file and is kept with it: whoever installs later gets the same. No host of a package
index stands in it, and no path but those that `use` names. mukernel itself does not either: an
environment has that of its kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from ..contract import ContractError, Unavailable
from .store import write_whole

FORMAT = 1
PLACE = re.compile(r"`\$\[(\d+)\](?:\.distributions\[(\d+)\])?(?:\.(\w+))?")  # in a message of msgspec
HEADER = """\
# Written by `mukernel install`: what the environments of the plug-ins are made of. Keep it with the application file.
"""


# What stands here becomes a line for an installer, where another word could be an option of it.
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Version = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha(256|384|512):[0-9a-f]+$")]


class Locked(msgspec.Struct, frozen=True):
    """One distribution. `hashes`: of the files that may be installed, any of them; empty for what is built here."""

    name: Name
    version: Version
    hashes: list[Digest] = []


class Resolution(msgspec.Struct, frozen=True):
    """What a `use` became for one Python ("3.13") and platform. `source`: for what is built here, which commit of a
    repository, or the digest of a directory."""

    use: str
    python: str
    platform: str
    distribution: str
    source: str = ""
    distributions: list[Locked] = []


class LockFileUnsound(ContractError):
    """The lock file can't be read as one: a problem of the whole application, not of the plug-in that it was met at."""


class LockFileUnwritable(Unavailable):
    """The lock file can't be written: no problem of what was to be locked."""


class LockFile:
    """`path`: of the file, which need not be there. `spare`: the one that takes what does not stand in it, if it
    can't be written."""

    def __init__(self, path: str | os.PathLike[str], spare: LockFile | None = None) -> None:
        self.path, self.spare = Path(path).absolute(), spare
        self.known: tuple[str | None, list[Resolution]] = None, []  # what it says, and what that means

    def read(self) -> list[Resolution]:
        """Raises LockFileUnsound for a file that can't be read as one: it is not ignored, as it says what is safe."""
        try:
            text = self.path.read_text(encoding="utf-8")
            if text == self.known[0]:
                return self.known[1]
            content = tomllib.loads(text)
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise LockFileUnsound(
                f"{self.path} can't be read: {error}; mend it, or remove it to resolve anew"
            ) from None
        if content.get("format") != FORMAT:
            raise LockFileUnsound(
                f"{self.path}: format: got {content.get('format')!r}, wanted {FORMAT}, which this mukernel reads"
            )
        try:
            found = msgspec.convert(content.get("environment", []), list[Resolution])
        except msgspec.ValidationError as error:
            where = line_of(text, str(error))
            raise LockFileUnsound(f"{self.path}{where}: {error}; mend it, or remove it to resolve anew") from None
        self.known = text, found
        return found

    def everything(self) -> list[Resolution]:
        """With what the spare one says."""
        return [*self.read(), *(self.spare.read() if self.spare is not None else ())]

    def find(self, use: str, python: str, platform: str) -> Resolution | None:
        wanted = (use, python, platform)
        return next((each for each in self.everything() if (each.use, each.python, each.platform) == wanted), None)

    @property
    def target(self) -> Path:
        """The file itself, where `path` is a symbolic link to it."""
        return Path(os.path.realpath(self.path))

    def hindrance(self) -> str:
        """Why another file can't be put in its place, as it is written; "" where it can."""
        if not os.access(self.target.parent, os.W_OK):
            return "its folder is read-only"
        return "it is a mount by itself; mount its folder" if is_mount(self.target) else ""

    def taking(self, resolution: Resolution) -> LockFile:
        """Which of the two a resolution is to be added to. Raises LockFileUnwritable where it is ours that can't be
        written: somebody has to know before it takes long to install it."""
        key = (resolution.use, resolution.python, resolution.platform)
        if self.path.is_symlink() and not self.target.parent.is_dir():
            raise LockFileUnwritable(
                f"the lock file {self.path} is a link to {self.target}, whose folder is not there: make the folder, or "
                "remove the link"
            )
        hindrance = self.hindrance()
        if not hindrance or self.find(*key) == resolution:
            return self
        if self.spare is None or any((each.use, each.python, each.platform) == key for each in self.read()):
            raise LockFileUnwritable(
                f"use = {resolution.use!r}: {self.path} locks something else, and can't be written: {hindrance}; "
                "install it where that can be written, and bring the lock file from there"
            )
        return self.spare

    def add(self, resolution: Resolution) -> None:
        """Write a resolution in the place of an older one of the same `use`, Python and platform."""
        key = (resolution.use, resolution.python, resolution.platform)
        kept = [each for each in self.read() if (each.use, each.python, each.platform) != key]
        self.write([*kept, resolution])

    def keep(self, uses: set[str]) -> None:
        """Leave out what is none of these any more; nothing where it can't be written."""
        if self.spare is not None:
            self.spare.keep(uses)
        if self.hindrance():
            return
        found = self.read()
        if kept := [each for each in found if each.use in uses]:
            if kept != found:
                self.write(kept)
        elif found:
            self.target.unlink()

    def write(self, resolutions: list[Resolution]) -> None:
        ordered = sorted(resolutions, key=lambda each: (each.use, each.python, each.platform))
        try:
            write_whole(self.target, as_toml(ordered).encode())
        except OSError as error:
            raise LockFileUnwritable(f"the lock file {self.path} can't be written: {error.strerror}") from None


def is_lock_file(path: str) -> bool:
    """Was the file at a path written as the lock file of an application? What others call so has another beginning."""
    if not path.endswith(".lock") or not os.path.isfile(path):
        return False
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(HEADER)) == HEADER.encode()
    return False


def is_mount(path: Path) -> bool:
    """Is something mounted at a path itself? (`os.path.ismount` does not see a bind mount of a file.)"""
    with contextlib.suppress(OSError):
        return mount_of(path) != mount_of(path.parent)
    return False


def mount_of(path: Path) -> list[str]:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        lines = Path(f"/proc/self/fdinfo/{opened}").read_text().splitlines()
        return [line for line in lines if line.startswith("mnt_id:")]
    finally:
        os.close(opened)


def line_of(content: str, problem: str) -> str:
    """For a problem that ends in "at `$[0].distributions[2].version`": ", line 7"; "" where the lock file is written in
    another form than ours."""
    found = PLACE.search(problem)
    if found is None:
        return ""
    wanted = int(found[1]), int(found[2]) if found[2] else -1
    environment, distribution, head = -1, -1, 0
    for number, line in enumerate(content.splitlines(), 1):
        match line.strip():
            case "[[environment]]":
                environment, distribution = environment + 1, -1
            case "[[environment.distributions]]":
                distribution += 1
        if (environment, distribution) == wanted:
            head = head or number
            if found[3] and re.match(rf"\s*{found[3]}\s*=", line):
                return f", line {number}"
    return f", line {head}" if head else ""


def as_toml(resolutions: list[Resolution]) -> str:
    lines = [HEADER, f"format = {FORMAT}"]
    for each in resolutions:
        lines += ["", "[[environment]]", *(text(each, key) for key in ("use", "python", "platform", "distribution"))]
        if each.source:
            lines.append(text(each, "source"))
        for locked in each.distributions:
            lines += ["", "[[environment.distributions]]", text(locked, "name"), text(locked, "version")]
            if locked.hashes:
                lines += ["hashes = [", *(f"    {json.dumps(value)}," for value in locked.hashes), "]"]
    return "\n".join(lines) + "\n"


def text(item: msgspec.Struct, key: str) -> str:
    return f"{key} = {json.dumps(getattr(item, key), ensure_ascii=False)}"  # such strings are TOML, too
