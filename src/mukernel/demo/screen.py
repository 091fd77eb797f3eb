"""Where the demo is seen: redrawn in place on a terminal, as plain lines anywhere else."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from itertools import zip_longest
from typing import Protocol, TextIO

from mukernel.core.stack import printable

from .load import Rates
from .picture import Line, Picture, clipped, laid_out
from .summary import MS, Event, Results, event_line, shortened

ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, no cursor
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME, TO_END_OF_LINE, TO_END_OF_SCREEN, PLAIN = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[0m"
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
STATUS_EVERY = 5.0  # seconds between two lines of status, without a terminal
PROGRESS_EVERY = 0.25  # of the files


class Screen(Protocol):
    """Shows the demo. `draw` is called several times a second, the others when something has happened."""

    def draw(self, picture: Picture) -> None: ...
    def happened(self, event: Event) -> None: ...
    def compared(self, results: Results) -> None: ...
    def noted(self, text: str) -> None: ...
    def close(self) -> None: ...


def screen_for(stream: TextIO, environment: Mapping[str, str] = os.environ) -> Screen:
    """A live picture where `stream` is a terminal that can show one, else plain lines."""
    if stream.isatty() and environment.get("TERM", "") not in ("", "dumb"):
        return LiveScreen(stream, colours=not environment.get("NO_COLOR"))
    return PlainLines(stream)


def shown_text(text: str) -> str:
    """The lines of a text, without what a terminal would obey: names of files are whatever somebody gave them."""
    return "\n".join(printable(line) for line in text.split("\n"))


class LiveScreen:
    """A terminal. What it showed before is there again after `close`."""

    def __init__(self, stream: TextIO, colours: bool) -> None:
        self.stream, self.colours, self.open = stream, colours, False

    def draw(self, picture: Picture) -> None:
        width, height = size_of(self.stream)
        lines = [self.painted(clipped(line, width)) for line in laid_out(picture, height)]
        start = "" if self.open else ENTER
        self.open = True
        body = f"{TO_END_OF_LINE}\r\n".join(lines)
        self.write(f"{start}{HOME}{body}{TO_END_OF_LINE}{TO_END_OF_SCREEN}")

    def painted(self, line: Line) -> str:
        shown = [(printable(text), style if self.colours else "") for text, style in line]
        return "".join(f"\x1b[{STYLES[style]}m{text}{PLAIN}" if style else text for text, style in shown)

    def happened(self, event: Event) -> None:
        """It is in the next picture."""

    def compared(self, results: Results) -> None:
        """They are in the next picture."""

    def noted(self, text: str) -> None:
        """Its title says it."""

    def close(self) -> None:
        if self.open:
            self.open = False
            self.write(LEAVE)

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone shows nothing; SIGHUP says so to whom it concerns
            self.stream.write(text)
            self.stream.flush()


def size_of(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of a terminal, as they are at this moment."""
    try:
        width, height = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        width = height = 0
    if width and height:
        return width, height
    width, height = shutil.get_terminal_size()  # as the environment has it, else 80 by 24
    return width, height


class PlainLines:
    """A pipe, a file, a log: each event as it happens, and now and then how the load is doing."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.next_status, self.next_progress = STATUS_EVERY, 0.0

    def draw(self, picture: Picture) -> None:
        if picture.progress is not None:
            done, total = picture.progress
            if total and done / total >= self.next_progress:
                self.next_progress = done / total + PROGRESS_EVERY if done < total else 2.0
                self.write(f"indexing: {done:,} of {total:,} files")
        elif picture.elapsed >= self.next_status and picture.account.made:
            self.next_status = picture.elapsed + STATUS_EVERY
            self.write(self.status(picture.rates, picture))

    def status(self, rates: Rates, picture: Picture) -> str:
        account = picture.account
        bad = account.wrong + account.hung + account.failed.total()
        return (
            f"        {rates.calls:,.0f} calls/s, p50 {rates.p50 * MS:.1f} ms, p99 {rates.p99 * MS:.1f} ms;"
            f" {account.made:,} made, {bad} wrong, failed or hung"
        )

    def happened(self, event: Event) -> None:
        self.write(event_line(event))

    def compared(self, results: Results) -> None:
        self.write(f"        results of {results.query!r}")
        for before, after in zip_longest(results.before, results.after, fillvalue=""):
            self.write(f"          {shortened(before, 42):<42} → {shortened(after, 42)}")

    def noted(self, text: str) -> None:
        self.write(text)

    def close(self) -> None:
        """Nothing to put back."""

    def write(self, line: str) -> None:
        self.stream.write(printable(line) + "\n")
        self.stream.flush()
