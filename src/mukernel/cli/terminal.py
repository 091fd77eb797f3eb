"""Terminal: text for people, in colour where a terminal reads it, and tables."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import msgspec

COLOURS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}
STATE_COLOURS = {
    "serving": "green", "stopped": "dim", "failed": "red", "crashed": "red", "not answering": "red",
}  # fmt: skip
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# What a terminal obeys, but for new lines, tabs and colours: it could set the window's title, fill the clipboard, write
# over what stands there, or let text run backwards.
_OBEYED = re.compile("\x1b\\[[0-9;]{0,40}m|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_RESET = "\x1b[0m"


class UsageError(Exception):
    """The command line can't be understood; the message says what was wanted."""


class Terminal:
    """Writes to one stream. `colour`: only where a terminal reads it, and NO_COLOR is not set."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        self.colour = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.colour and text and colour else text

    def state(self, state: str) -> str:
        return self.paint(state, STATE_COLOURS.get(state, "yellow"))

    def say(self, text: str = "", end: str = "\n") -> None:
        """One line, at once. What plug-ins have said is in it, and a terminal is kept from obeying that."""
        try:
            print(harmless(text) if self.is_terminal else text, file=self.stream, flush=True, end=end)
        except OSError as error:
            error.filename = self.stream.name  # the system does not say what it refused
            raise

    def say_at_the_end(self, text: str, status: int) -> int:
        """The result of a command that has done its work; returns its exit `status`, be there a reader or not."""
        with contextlib.suppress(BrokenPipeError):
            self.say(text)
        return status

    def say_if_heard(self, text: str) -> None:
        """For what goes on though whoever read our output is gone, or has a full disk."""
        with contextlib.suppress(OSError):
            self.say(text)

    def say_from_signal(self, text: str) -> None:
        """One line from a signal's handler: past the stream's buffer, which the handler may have interrupted, and not
        at all where that would have to wait for a reader."""
        with contextlib.suppress(OSError, ValueError):  # whoever read our output may be gone
            poll = select.poll()
            poll.register(self.stream.fileno(), select.POLLOUT)
            if poll.poll(0):
                os.write(self.stream.fileno(), f"{text}\n".encode())

    def complain(self, problem: str) -> None:
        self.say(f"{self.paint('mukernel:', 'red')} {problem}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
        """Columns under a header; those named in `right` are set to the right."""
        cells = [list(header), *[list(row) for row in rows]]
        widths = [max(visible(row[column]) for row in cells) for column in range(len(header))]
        lines = []
        for number, row in enumerate(cells):
            line = "  ".join(
                pad(cell, width, title in right) for cell, width, title in zip(row, widths, header, strict=True)
            ).rstrip()
            lines.append(self.paint(line, "bold") if number == 0 else line)
        return "\n".join(lines)


def harmless(text: str) -> str:
    """A text in which a terminal finds nothing to obey but colours, which end with it."""
    shown = _OBEYED.sub(lambda found: found[0] if len(found[0]) > 1 else "?", text.replace("\r\n", "\n"))
    return shown + _RESET if "\x1b" in shown and not shown.endswith(_RESET) else shown


def visible(text: str) -> int:
    """How many columns a text takes, colours left out."""
    return len(_ESCAPE.sub("", text))


def pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - visible(text))
    return space + text if right else text + space


def as_json(value: Any) -> str:
    """Any value that an interface can carry, as one line of JSON."""
    return msgspec.json.encode(value, enc_hook=plainer).decode()


def plainer(value: Any) -> Any:
    """What JSON has no form for: arrays as lists, all else as its text."""
    tolist = getattr(value, "tolist", None)
    return tolist() if tolist is not None else str(value)
