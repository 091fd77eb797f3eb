"""Values: how what a database knows travels. The same in every placement: inline nothing else is bound or returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

PLAIN = (bool, int, float, str, bytes)
LARGEST = 1 << 63  # whole numbers of the wire and of SQL

WRITERS: dict[type, tuple[str, Callable[[Any], str]]] = {
    Decimal: ("decimal", str),
    datetime: ("datetime", lambda value: value.isoformat(" ")),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("interval", lambda value: f"{value / timedelta(microseconds=1):.0f}"),
    UUID: ("uuid", str),
}
READERS: dict[str, Callable[[str], Any]] = {
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "interval": lambda text: timedelta(microseconds=int(text)),
    "uuid": UUID,
}
LIST = "[]"  # ends the kind of a column of lists, however deep they go


def read_value(kind: str, value: Any) -> Any:
    """A value of a column of this kind as it was in the database."""
    if kind.endswith(LIST) and type(value) is list:
        return [read_value(kind, each) for each in value]
    return READERS[kind.removesuffix(LIST)](value) if kind and type(value) is str else value


def written(rows: Sequence[Sequence[Any]], width: int) -> tuple[list[str], list[list[Any]]]:
    """The kinds of the columns, and the rows with nothing in them but what travels."""
    kinds = []
    for column in range(width):
        found = kinds_of([row[column] for row in rows])
        kinds.append(found.pop() if len(found) == 1 else "")
    return kinds, [[write_value(value) for value in row] for row in rows]


def kinds_of(values: Sequence[Any]) -> set[str]:
    """The kinds that there are among values; a list is of those of what is in it."""
    types = {type(each) for each in values}
    found = {WRITERS[each][0] if each in WRITERS else "" for each in types - {NoneType, list, tuple}}
    for value in values if types & {list, tuple} else ():
        if type(value) in (list, tuple):
            found |= {kind and kind.removesuffix(LIST) + LIST for kind in kinds_of(value)}
    return found


def write_value(value: Any) -> Any:
    if value is None or isinstance(value, PLAIN):
        return value if type(value) is not int or -LARGEST <= value < LARGEST else str(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return [write_value(each) for each in value]
    if isinstance(value, dict):
        return {str(key): write_value(each) for key, each in value.items()}
    kind = WRITERS.get(type(value))
    return str(value) if kind is None else kind[1](value)


def bound(statement: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as the database gets them. Raises ValueError that names the one that can't be."""
    made = {}
    for name, value in parameters.items():
        if type(value) is timedelta:
            value = f"{value / timedelta(microseconds=1):.0f} microseconds"
        value = write_value(value) if type(value) in WRITERS or isinstance(value, (bytearray, memoryview)) else value
        if not (value is None or isinstance(value, PLAIN)):
            raise ValueError(
                f"parameter {name!r} of {statement[:60]!r}: got {type(value).__name__}, wanted one value: "
                "None, a number, text, bytes, a date or time, a Decimal, a UUID"
            )
        made[name] = value
    return made
