"""Arguments: what is typed as NAME=VALUE, converted by the description of the method that is called."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from ..contract import Description, MethodDescription, ObjectDescription, TypeDescription, type_text
from .describe import signature
from .terminal import UsageError

_NAMED = re.compile(r"([A-Za-z_]\w*)(:?=)(.*)", re.DOTALL)
# These travel as text: by which type it is checked, and an example of it.
TEXTS: dict[str, tuple[type, str]] = {
    "str": (str, ""),
    "datetime": (datetime, "2026-01-31T12:30:00Z"),
    "date": (date, "2026-01-31"),
    "time": (time, "12:30:00"),
    "timedelta": (timedelta, "PT90S"),
    "UUID": (UUID, "4e6f2c9a-0b1d-4c3e-8f5a-6b7c8d9e0f1a"),
    "Decimal": (Decimal, "9.99"),
}
NUMBERS: dict[str, type] = {"int": int, "float": float, "bool": bool}


class Unsendable(ValueError):
    """A value that no message can carry; the text says what was wanted."""


def read_arguments(given: Sequence[str], interface: Description, method: MethodDescription) -> dict[str, Any]:
    """By parameter. NAME=VALUE, NAME:=JSON, or VALUE by position. Raises UsageError that shows the
    signature."""
    known = {each.name: each.type for each in method.parameters}
    where = f"{interface.name}.{signature(method)}"
    by_name = [each.name for each in method.parameters if each.keyword_only]
    by_position = iter([each.name for each in method.parameters if not each.keyword_only])
    values: dict[str, Any] = {}
    for text in given:
        found = _NAMED.fullmatch(text)
        name = found[1] if found else next(by_position, "")
        if name not in known:
            what = f"parameter {name!r} is unknown" if found else f"{text!r} is one argument too many"
            hint = "" if found or not by_name else f"; by name only: {', '.join(f'{each}=VALUE' for each in by_name)}"
            raise UsageError(f"{where}: {what}; wanted {', '.join(known) or 'no arguments'}{hint}")
        if name in values:
            raise UsageError(f"{where}: parameter {name!r} came twice")
        shown, as_json = (found[3], found[2] == ":=") if found else (text, False)
        try:
            value = msgspec.json.decode(shown) if as_json else converted(shown, known[name])
            values[name] = sendable(with_keys(value, known[name], interface.types))
        except Unsendable as wanted:
            raise UsageError(f"{where}: parameter {name!r}: got {shown!r}, wanted {wanted}") from None
        except (ValueError, msgspec.DecodeError, RecursionError):
            wanted_type = "JSON" if as_json else type_text(known[name])
            if not as_json and (example := TEXTS.get(known[name].kind, (str, ""))[1]):
                wanted_type += f", such as {example}"
            raise UsageError(f"{where}: parameter {name!r}: got {shown!r}, wanted {wanted_type}") from None
    missing = [each for each in method.parameters if each.required and each.name not in values]
    if missing:
        names = ", ".join(f"{each.name} ({type_text(each.type)})" for each in missing)
        raise UsageError(f"{where}: missing: {names}; give each as NAME=VALUE")
    return values


def sendable(value: Any) -> Any:
    """The value itself. Raises Unsendable: the control interface would be blamed for what was typed."""
    try:
        msgspec.msgpack.encode(value)
    except UnicodeEncodeError:  # bytes of the command line that are no text came as surrogates
        raise Unsendable("text in UTF-8") from None
    except OverflowError:
        raise Unsendable("whole numbers of at most 64 bits") from None
    return value


def converted(text: str, described: TypeDescription) -> Any:
    """A value of the described type. Raises ValueError or msgspec.DecodeError."""
    kind = described.kind
    if kind in TEXTS:
        if kind != "str":
            msgspec.convert(text, TEXTS[kind][0])
        return text
    if kind in ("bytes", "bytearray", "memoryview", "Buffer"):
        return text.encode(errors="surrogateescape")  # any byte that was typed, text or not
    if kind == "union":
        return one_of(text, described.arguments)
    if kind in ("enum", "Literal"):
        return one_value(text, described.detail)
    if kind == "Any":
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    if kind == "bool" and text.lower() in ("true", "false", "yes", "no"):
        return text.lower() in ("true", "yes")
    if kind == "float" and text.lower().lstrip("+-") in ("inf", "infinity", "nan"):  # JSON has no word for these
        return float(text)
    value = msgspec.json.decode(text)
    if kind in NUMBERS:
        return msgspec.convert(value, NUMBERS[kind])
    if kind == "None" and value is not None:
        raise ValueError("not null")
    return value


def with_keys(value: Any, described: TypeDescription, objects: Mapping[str, ObjectDescription]) -> Any:
    """A value that came as JSON, where keys are text, with keys of the types that the description says. Raises
    ValueError or msgspec.DecodeError."""
    kind, inner = described.kind, described.arguments
    if kind == "union":
        for member in inner:
            with contextlib.suppress(ValueError, msgspec.DecodeError):
                found = with_keys(value, member, objects)
                if found != value:
                    return found
        return value
    if isinstance(value, dict):
        if kind == "dict":
            return {converted_key(key, inner[0]): with_keys(each, inner[1], objects) for key, each in value.items()}
        if described.reference:
            fields = {each.name: each.type for each in objects[described.reference].fields}
            return {
                key: with_keys(each, fields[key], objects) if key in fields else each for key, each in value.items()
            }
    if isinstance(value, list):
        if described.reference:
            inner = tuple(each.type for each in objects[described.reference].fields)
        elif kind != "tuple":
            inner = inner * len(value)
        if len(inner) == len(value):
            return [with_keys(each, member, objects) for each, member in zip(value, inner, strict=True)]
    return value


def converted_key(key: str, described: TypeDescription) -> Any:
    """Raises ValueError or msgspec.DecodeError."""
    found = converted(key, described)
    return tuple(found) if isinstance(found, list) else found


def one_value(text: str, known: str) -> Any:
    """The value among those that a description lists: text, else JSON. Raises ValueError, msgspec.DecodeError."""
    values = ast.literal_eval(f"({known},)")
    if text in values:
        return text
    value = msgspec.json.decode(text)
    if value not in values:
        raise ValueError("not one of them")
    return value


def one_of(text: str, members: Sequence[TypeDescription]) -> Any:
    """The first member that fits; text last, since everything is text."""
    for member in sorted(members, key=lambda each: each.kind in TEXTS):
        try:
            return None if member.kind == "None" and text == "null" else converted(text, member)
        except (ValueError, msgspec.DecodeError):
            continue
    raise ValueError("fits no member")
