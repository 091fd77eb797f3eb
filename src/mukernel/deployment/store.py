"""Store: the folder in which one application keeps the environments of its plug-ins, and what it knows of them.

Whatever takes long is made under another name and renamed when it is whole, so nobody finds half of it. One process at
a time changes the store: it holds the lock on the file `lock`, which goes with it however it ends, and clears first
what a predecessor left half made.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..contract import NotFound, Unavailable
from .environment import Environment, damage_in, is_held, read_environment, unused
from .work import Work

UNFINISHED = ".unfinished-"  # how the names of folders begin that are being made, or removed
READ_ONLY = (errno.EROFS, errno.EACCES)


class Failure(msgspec.Struct):
    """Why something could not be installed the last time. `wheels`, `only_wheels`: what the installer was told then, as
    another word may mend it."""

    use: str
    python: str
    reason: str
    wheels: tuple[str, ...] = ()
    only_wheels: bool = False


class Notes(msgspec.Struct):
    """What the store remembers. `environments`: for what was asked for (`use`, Python, by which lock file), the name of
    the environment; `failures`: of what could not be installed, why, with its entry; `askers`: for each environment,
    the lock files of the applications that asked for it, as several may have the same name."""

    environments: dict[str, str] = {}
    failures: dict[str, Failure] = {}
    askers: dict[str, list[str]] = {}


class Store:
    """The folders `environments`, `wheels` (built here), `tools` (pip, Cython) and the file `notes.json`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).resolve()  # a sandbox sees an environment by its own path
        self.environments, self.wheels, self.tools = (
            self.folder / name for name in ("environments", "wheels", "tools")
        )

    @contextlib.contextmanager
    def locked(self, work: Work, *, if_writable: bool = False) -> Iterator[None]:
        """Be the one that changes the store; waits for another that does. `if_writable`: where it can't be written to,
        as in the image of a container, there is nothing to keep from others, and what it has may do. Raises Cancelled,
        Unavailable."""
        self.make_folders()
        try:
            file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            if not if_writable:
                raise Unavailable(self.unwritable(error)) from None
            file = -1
        if file < 0:
            yield
            return
        try:
            told = False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        owner = os.pread(file, 20, 0).decode(errors="replace").strip()
                        work.say(f"waiting for process {owner or '?'}, which is installing in {self.folder}")
                        told = True
                    work.pause()
            os.ftruncate(file, 0)
            with contextlib.suppress(OSError):  # a full disk: who waits is not told for whom
                os.pwrite(file, str(os.getpid()).encode(), 0)
            self.clear()
            yield
        finally:
            os.close(file)

    def unwritable(self, error: OSError) -> str:
        """What to do where the system lets nobody write into the store."""
        return (
            f"{self.folder} can't be written to ({error.strerror}); wanted a folder that can be: do this where it is "
            "writable, as when an image is built, or name another with --state"
        )

    def make_folders(self) -> None:
        """Raises Unavailable where they can't be made, or belong to somebody else, whose code would be run."""
        try:
            for folder in (self.folder, self.environments, self.wheels, self.tools):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = os.lstat(folder)
                if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
                    linked = stat.S_ISLNK(found.st_mode)
                    mode = "a symbolic link" if linked else f"mode {stat.S_IMODE(found.st_mode):04o}"
                    raise Unavailable(
                        f"{folder} is not a folder that only you may write to (owner {found.st_uid}, {mode}); wanted "
                        "one, since what lies in it is run"
                    )
        except OSError as error:
            raise Unavailable(f"environments can't be kept in {self.folder}: {error.strerror}") from None

    def clear(self) -> None:
        """Remove what a predecessor, who is dead, was making or removing."""
        for folder in (self.environments, self.wheels, self.tools):
            for name in os.listdir(folder):
                if name.startswith(UNFINISHED):
                    shutil.rmtree(folder / name, ignore_errors=True)

    @contextlib.contextmanager
    def making(self, folder: Path) -> Iterator[str]:
        """A new folder to fill. It is `folder` when the block ends, and nothing is left of it where that raises."""
        unfinished = tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent)
        try:
            yield unfinished
            write_through(unfinished)
            os.rename(unfinished, folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """A folder of which nothing is left when the block ends, or when the next one finds it."""
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self.tools, ignore_cleanup_errors=True) as folder:
            yield folder

    def has_wheel(self, folder: Path) -> bool:
        """Is there a folder with a whole wheel? One that has been damaged is removed, so that it can be made anew."""
        whole = zipfile.is_zipfile(wheel_in(folder))
        if not whole and folder.exists() and os.access(folder.parent, os.W_OK):
            self.remove(folder)
        return whole

    def remove(self, folder: Path) -> None:
        """Remove a folder: it is not there any more at once, and is cleared away then."""
        shutil.rmtree(self.set_aside(folder), ignore_errors=True)

    def remove_unused(self, name: str) -> bool:
        """Remove an environment; False where somebody uses it, who may have begun to a moment ago."""
        with unused(self.path(name)) as free:
            if not free:
                return False
            aside = self.set_aside(self.environments / name)
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def set_aside(self, folder: Path) -> str:
        """Let a folder not be there any more; returns the one that is to be cleared away."""
        unfinished = tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent)
        os.rename(folder, os.path.join(unfinished, "removed"))
        return unfinished

    def path(self, name: str) -> str:
        return str(self.environments / name)

    def names(self) -> list[str]:
        """Of all that lies where environments do, whole or damaged."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(each for each in os.listdir(self.environments) if not each.startswith(UNFINISHED))
        return []

    def find(self, name: str) -> Environment | None:
        """The environment of that name; None where there is none, or none that is whole."""
        try:
            return read_environment(self.path(name))
        except NotFound:
            return None

    def damage(self, name: str) -> str:
        """Why an environment is not whole; "" where it is. `find` looks only whether it is there."""
        return damage_in(self.path(name))

    def all(self) -> list[Environment]:
        """Every environment that is there, by name."""
        return [found for name in self.names() if (found := self.find(name)) is not None]

    def is_held(self, name: str) -> bool:
        return is_held(self.path(name))

    # -- what it remembers ----------------------------------------------------------------------------------------

    def notes(self) -> Notes:
        try:
            return msgspec.json.decode((self.folder / "notes.json").read_bytes(), type=Notes)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # none yet; they only save work
            return Notes()

    def write_notes(self, notes: Notes) -> None:
        write_whole(self.folder / "notes.json", msgspec.json.format(msgspec.json.encode(notes)))


def write_through(folder: str) -> None:
    """Let all of the file system that a folder is in be on its disk: after a power cut the name of what is whole must
    not be that of empty files. One by one, each file would take as long."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(opened):
            raise OSError(error := ctypes.get_errno(), os.strerror(error))
    finally:
        os.close(opened)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, never a part."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def default_folder(name: str) -> Path:
    """Where an application keeps its environments, unless it is told: they are to outlive a restart of the machine,
    which its sockets and logs need not."""
    state: Any = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state, "mukernel", name)


def wheel_in(folder: Path) -> str:
    """The wheel in a folder of one wheel; "" where there is none."""
    return next(map(str, folder.glob("*.whl")), "")
