"""Topics such as `orders.eu.created`, and patterns over them: `*` stands for one token, a last `>` for one or more."""

from __future__ import annotations

import re

from ...contract import ContractError

LONGEST = 255  # characters of a topic or a pattern
_TOKEN = re.compile(r"[^\s.*>\x00-\x1f\x7f\ud800-\udfff]+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_topic(topic: str) -> None:
    """Raises ContractError for what is no topic, with what was wanted."""
    if not topic or len(topic) > LONGEST or not all(map(_TOKEN.fullmatch, topic.split("."))):
        raise ContractError(
            f"topic: got {topic!r}, wanted tokens that are joined by dots, without spaces and wildcards, such as "
            f"'orders.created', of at most {LONGEST} characters"
        )


def check_pattern(pattern: str, where: str = "pattern") -> None:
    """Raises ContractError for what is no pattern, with what was wanted; `where` names the field."""
    tokens = pattern.split(".")
    body = tokens[:-1] if tokens[-1] == ">" else tokens
    if len(pattern) > LONGEST or not all(token == "*" or _TOKEN.fullmatch(token) for token in body):
        raise ContractError(
            f"{where}: got {pattern!r}, wanted a topic in which '*' may stand for one token and a last '>' for all "
            "that follow, such as 'orders.*.created' or 'orders.>'"
        )


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def check_name(name: str, where: str) -> None:
    """Raises ContractError for what can't name a stream or a group: it is the name of a file, too."""
    if not is_name(name):
        raise ContractError(f"{where}: got {name!r}, wanted 1 to 64 letters, digits, '-' and '_'")


def matches(pattern: str, topic: str) -> bool:
    """Does a topic fall under a pattern?"""
    return covers(pattern, topic)


def covers(wide: str, narrow: str) -> bool:
    """Does every topic that falls under `narrow`, a pattern or a topic, fall under `wide`, too?"""
    ours, theirs = wide.split("."), narrow.split(".")
    for position, token in enumerate(ours):
        if token == ">":
            return len(theirs) > position
        if position >= len(theirs) or theirs[position] == ">" or token not in ("*", theirs[position]):
            return False
    return len(ours) == len(theirs)


def overlap(one: str, other: str) -> bool:
    """Is there a topic that falls under both patterns?"""
    ours, theirs = one.split("."), other.split(".")
    for mine, yours in zip(ours, theirs, strict=False):
        if mine == ">" or yours == ">":
            return True
        if mine != yours and "*" not in (mine, yours):
            return False
    return len(ours) == len(theirs)


def scope_of(topics: str) -> str:
    """A topic or a pattern as the scope of a grant holds it: a path, `orders/eu/created`, whose wildcards are steps
    as any other. A "/" within a token is written "%2F", so that no topic lies in a scope that is not meant."""
    return "/".join(token.replace("%", "%25").replace("/", "%2F") for token in topics.split("."))
