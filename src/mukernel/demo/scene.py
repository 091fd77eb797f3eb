"""`mukernel demo`: a code search that is swapped, moved, scaled and killed under load, for you to watch.

It ends with 0 only if every call was answered, and answered rightly, and the kernel's ledger agrees.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import platform
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec

from mukernel import Clock, Kernel, MukernelError

from .answers import known_answers
from .interfaces import Index, Search
from .keep import keep_running
from .load import Load
from .picture import Picture
from .screen import Screen, screen_for
from .stage import Setting, set_up
from .story import Story
from .summary import Event, Results, Summary, calls_of, ledger_of, problems_of, table
from .watch import Watch

REFRESH = 0.2  # seconds between two pictures
GRACE = 30.0  # seconds beyond its own that the load may take, before the demo itself is given up
CALLED = ("index", "ranker", "search")  # the plug-ins that the load reaches, and whose ledgers must close
SIGNALLED = 128  # plus the signal's number: the exit status of who was ended by one
USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `main` reads."""
    parser.add_argument("folder", nargs="?", default="", help="index the Python source in this folder (default: the standard library)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, and nothing else, to standard output")
    parser.add_argument("--keep", action="store_true", help="leave it running afterwards, to play with, until Ctrl-C")
    parser.add_argument("--seconds", type=duration, default=20.0, help="how long the load goes on (default: 20)")


def duration(text: str) -> float:
    """Raises argparse.ArgumentTypeError for what is no number of seconds above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted a number of seconds above 0, such as 20")
    return seconds


def main(arguments: argparse.Namespace) -> int:
    """Run the demo. 0: every call was answered rightly; 1: not so; 2: there is nothing to index; 128 + N: signal N."""
    if arguments.folder and not os.path.isdir(arguments.folder):
        print(f"mukernel demo: FOLDER: got {arguments.folder!r}, wanted an existing folder", file=sys.stderr)
        return USAGE
    setting = Setting(folder=arguments.folder, seconds=arguments.seconds)
    return run(setting, json=arguments.json, keep=arguments.keep)


def run(setting: Setting, json: bool = False, keep: bool = False) -> int:
    """As `main`, with every setting in the caller's hand."""
    screen = screen_for(sys.stderr if json else sys.stdout)

    def show(summary: Summary) -> None:
        screen.close()
        if json:
            print(msgspec.json.format(msgspec.json.encode(summary)).decode(), flush=True)
        else:
            print("\n".join(["", *table(summary)]), flush=True)

    try:
        return asyncio.run(stopped_by_signals(play(setting, screen, show, keep)))
    except KeyboardInterrupt:
        return SIGNALLED + signal.SIGINT
    except (MukernelError, ValueError) as error:
        screen.close()
        print(f"mukernel demo: {error}", file=sys.stderr)
        return 1
    finally:
        screen.close()
