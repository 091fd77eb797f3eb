"""Standard streams: what a command prints can be written, whatever the encoding of its output and errors is."""

from __future__ import annotations

import codecs
import io
import json
import sys

ESCAPED = "mukernel.escaped"  # the name of our error handler, as streams want it


def accept_any_text() -> None:
    """From now on what the encoding of standard output or errors lacks is written as JSON escapes it: in a result that
    is printed as JSON, too, it stands for the same text."""
    codecs.register_error(ESCAPED, escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else somebody put another in its place
            stream.reconfigure(errors=ESCAPED)


def escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""An error handler of codecs: "→" is written as "\u2192"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
