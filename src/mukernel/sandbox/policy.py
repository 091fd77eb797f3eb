"""Policy: what one sandbox is to be like. It is decided in the kernel's process, and travels as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

LIBRARIES = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec/coreutils", "/usr/local/lib",
    "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo",
)  # fmt: skip
NEVER_GIVEN = ("/", "/dev", "/etc", "/proc", "/run", "/sys", "/tmp")  # all of them: folders in them may be
TEMPORARY = "/tmp"  # where the sandbox has room of its own
MOST_LINKS = 40  # that the system follows on the way to one path
MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a plug-in in a sandbox may touch, besides the interfaces that it is granted: what an operator says.

    `read`, `write`: paths of folders and files that it finds in the same place, to read or to change. `temporary`:
    bytes of its own /tmp, in memory. `processes`: how many it may have at a time, threads included.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    temporary: int = 64 * MEGABYTE
    processes: int = 64


@dataclass(frozen=True, slots=True)
class Policy:
    """A sandbox with everything that Python needs in it, paths made absolute; `output`: bytes that its log may
    have, which the kernel empties from time to time; where that is no file, what it may print.
    `cgroups`: folders of the groups that hold all of it together, which it enters."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    temporary: int
    processes: int
    memory: int
    files: int
    output: int = 64 * MEGABYTE
    cgroups: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Policy:
        policy = Policy(**json.loads(data))
        return replace(policy, read=tuple(policy.read), write=tuple(policy.write), cgroups=tuple(policy.cgroups))


def importable_from(paths: Iterable[str], own: bool = True) -> list[str]:
    """The folders (and archives) that Python imports from. Never a whole home, or one of NEVER_GIVEN: what is imported
    from there wants a folder of its own. `own`: those of this interpreter, too."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    more = [ours, os.path.dirname(os.__file__)] if own else []
    found = [os.path.realpath(path) for path in [*paths, *more]]
    return [path for path in dict.fromkeys(found) if os.path.exists(path) and is_given(path)]


def is_given(path: str) -> bool:
    """May a real path be given to a sandbox as a whole?"""
    return path not in NEVER_GIVEN and not contains(path, os.path.realpath(os.path.expanduser("~")))


def contains(folder: str, path: str) -> bool:
    """Is `path` the folder itself, or in it?"""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def folders_on_the_way(path: str) -> list[str]:
    """The real folders in which a name is looked up on the way to `path`, through each symbolic link: who may write to
    one of them says where it leads."""
    found: list[str] = []
    names, at, links = os.path.join(os.getcwd(), path).split(os.sep)[::-1], os.sep, 0
    while names:
        name = names.pop()
        if name == "..":
            at = os.path.dirname(at)
        if name in ("", ".", ".."):
            continue
        found.append(at)
        try:
            target = os.readlink(os.path.join(at, name)) if links < MOST_LINKS else ""
        except OSError:  # it is no link, or not there
            target = ""
        if not target:
            at = os.path.join(at, name)
            continue
        links += 1
        at = os.sep if os.path.isabs(target) else at
        names += target.split(os.sep)[::-1]
    return found


def replaceable(paths: Iterable[str], write: Iterable[str]) -> tuple[str, str] | None:
    """The first of `paths` that leads through a folder which is written to, and that folder: who writes there could put
    a link in its way, which would be followed when the path is next opened. None where there is no such path."""
    folders = [(folder, os.path.realpath(folder)) for folder in write]
    for path in paths:
        way = folders_on_the_way(path) if folders else ()
        for folder, real in folders:
            if any(contains(real, each) for each in way):
                return path, folder
    return None


def libraries() -> list[str]:
    """The shared libraries of the system and of this interpreter."""
    own = os.path.join(os.path.realpath(sys.base_prefix), "lib")
    return [path for path in (*LIBRARIES, own) if os.path.lexists(path)]
