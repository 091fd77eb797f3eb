"""The plug-in that walks a folder of Python source."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from mukernel import Plugin

from .interfaces import Files, NoSuchFile

# Not the code of the folder itself: installed packages, tests, caches, environments.
SKIPPED = ("site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "node_modules")
LARGEST = 2_000_000  # bytes; a larger file is a generated table, and says nothing to a reader


class FolderWalker(Plugin, Files):
    """Serves the .py files below one folder, without following links out of it.

    folder: where to look; empty for the standard library of the interpreter that runs it
    skip: names of folders that are left out; hidden folders and virtual environments always are
    largest: files of more bytes than this are left out

    Raises NotADirectoryError if `folder` is not a folder.
    """

    def __init__(self, *, folder: str = "", skip: tuple[str, ...] = SKIPPED, largest: int = LARGEST) -> None:
        self._folder = Path(folder or sysconfig.get_path("stdlib")).resolve()
        if not self._folder.is_dir():
            raise NotADirectoryError(f"FolderWalker: folder is {folder!r}, wanted an existing folder")
        self._skip = frozenset(skip)
        self._largest = largest

    async def paths(self) -> list[str]:
        found = []
        for folder, folders, files in os.walk(self._folder):
            here = Path(folder)
            # os.walk goes on with what is left in this list.
            folders[:] = [name for name in folders if self._enters(here / name)]
            found += [self._relative(here / name) for name in files if self._wants(here / name)]
        return sorted(found)

    async def read(self, path: str) -> bytes:
        place = (self._folder / path).resolve()
        if not place.is_relative_to(self._folder):
            raise NoSuchFile(f"Files.read: path is {path!r}, wanted a path below {self._folder}")
        try:
            return place.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NoSuchFile(f"Files.read: path is {path!r}, wanted a file below {self._folder}") from None

    def _relative(self, place: Path) -> str:
        return place.relative_to(self._folder).as_posix()

    def _enters(self, folder: Path) -> bool:
        if folder.name in self._skip or folder.name.startswith("."):
            return False
        return not (folder / "pyvenv.cfg").exists()

    def _wants(self, place: Path) -> bool:
        if place.suffix != ".py" or place.is_symlink():
            return False
        try:
            return place.stat().st_size <= self._largest
        except FileNotFoundError:  # gone since the folder was listed
            return False
