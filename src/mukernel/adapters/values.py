"""Values: plain data as it travels to code that has no types for it, and comes out as what it was: a tuple as a tuple,
a set as a set, a path as a path. What can't come out as what it was is refused, never changed in silence."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from pathlib import Path, PosixPath
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from ..contract import ContractError
from .records import Known, fields_of, held_by, made, name_of, nothing

SCALARS = (type(None), bool, float, str, bytes)
SMALL = range(-(1 << 63), 1 << 64)  # the whole numbers that msgpack has
SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
UNORDERED = (set, frozenset)
UNCHANGING = (tuple, frozenset)
MAKERS: dict[str, Any] = {name: kind for kind, name in SEQUENCES.items()}
CLOCKS: dict[type, str] = {datetime: "datetime", time: "time"}
DEEPEST = 200  # levels of values within values
WANTED = (
    "None, bool, int, float, str, bytes, a list, tuple, set, frozenset or dict of such, a Path, a date, a datetime or "
    "time without a zone, with a fixed offset or a ZoneInfo, a timedelta, a data class, an attrs class or a member of "
    "an enum"
)
# What can change and was written before, by its id: its number, and itself, so that the id stays its own. Where it is
# met again its number is written: it comes out as one object. Within a set nothing has a number, as there is no order.
Shared = dict[int, tuple[int, object]]
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def pack(value: object, where: str, sent: dict[str, type] | None = None) -> bytes:
    """The value as bytes. `sent` gets the classes of the records in it, by name. Raises ContractError, which begins
    with `where`, for what can't travel."""
    try:
        return encode(_written(value, where, 0, {} if sent is None else sent, {}))
    except UnicodeEncodeError as error:
        raise ContractError(f"{where}: got text that is no valid Unicode: {error}") from None


def unpack(data: bytes, known: Known = nothing) -> Any:
    """What `pack` was given. `known`: the classes of records by name. Raises ContractError for bytes that it did not
    make, and what `known` raises."""
    try:
        return _read(decode(data), known, [])
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise ContractError(f"a value from another process can't be read: {type(error).__name__}: {error}") from None


def can_change(value: object) -> bool:
    """Can it be changed in place, or hold what can be?"""
    return type(value) in (list, dict, set, tuple) or fields_of(type(value)) is not None


def _written(value: Any, where: str, depth: int, sent: dict[str, type], shared: Shared | None) -> Any:
    kind = type(value)
    if kind in SCALARS:
        return value
    if shared is not None and id(value) in shared:
        return ["again", shared[id(value)][0]]
    if depth > DEEPEST:
        raise ContractError(f"{where}: values within values, {DEEPEST} levels deep, or one that holds itself")
    if kind is int:
        return value if value in SMALL else ["int", hex(value)]
    if kind is dict:
        pairs = ((key, each) for key, held in value.items() for each in (key, held))
        inner = [_written(each, f"{where}[{key!r}]", depth + 1, sent, shared) for key, each in pairs]
        return _remembered(value, ["dict", *inner], shared)
    if kind in UNORDERED:  # equal ones have another order in each process, and are the same bytes
        inner = [_written(each, f"{where}[{place}]", depth + 1, sent, None) for place, each in enumerate(value)]
        return _remembered(value, [SEQUENCES[kind], *sorted(inner, key=encode)], shared)
    if kind in SEQUENCES:
        inner = [_written(each, f"{where}[{place}]", depth + 1, sent, shared) for place, each in enumerate(value)]
        return _remembered(value, [SEQUENCES[kind], *inner], shared)
    if kind is PosixPath:
        return ["path", str(value)]
    if kind is date:
        return ["date", value.isoformat()]
    if kind in CLOCKS:
        return [CLOCKS[kind], *_clock(value, where)]
    if kind is timedelta:
        return ["timedelta", value.days, value.seconds, value.microseconds]
    fields = fields_of(kind)
    if fields is not None:
        sent[name := name_of(kind, where)] = kind
        held = zip(fields, held_by(value, fields, where), strict=True)
        inner = [_written(each, f"{where}.{key}", depth + 1, sent, shared) for key, each in held]
        return _remembered(value, ["record", name, [*fields], *inner], shared)
    if isinstance(value, Enum) and kind.__members__.get(value.name) is value:
        sent[name := name_of(kind, where)] = kind
        return ["member", name, value.name]
    raise ContractError(f"{where}: got {kind.__module__}.{kind.__qualname__}, which can't travel: wanted {WANTED}")


def _remembered(value: object, written: list[Any], shared: Shared | None) -> list[Any]:
    if shared is not None and type(value) not in UNCHANGING:
        shared[id(value)] = len(shared), value
    return written


def _clock(value: datetime | time, where: str) -> tuple[str, int, str]:
    """A point of time as its text, its `fold`, and the name of its zone, which is empty where there is none or the text
    has its offset."""
    zone = value.tzinfo
    if zone is None or (type(zone) is timezone and str(zone) == str(timezone(zone.utcoffset(None)))):
        return value.isoformat(), value.fold, ""
    if type(zone) is ZoneInfo and zone.key:
        return value.replace(tzinfo=None).isoformat(), value.fold, zone.key
    raise ContractError(
        f"{where}: got a {type(value).__name__} in the zone {zone!r}, which can't travel: wanted {WANTED}"
    )


def _clock_from(kind: Any, text: str, fold: int, zone: str) -> datetime | time:
    value: datetime | time = kind.fromisoformat(text).replace(fold=fold)
    return value.replace(tzinfo=ZoneInfo(zone)) if zone else value


def _read(written: Any, known: Known, shared: list[Any] | None) -> Any:
    if type(written) is not list:
        return written
    kind, *held = written
    if kind == "again":
        (place,) = held
        return (shared or [])[place]
    if kind in MAKERS or kind in ("dict", "record"):
        return _read_whole(kind, held, known, shared)
    if kind == "timedelta":
        return timedelta(*held)
    if kind == "member":
        name, member = held
        return getattr(known(name), "__members__", {})[member]
    if kind in CLOCKS.values():
        return _clock_from(datetime if kind == "datetime" else time, *held)
    readers: dict[str, Any] = {"int": lambda text: int(text, 16), "path": Path, "date": date.fromisoformat}
    (text,) = held
    return readers[kind](text)


def _read_whole(kind: str, held: list[Any], known: Known, shared: list[Any] | None) -> Any:
    """One that has others in it."""
    within = None if MAKERS.get(kind) in UNORDERED else shared
    if kind == "record":
        name, fields, *values = held
        record = known(name)
        value: Any = made(record, fields, [_read(each, known, within) for each in values])
    elif kind == "dict":
        values = [_read(each, known, within) for each in held]
        value = dict(zip(values[::2], values[1::2], strict=True))
    else:
        value = MAKERS[kind](_read(each, known, within) for each in held)
    if shared is not None and type(value) not in UNCHANGING:
        shared.append(value)
    return value
