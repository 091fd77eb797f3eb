"""DescribedTypes: from descriptions back to types, so that what a plug-in answers is checked without its classes."""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from ..contract import ObjectDescription, TypeDescription

PLAIN: dict[str, Any] = {
    "None": None, "bool": bool, "int": int, "float": float, "str": str, "bytes": bytes, "bytearray": bytes,
    "memoryview": bytes, "datetime": datetime, "date": date, "time": time, "timedelta": timedelta, "UUID": UUID,
    "Decimal": Decimal,
}  # fmt: skip
COLLECTIONS: dict[str, Any] = {"list": list, "set": set, "frozenset": frozenset, "dict": dict}


class DescribedTypes:
    """Types that stand for those of one contract: whoever decodes by them is told what does not fit.

    `objects`: Description.types. An object becomes a Struct of the same fields on the wire. Arrays, buffers and what
    an object holds of its own kind are not looked into.
    """

    def __init__(self, objects: Mapping[str, ObjectDescription]) -> None:
        self.objects = objects
        self.made: dict[str, Any] = {}

    def decodable(self, described: TypeDescription) -> Any:
        """The type of a whole value; Any where there is none that msgspec can decode by."""
        try:
            made = self.of(described)
            msgspec.msgpack.Decoder(made)
        except (TypeError, ValueError, SyntaxError):  # a newer version described it
            return Any
        return made

    def of(self, described: TypeDescription) -> Any:
        """The type. Raises TypeError, ValueError or SyntaxError for a description that can't be read."""
        kind, arguments = described.kind, [self.of(each) for each in described.arguments]
        if described.reference:
            return self.object(described.reference)
        if kind == "union":
            return functools.reduce(operator.or_, arguments)
        if kind in ("enum", "Literal"):
            return Literal[ast.literal_eval(f"({described.detail},)")]
        if kind == "tuple":
            return tuple[tuple(arguments)] if arguments else tuple[()]  # type: ignore[misc]
        if kind == "tuple...":
            made: Any = tuple[arguments[0], ...]  # type: ignore[valid-type]
        elif kind in COLLECTIONS:
            made = COLLECTIONS[kind][tuple(arguments)]
        else:
            made = PLAIN.get(kind, Any)
        return Annotated[made, constraints(described.detail)] if described.detail and made is not Any else made

    def object(self, reference: str) -> Any:
        if reference not in self.made:
            self.made[reference] = Any  # what it holds of its own kind, while it is made
            described = self.objects[reference]
            fields: list[tuple[str, Any, Any]] = []
            for number, field in enumerate(described.fields):
                # What a map leaves out stays out; an array has a place for everything.
                absent = msgspec.UNSET if described.wire == "map" else None
                options = {} if field.required else {"default": absent}
                kind = self.of(field.type)
                if not field.required and described.wire == "map":
                    kind = kind | msgspec.UnsetType if kind is not Any else Any
                fields.append((f"f{number}", kind, msgspec.field(name=field.name, **options)))
            tag_field, _, tag = described.tag.partition("=")
            self.made[reference] = msgspec.defstruct(
                reference.partition("#")[0], fields, array_like=described.wire == "array", kw_only=True,
                forbid_unknown_fields=described.strict, tag_field=tag_field or None,
                tag=ast.literal_eval(tag) if tag else None,
            )  # fmt: skip
        return self.made[reference]


def constraints(detail: str) -> msgspec.Meta:
    """ "ge=0, lt=10" → Meta(ge=0, lt=10)."""
    call = ast.parse(f"constraints({detail})", mode="eval").body
    assert isinstance(call, ast.Call)
    return msgspec.Meta(**{str(each.arg): ast.literal_eval(each.value) for each in call.keywords})
