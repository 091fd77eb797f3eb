"""The texts of exceptions as they travel: what they say, and their tracebacks, cut where they are long."""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Sequence

LONGEST = 1 << 20  # characters of an exception's text, and of its traceback
SHOWN = 1000  # characters of each text in a traceback that would be longer
LONGEST_CHAIN = 100  # exceptions in such a traceback
HEAD = "Traceback (most recent call last):"
CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"


def trace_of(error: BaseException) -> str:
    """The traceback, as Python prints it. Where that is long, since it copies the texts several times: each of them cut
    to SHOWN characters."""
    if not is_long(error):
        return "".join(tracebacks.format_exception(error))
    parts: list[str] = []
    each: BaseException | None = error
    while each is not None and len(parts) < 2 * LONGEST_CHAIN:
        stack = "".join(tracebacks.format_tb(each.__traceback__))
        parts.append(f"{HEAD}\n{stack}{type(each).__qualname__}: {text_of(each, SHOWN)}\n")
        cause = each.__cause__
        parts.append(CAUSED if cause is not None else DURING)
        each = cause if cause is not None or each.__suppress_context__ else each.__context__
    return "".join(reversed(parts[:-1]))


def is_long(error: BaseException) -> bool:
    """Do the texts of an exception, of those that it came of, and of those that it groups come to more than LONGEST
    characters?"""
    left, seen = LONGEST, set[int]()
    linked: list[BaseException | None] = [error]
    while linked and left >= 0:
        each = linked.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        linked += each.__cause__, each.__context__
        if isinstance(each, BaseExceptionGroup):
            linked += each.exceptions
        try:
            left -= len(str(each)) + sum(map(len, getattr(each, "__notes__", ())))
            left -= len(each.text or "") if isinstance(each, SyntaxError) else 0
        except MemoryError:
            return True
        except KeyboardInterrupt:
            raise
        except BaseException:  # a broken __str__: Python's own printing knows what to do with it
            continue
    return left < 0


def text_of(value: object, longest: int | None = None) -> str:
    """The text of a value, cut after `longest` characters (None: LONGEST). A broken __str__, whatever it raises, or one
    for which there is no memory, must not hide the exception itself."""
    try:
        return sendable(beginning_of(str(value), LONGEST if longest is None else longest))
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        return f"<str() of it raised {type(failure).__name__}>"


def beginning_of(text: str, longest: int) -> str:
    more = len(text) - longest
    return f"{text[:longest]} [cut: {more} characters more]" if more > 0 else text


def end_of(trace: str) -> str:
    """A traceback, cut before its last LONGEST characters: what happened stands at its end."""
    more = len(trace) - LONGEST
    return sendable(f"[cut: {more} characters before]\n{trace[-LONGEST:]}" if more > 0 else trace)


def lines_of(differences: Sequence[str]) -> list[str]:
    """As many of them as LONGEST characters hold."""
    lines: list[str] = []
    left = LONGEST
    for difference in differences:
        line = text_of(difference)
        left -= len(line)
        if left < 0:
            lines.append(f"[cut: {len(differences) - len(lines)} more]")
            break
        lines.append(line)
    return lines


def sendable(text: str) -> str:
    # Lone surrogates (undecodable file names) have no UTF-8 form.
    return text.encode("utf-8", "backslashreplace").decode()
