"""Statements: what is known of one from how it begins."""

from __future__ import annotations

import re

CONTROL = re.compile(r"(begin|commit|rollback|savepoint|release|end|abort|start|prepare)\b", re.IGNORECASE)
NEXT_WORD = re.compile(r"transaction\b", re.IGNORECASE)
SPACE = re.compile(r"(?:[\s;\ufeff]|--[^\n\r]*)*")


def controls_transaction(statement: str, nested: bool) -> str | None:
    """The first words of a statement that begins or ends a transaction or a part of one; None for any other.
    `nested`: comments of this database lie within one another."""
    at = skipped(statement, 0, nested)
    found = CONTROL.match(statement, at)
    if found is None:
        return None
    word = found[1].lower()
    if word in ("start", "prepare"):  # `prepare name as …` is none
        if NEXT_WORD.match(statement, skipped(statement, found.end(), nested)) is None:
            return None
        word += " transaction"
    return word


def skipped(statement: str, at: int, nested: bool) -> int:
    """Where the first word is, from `at` on: behind space and comments."""
    while True:
        space = SPACE.match(statement, at)
        assert space is not None
        at = space.end()
        if not statement.startswith("/*", at):
            return at
        depth, at = 1, at + 2
        while depth:
            mark = re.compile(r"\*/|/\*" if nested else r"\*/").search(statement, at)
            if mark is None:
                return len(statement)
            depth, at = depth + (1 if mark[0] == "/*" else -1), mark.end()
