"""Configuration: what a plug-in is given as settings, looked through before it travels to a process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ..contract import ContractError

DEEPEST = 100  # tables and lists in each other: what reads or sends them has no more than Python's stack
TOO_DEEP = f"lies more than {DEEPEST} tables and lists deep, wanted at most {DEEPEST}"


def checked_sendable(plugin: str, config: Mapping[str, Any]) -> None:
    """Raises ContractError for a configuration that can't travel to a process, with the key of what can't."""
    if unsendable(config) is None:
        return
    for where, each in all_within("config", config):
        if not isinstance(each, Mapping | list | tuple) and (problem := unsendable(each)) is not None:
            came = f"{each!r:.200}, of type {type(each).__name__}"
            wanted = "a str" if isinstance(each, os.PathLike) else "text, numbers, dates, and lists and dicts of them"
            raise ContractError(
                f"plug-in {plugin!r}: {where} is {came}, which can't be sent to a process: {problem}; wanted {wanted}"
            )
    raise ContractError(f"plug-in {plugin!r}: config can't be sent to a process: {unsendable(config)}")


def as_sent(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a process is given of a configuration, wherever the plug-in runs: a move is to change nothing. What can't
    travel is as it came, for a plug-in that runs inline."""
    try:
        sent: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(config))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return dict(config)
    return sent


def unsendable(value: object) -> str | None:
    """Why a value can't travel to a process; None for one that can."""
    try:
        msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return str(error)
    return None


def all_within(what: str, value: object) -> Iterator[tuple[str, object]]:
    """A value, and all within it, however deep in mappings and sequences, each with its place. Raises ContractError for
    what lies more than DEEPEST deep."""
    # A stack and not recursion, which a list in itself, refused later, would never end: each is looked at once.
    waiting, seen = [(what, value, 0)], set()
    while waiting:
        where, each, depth = waiting.pop()
        yield where, each
        if id(each) not in seen and isinstance(each, Mapping | list | tuple):
            if depth == DEEPEST:
                raise ContractError(f"{where:.60}... {TOO_DEEP}")
            seen.add(id(each))
            items = each.items() if isinstance(each, Mapping) else enumerate(each)
            waiting += [(f"{where}.{key}" if where else str(key), inner, depth + 1) for key, inner in items]
