"""The plug-in that walks a folder of Python source."""

from __future__ import annotations

import asyncio
import os
import stat
import sysconfig
from pathlib import Path

from mukernel import Clock, Plugin

from .interfaces import Files, NoSuchFile, UnreadableFile, Walk

# Not the code of the folder itself: installed packages, tests, caches, environments.
SKIPPED = ("site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "node_modules")
LARGEST = 2_000_000  # bytes; a larger file is a generated table, and says nothing to a reader
LOOK = 200  # files after which a walk looks at the clock, and lets others have their turn


class FolderWalker(Plugin, Files):
    """Serves the .py files below one folder, without following links out of it. Only regular files: to open a pipe
    would wait for its writer.

    folder: where to look; empty for the standard library of the interpreter that runs it
    skip: names of folders that are left out; hidden folders and virtual environments always are
    largest: files of more bytes than this are left out

    Raises NotADirectoryError if `folder` is not a folder.
    """

    def __init__(
        self, clock: Clock, *, folder: str = "", skip: tuple[str, ...] = SKIPPED, largest: int = LARGEST
    ) -> None:
        self._clock = clock
        self._folder = Path(folder or sysconfig.get_path("stdlib")).resolve()
        if not self._folder.is_dir():
            raise NotADirectoryError(f"FolderWalker: folder is {folder!r}, wanted an existing folder")
        self._skip = frozenset(skip)
        self._largest = largest

    async def walk(self, seconds: float) -> Walk:
        found: list[str] = []
        unreadable: dict[str, str] = {}
        until, seen = self._clock.now() + seconds, 0

        def skipped(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # that one has gone since its folder was listed
                place = Path(error.filename or self._folder)
                unreadable[self._relative(place)] = f"can't be read: {error.strerror}"

        for folder, folders, files in os.walk(self._folder, onerror=skipped):
            here = Path(folder)
            # os.walk goes on with what is left in this list.
            folders[:] = [name for name in folders if self._enters(here / name)]
            for place in [here, *(here / name for name in files)]:
                seen += 1
                if seen % LOOK == 0:
                    await asyncio.sleep(0)
                    if self._clock.now() >= until:
                        return Walk(sorted(found), unreadable, False)
                try:
                    wanted = self._wants(place)
                except OSError as error:
                    skipped(error)
                    continue
                path = self._relative(place)
                if wanted and is_text(place.relative_to(self._folder)):
                    found.append(path)
                elif wanted:
                    unreadable[path] = "its name is not UTF-8"
        return Walk(sorted(found), unreadable, True)

    async def read(self, path: str) -> bytes:
        try:
            place = (self._folder / path).resolve()
            if not place.is_relative_to(self._folder):
                raise NoSuchFile(f"Files.read: path is {path!r}, wanted a path below {self._folder}")
            return content_of(place)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):  # ValueError: a null byte
            raise NoSuchFile(f"Files.read: path is {path!r}, wanted a file below {self._folder}") from None
        except OSError as error:
            raise UnreadableFile(f"Files.read: {path} can't be read: {error.strerror}") from None

    def _relative(self, place: Path) -> str:
        """The path of a file below the folder, as text: bytes that are none show as \\xNN."""
        return os.fsencode(place.relative_to(self._folder)).decode(errors="backslashreplace")

    def _enters(self, folder: Path) -> bool:
        if folder.name in self._skip or folder.name.startswith("."):
            return False
        return not os.path.lexists(folder / "pyvenv.cfg")  # False for a folder that can't be entered: os.walk says so

    def _wants(self, place: Path) -> bool:
        """Raises OSError for what can't be looked at."""
        if place.suffix != ".py":
            return False
        found = place.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size <= self._largest


def is_text(place: Path | str) -> bool:
    """Whether a path can travel as text: on Linux, a name is any bytes."""
    try:
        str(place).encode()
    except UnicodeEncodeError:
        return False
    return True


def content_of(place: Path) -> bytes:
    """The bytes of a regular file. Raises OSError; FileNotFoundError for what is no regular file."""
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for its writer
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(f"{place} is no regular file")
        return file.read()
