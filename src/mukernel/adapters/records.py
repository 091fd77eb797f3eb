"""Records: objects that are their fields and nothing more (data classes, attrs classes, members of enums). They travel
by the name of their class, and come out as what they were; neither a constructor nor a setter is run for that."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any

from ..contract import ContractError

MADE_BY_PYTHON = 1 << 9  # in the __flags__ of a class that a class statement made
KEPT_BESIDE = ("__dict__", "__weakref__")  # slots that are no state
Known = Callable[[str], type]  # a class by its name; raises ContractError


def fields_of(kind: type) -> tuple[str, ...] | None:
    """The names of its fields; None for a class whose objects are, or may be, more than those."""
    own = vars(kind)
    if issubclass(kind, Enum):  # its members are known by their names
        return None
    if "__attrs_attrs__" in own:
        fields = tuple(each.name for each in own["__attrs_attrs__"])
    elif "__dataclass_fields__" in own:
        fields = tuple(each.name for each in dataclasses.fields(kind))  # type: ignore[arg-type]
    else:
        return None
    for base in kind.__mro__[:-1]:
        slots = vars(base).get("__slots__", ())
        if not base.__flags__ & MADE_BY_PYTHON or {*([slots] if isinstance(slots, str) else slots)} - {
            *fields, *KEPT_BESIDE,
        }:  # fmt: skip
            return None
    return fields


def held_by(value: Any, fields: tuple[str, ...], where: str) -> list[Any]:
    """What is in its fields. Raises ContractError for a field that is missing, and for what no field has."""
    more = vars(value).keys() - {*fields} if hasattr(value, "__dict__") else ()
    missing = [name for name in fields if not hasattr(value, name)]
    if more or missing:
        wrong = f"with {min(more)!r}, which is none of its fields" if more else f"without its field {missing[0]!r}"
        raise ContractError(f"{where}: got a {type(value).__qualname__} {wrong}: it can't travel")
    return [getattr(value, name) for name in fields]


def name_of(kind: type, where: str) -> str:
    """By which another process finds the class. Raises ContractError where it can't."""
    found: Any = sys.modules.get(kind.__module__) if kind.__module__ != "__main__" else None
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not kind:
        raise ContractError(
            f"{where}: got {kind.__module__}.{kind.__qualname__}, which another process can't import: wanted one at "
            "the top of a module that is imported by its name"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def imported(name: str) -> type:
    """A class by its name, its module imported if need be: for names from who may say what is imported here. Raises
    ContractError."""
    module, _, attribute = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not is_record(found):
        raise ContractError(f"{name} is no data class, attrs class or enum here: is its package of another version?")
    return found


def nothing(name: str) -> type:
    raise ContractError(f"got a {name}, which is not expected here")


def one_of(known: dict[str, type], where: str) -> Known:
    """For names from who is not trusted: these classes and no others."""

    def found(name: str) -> type:
        if name not in known:
            raise ContractError(
                f"{where}: got a {name}, which is not expected from there: where it may come, say so by "
                "PluginManager(..., records=[...])"
            )
        return known[name]

    return found


def is_record(kind: type) -> bool:
    return issubclass(kind, Enum) or fields_of(kind) is not None


def made(kind: type, names: list[str], values: list[Any]) -> Any:
    """An object with these in its fields. Raises ContractError where they are not those of its class."""
    if fields_of(kind) != (*names,) or len(names) != len(values):
        raise ContractError(f"{kind.__qualname__}: got the fields {names}, wanted {fields_of(kind)}: another version?")
    value: Any = object.__new__(kind)
    for name, each in zip(names, values, strict=True):
        object.__setattr__(value, name, each)
    return value
