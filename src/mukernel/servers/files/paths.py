"""Paths: what a caller may write for one. They are checked here once, before any mount sees them."""

from __future__ import annotations

import errno
import unicodedata

LONGEST_NAME = 255  # bytes
LONGEST_PATH = 4095  # bytes
# Marks that make a name look like another one: they turn the direction of what follows.
DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def normalised(path: str) -> str:
    """An absolute path without empty parts, "." and a slash at the end.

    Raises ValueError for what is no path of ours (relative, with "..", NUL, control characters, half a character) and
    OSError (ENAMETOOLONG). Nothing else is changed: two spellings of "é" are two names, as on Linux.
    """
    if not path.startswith("/"):
        raise ValueError(f"path: got {path!r}, wanted an absolute path such as '/data/prices.csv'")
    for character in "" if path.isprintable() else path:
        if unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTIONS:
            raise ValueError(
                f"path: got {path!r}, wanted one without U+{ord(character):04X}: "
                "no NUL, control character, half a character or change of direction"
            )
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"path: got {path!r}, wanted one without '..': say where the file is, from its mount on")
    if len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in parts):
        raise OSError(
            errno.ENAMETOOLONG,
            f"path: got one of {len(path.encode())} bytes, {path[:60]!r}…: wanted at most {LONGEST_PATH}, and "
            f"{LONGEST_NAME} between two slashes",
        )
    return "/" + "/".join(parts)


def possible(path: str) -> bool:
    """Can a caller write this path for what has it?"""
    try:
        return normalised(path) == path
    except (ValueError, OSError):
        return False


def below(path: str, folder: str) -> bool:
    """Is a normalised path the folder itself, or within it?"""
    return path == folder or folder == "/" or path.startswith(folder + "/")


def joined(folder: str, name: str) -> str:
    """The normalised path of what is called `name` in a folder."""
    return f"/{name}" if folder == "/" else f"{folder}/{name}"
