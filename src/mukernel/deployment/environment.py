"""Environment: a folder with a Python and the distributions of one plug-in, as it was installed."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import os
import site
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from ..contract import ContractError, MukernelError, NotFound
from .pythons import Python
from .request import Request, normalised

if TYPE_CHECKING:
    from importlib.metadata import Distribution

ENTRY_POINTS = "mukernel.plugins"
RECORD = "environment.json"
RUNTIME = "runtime"  # the folder in which mukernel is once more, apart from all that came with the plug-in
IN_USE = "in-use"  # who uses the environment holds a shared lock on this file, which goes with its process
OWN = (RECORD, RUNTIME, IN_USE)  # what mukernel has in an environment, where no distribution may have anything
GONE = "`mukernel install` makes it anew, or, where it was only swapped to, `mukernel swap NAME`"


class Environment(msgspec.Struct, frozen=True):
    """What stands in an environment. `name`: of its folder; `runtime`: the version of mukernel in it; `distributions`:
    name → version; `plugins`: for each distribution that has some, entry point → "module:Class"; `sources`: what was
    built on this machine for it; `size`: bytes, as its files say; `lacking`: files that its distributions list and
    that were not there from the first, relative to its folder; `commit`: of the repository that it was built of."""

    name: str
    python: Python
    runtime: str
    distributions: dict[str, str]
    plugins: dict[str, dict[str, str]]
    sources: list[str] = []
    size: int = 0
    lacking: list[str] = []
    commit: str = ""


class Installed(msgspec.Struct, frozen=True):
    """An environment, where it is, and the plug-in in it that was asked for."""

    environment: Environment
    folder: str
    request: Request
    distribution: str
    version: str
    module: str
    attribute: str
    entry: str

    @property
    def use(self) -> str:
        """The request as `use` names it, with the entry point where there are several."""
        several = len(self.environment.plugins[self.distribution]) > 1 or self.request.entry
        return f"{self.request.use}:{self.entry}" if several else self.request.use


def read_environment(folder: str) -> Environment:
    """Raises NotFound where no whole environment is there."""
    try:
        os.stat(os.path.join(folder, IN_USE))  # without it nobody could hold the environment
        with open(os.path.join(folder, RECORD), "rb") as file:
            return msgspec.json.decode(file.read(), type=Environment)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotFound(f"there is no environment in {folder}: {error}; {GONE}") from None


def made_anew(folder: str) -> str:
    """What an error says to do that may come of a damaged environment; "" for the kernel's own."""
    return f"; if files are missing in {folder}, `mukernel install` makes it anew" if folder else ""


def damage_in(folder: str) -> str:
    """Why an environment is not whole any more; "" where it is. Looks for every file that its distributions list, which
    takes time with their number, and for what it knows of itself; not into the files."""
    try:
        environment = read_environment(folder)
        packages = site_packages(folder, environment.python.library)
        if not os.path.exists(interpreter(folder)):
            return f"its interpreter, {interpreter(folder)}, is missing"
        if gone := sorted(environment.distributions.keys() - seen_in(packages)[0].keys()):
            return f"{gone[0]} is not in it any more"
        gone = sorted(missing_files(folder, packages) - set(environment.lacking))
    except (OSError, MukernelError) as error:
        return str(error)
    return f"{gone[0]} is missing" + (f", and {len(gone) - 1} more" if len(gone) > 1 else "") if gone else ""


def missing_files(folder: str, packages: str) -> set[str]:
    """The files that distributions in an environment, in the folder `packages` or that of mukernel apart, list and that
    are not there, relative to its folder; but for bytecode, which Python makes by itself. Raises OSError,
    ContractError."""
    missing: set[str] = set()
    for where in (packages, os.path.join(folder, RUNTIME)):
        for name, each in distributions_in(where):
            with understood(name):
                for row in csv.reader((each.read_text("RECORD") or "").splitlines()):
                    path = os.path.join(where, row[0]) if row else where
                    if not path.endswith(".pyc") and not os.path.exists(path):
                        missing.add(os.path.relpath(path, folder))
    return missing


def distributions_in(packages: str) -> Iterator[tuple[str, Distribution]]:
    """Those that were installed into a folder, by the folders of their metadata."""
    from importlib.metadata import Distribution

    for name in sorted(os.listdir(packages)):
        if name.endswith(".dist-info"):
            yield name, Distribution.at(os.path.join(packages, name))


@contextlib.contextmanager
def understood(name: str) -> Iterator[None]:
    """What stands in the folder of metadata `name` is its author's: whatever else than OSError comes of reading it
    becomes a ContractError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ContractError(
            f"the metadata of one of its distributions, {name}, can't be read: {type(error).__name__}: "
            f"{str(error)[:200]}; wanted a wheel whose metadata can"
        ) from None


def write_record(folder: str, environment: Environment) -> None:
    for name, content in ((IN_USE, b""), (RECORD, msgspec.json.format(msgspec.json.encode(environment)))):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)


def name_place(folder: str, place: str) -> None:
    """Let the scripts of an environment, filled in `folder`, name the interpreter in `place`, where it is to be. (Those
    of uv find it beside themselves.)"""
    for each in os.scandir(os.path.join(folder, "bin")):
        if each.is_file(follow_symlinks=False):
            with open(each.path, "r+b") as file:
                content = file.read()
                if os.fsencode(folder) in content:  # as no file of a wheel has it, such as one that shares its content
                    file.seek(0)
                    file.write(content.replace(os.fsencode(folder), os.fsencode(place)))
                    file.truncate()


def site_packages(folder: str, library: str) -> str:
    """Where the distributions of an environment are: its folder for them has the name of that of its Python's standard
    `library`. A distribution may have files in one of another name."""
    found = os.path.join(folder, "lib", os.path.basename(library), "site-packages")
    if not os.path.isdir(found):
        raise NotFound(f"{folder} is no environment of Python: it has no folder {found}")
    return found


def imported_apart(folder: str, python: Python) -> list[str]:
    """Where a process of an environment imports from that nothing of the plug-in may reach: what is to enclose itself
    first. The environment's own interpreter does not do for it: that runs what .pth files say, as it starts."""
    return [python.library, os.path.join(python.library, "lib-dynload"), os.path.join(folder, RUNTIME)]


def see_packages(folder: str) -> None:
    """Let this process import all that is in an environment, as the environment's own interpreter would."""
    sys.prefix = sys.exec_prefix = folder
    site.addsitedir(site_packages(folder, os.path.dirname(os.__file__)))


def interpreter(folder: str) -> str:
    return os.path.join(folder, "bin", "python")


def seen_in(packages: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The distributions in a folder, and the plug-ins that they offer. Nothing of them is imported; what has no name or
    no version is none. Raises OSError, ContractError."""
    versions: dict[str, str] = {}
    plugins: dict[str, dict[str, str]] = {}
    for folder_name, each in distributions_in(packages):
        with understood(folder_name):
            name, version = (str(each.metadata[key] or "") for key in ("Name", "Version"))
            points = {point.name: point.value for point in each.entry_points if point.group == ENTRY_POINTS}
        if name and version:
            versions[normalised(name)] = version
            if points:
                plugins[normalised(name)] = dict(sorted(points.items()))
    return dict(sorted(versions.items())), plugins


def chosen(environment: Environment, folder: str, request: Request, distribution: str) -> Installed:
    """The plug-in that a request means. Raises ContractError where it offers none, or several."""
    points = environment.plugins.get(distribution, {})
    version = environment.distributions.get(distribution, "")
    if not points:
        raise ContractError(
            f"use = {request.use!r}: {distribution} {version} offers no plug-in; wanted an entry point of group "
            f'{ENTRY_POINTS!r} in its metadata ([project.entry-points."{ENTRY_POINTS}"] of its pyproject.toml)'
        )
    known = ", ".join(points)
    name = request.entry or (request.fallback if request.fallback in points and len(points) > 1 else "")
    if not name and len(points) > 1:
        raise ContractError(
            f"use = {request.use!r}: {distribution} {version} offers several plug-ins: {known}; say which is meant, as "
            f"in '{request.use}:{next(iter(points))}', or with `entry`"
        )
    name = name or next(iter(points))
    if name not in points:
        raise NotFound(f"use = {request.whole!r}: {distribution} {version} offers no plug-in {name!r}; it has: {known}")
    module, _, attribute = points[name].partition("[")[0].strip().partition(":")
    if not attribute:
        raise ContractError(
            f"use = {request.whole!r}: entry point {name!r} is the module {module}; wanted 'module:Class'"
        )
    return Installed(environment, folder, request, distribution, version, module, attribute, name)


class Hold:
    """Keeps an environment from being removed, by whichever process, until it is closed or this process ends. Raises
    FileNotFoundError where it has been removed. `wait`: until nobody is about to remove it; else BlockingIOError is
    raised where somebody is."""

    def __init__(self, folder: str, wait: bool = True) -> None:
        self.folder = folder
        path = os.path.join(folder, IN_USE)
        self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self.file, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
            if not self.lasts():  # while we waited for the lock
                raise FileNotFoundError(errno.ENOENT, "another environment has its name by now", path)
        except BaseException:
            self.close()
            raise

    def lasts(self) -> bool:
        """Is what it keeps still there? Who removes it by hand asks nobody, and another may have its name by now."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self.file), os.stat(os.path.join(self.folder, IN_USE)))
        return False

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


@contextlib.contextmanager
def unused(folder: str) -> Iterator[bool]:
    """Is nobody using an environment? If so, nobody can begin to, as long as the block lasts: keep it short, since
    whoever wants to waits."""
    try:
        file = os.open(os.path.join(folder, IN_USE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # so nobody could hold it
        yield True
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def is_held(folder: str) -> bool:
    """Does somebody use an environment at this moment?"""
    with unused(folder) as free:
        return not free


def size_of(folder: str) -> int:
    """Bytes of the files in a folder."""
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total
