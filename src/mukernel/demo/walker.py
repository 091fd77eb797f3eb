"""The plug-in that walks a folder of Python source."""

from __future__ import annotations

import asyncio
import os
import stat
import sysconfig
from collections import Counter
from pathlib import Path

from mukernel import Clock, Plugin

from .interfaces import Files, NoSuchFile, UnreadableFile, Walk

# Not the code of the folder itself, by the names of folders that hold it.
LEFT_OUT = {
    **dict.fromkeys(("site-packages", "dist-packages", "node_modules"), "folders of installed packages"),
    **dict.fromkeys(("test", "tests", "idle_test"), "folders of tests"),
}
COMPILED = "__pycache__"  # holds no source: nobody misses it, so it is not counted
SKIPPED = (*LEFT_OUT, COMPILED)
LARGEST = 2_000_000  # bytes; a larger file is a generated table, and says nothing to a reader
LOOK = 200  # files after which a walk looks at the clock, and lets others have their turn


class FolderWalker(Plugin, Files):
    """Serves the .py files below one folder, without following links out of it. Only regular files: to open a pipe
    would wait for its writer.

    folder: where to look; empty for the standard library of the interpreter that runs it
    skip: names of folders that are left out; hidden folders and virtual environments always are
    largest: files of more bytes than this are left out

    What is left out is counted, by the reason.

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
        left_out: Counter[str] = Counter()
        until, seen = self._clock.now() + seconds, 0

        def skipped(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # that one has gone since its folder was listed
                place = Path(error.filename or self._folder)
                unreadable[self._relative(place)] = f"can't be read: {error.strerror}"

        for folder, folders, files in os.walk(self._folder, onerror=skipped):
            here = Path(folder)
            reasons = {name: self._left_out(here / name) for name in folders}
            left_out.update(reason for name, reason in reasons.items() if reason and name != COMPILED)
            folders[:] = [name for name in folders if not reasons[name]]  # os.walk goes on with what is left in it
            for place in [here, *(here / name for name in files)]:
                seen += 1
                if seen % LOOK == 0:
                    await asyncio.sleep(0)
                    if self._clock.now() >= until:
                        return Walk(sorted(found), unreadable, False, left_out)
                if place.suffix != ".py":
                    continue
                try:
                    reason = self._not_read(place)
                except OSError as error:
                    skipped(error)
                    continue
                path = self._relative(place)
                if reason:
                    left_out[reason] += 1
                elif is_text(place.relative_to(self._folder)):
                    found.append(path)
                else:
                    unreadable[path] = "its name is not UTF-8"
        return Walk(sorted(found), unreadable, True, left_out)

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

    def _left_out(self, folder: Path) -> str:
        """Why a folder is not entered, in words for many of its kind; empty for one that is."""
        if folder.name in self._skip:
            return LEFT_OUT.get(folder.name, f"folders named {folder.name}")
        if folder.name.startswith("."):
            return "hidden folders"
        if folder.is_symlink():
            return "links"
        # False for a folder that can't be entered: os.walk says so.
        return "virtual environments" if os.path.lexists(folder / "pyvenv.cfg") else ""

    def _not_read(self, file: Path) -> str:
        """Why a file is not read, as above. Raises OSError for what can't be looked at."""
        found = file.lstat()
        if stat.S_ISLNK(found.st_mode):
            return "links"
        if not stat.S_ISREG(found.st_mode):
            return "what is no regular file"
        return f"files above {self._largest:,} bytes" if found.st_size > self._largest else ""


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
