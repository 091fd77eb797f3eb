"""Values: plain data as it travels to code that has no types for it, and comes out as what it was: a tuple as a tuple,
a set as a set, a path as a path. What can't come out as what it was is refused, never changed in silence."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path, PosixPath
from typing import Any

import msgspec

from ..contract import ContractError

SCALARS = (type(None), bool, float, str, bytes)
SMALL = range(-(1 << 63), 1 << 64)  # the whole numbers that msgpack has
SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
MAKERS: dict[str, Any] = {name: kind for kind, name in SEQUENCES.items()}
TEXTS: dict[type, str] = {datetime: "datetime", date: "date", time: "time"}
DEEPEST = 200  # levels of values within values
WANTED = (
    "None, bool, int, float, str, bytes, a list, tuple, set, frozenset or dict of such, a Path, or a date, time or "
    "timedelta"
)
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def pack(value: object, where: str) -> bytes:
    """The value as bytes. Raises ContractError, which begins with `where`, for what can't travel."""
    try:
        return encode(_written(value, where, 0))
    except UnicodeEncodeError as error:
        raise ContractError(f"{where}: got text that is no valid Unicode: {error}") from None


def unpack(data: bytes) -> Any:
    """What `pack` was given. Raises ContractError for bytes that it did not make."""
    try:
        return _read(decode(data))
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise ContractError(f"a value from another process can't be read: {type(error).__name__}: {error}") from None


def _written(value: Any, where: str, depth: int) -> Any:
    kind = type(value)
    if kind in SCALARS:
        return value
    if depth > DEEPEST:
        raise ContractError(f"{where}: values within values, {DEEPEST} levels deep, or one that holds itself")
    if kind is int:
        return value if value in SMALL else ["int", str(value)]
    if kind is dict:
        return [
            "dict",
            *(
                _written(each, f"{where}[{key!r}]", depth + 1)
                for key, held in value.items()
                for each in (key, held)
            ),
        ]  # fmt: skip
    if kind in SEQUENCES:
        return [SEQUENCES[kind], *(_written(each, f"{where}[{place}]", depth + 1) for place, each in enumerate(value))]
    if kind is PosixPath:
        return ["path", str(value)]
    if kind in TEXTS:
        return [TEXTS[kind], value.isoformat()]
    if kind is timedelta:
        return ["timedelta", value.days, value.seconds, value.microseconds]
    raise ContractError(f"{where}: got {kind.__module__}.{kind.__qualname__}, which can't travel: wanted {WANTED}")


def _read(written: Any) -> Any:
    if type(written) is not list:
        return written
    kind, *held = written
    if kind == "dict":
        values = [_read(each) for each in held]
        return dict(zip(values[::2], values[1::2], strict=True))
    if kind in MAKERS:
        return MAKERS[kind](_read(each) for each in held)
    if kind == "timedelta":
        return timedelta(*held)
    readers: dict[str, Any] = {
        "int": int, "path": Path,
        "datetime": datetime.fromisoformat, "date": date.fromisoformat, "time": time.fromisoformat,
    }  # fmt: skip
    (text,) = held
    return readers[kind](text)
