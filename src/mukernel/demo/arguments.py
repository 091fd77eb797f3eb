"""What `mukernel demo` is asked for: its arguments, and what of them can't be done."""

from __future__ import annotations

import argparse
import os

from .walker import is_text

LONGEST = 86400.0  # seconds that the load may go on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `main` reads."""
    parser.add_argument(
        "folder",
        nargs="?",
        help="index the Python source in this folder, for 25 seconds at most (default: the standard library)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the summary as JSON, and nothing else, to standard output"
    )
    parser.add_argument("--keep", action="store_true", help="leave it running afterwards, to play with, until Ctrl-C")
    parser.add_argument("--seconds", type=duration, default=20.0, help="how long the load goes on (default: 20)")


def duration(text: str) -> float:
    """Raises argparse.ArgumentTypeError for what is no number of seconds above 0, up to LONGEST."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        wanted = f"a number of seconds above 0, such as 20, and at most {LONGEST:.0f}"
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted {wanted}")
    return seconds


def problem_of(folder: str) -> str | None:
    """Why there is nothing to index in what was given as FOLDER; None for a folder that can be looked at."""
    if not folder:
        return "got '', wanted an existing folder; without FOLDER the standard library is indexed"
    if not is_text(folder):
        return f"got {folder!a}, wanted a path in UTF-8"
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte
        return f"got {folder!r}, wanted an existing folder"
    except OSError as error:
        return f"got {folder!r}, which can't be read: {error.strerror}"
    return None
