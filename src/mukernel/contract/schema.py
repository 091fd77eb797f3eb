"""TypeTable: from annotations to descriptions; refuses what cannot be sent."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec
from msgspec import inspect, structs

from .arrow import arrow_kind
from .description import FieldDescription, ObjectDescription, TypeDescription
from .errors import ContractError
from .large import Buffer, decode_extension, decode_large, encode_large, is_array_type, without_alias

_PLAIN: dict[type[inspect.Type], str] = {
    inspect.AnyType: "Any",
    inspect.NoneType: "None",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.BytesType: "bytes",
    inspect.ByteArrayType: "bytearray",
    inspect.MemoryViewType: "memoryview",
    inspect.DateTimeType: "datetime",
    inspect.DateType: "date",
    inspect.TimeType: "time",
    inspect.TimeDeltaType: "timedelta",
    inspect.UUIDType: "UUID",
    inspect.DecimalType: "Decimal",
}
_COLLECTIONS: dict[type[inspect.Type], str] = {
    inspect.ListType: "list",
    inspect.SetType: "set",
    inspect.FrozenSetType: "frozenset",
    inspect.VarTupleType: "tuple...",
}
# What most methods take and return, described without a walk, which would cost a process at its start.
_BUILTIN = {
    kind: TypeDescription(name)
    for kind, name in (
        (NoneType, "None"), (bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (bytes, "bytes"),
    )
}  # fmt: skip
_BINARY = (bytes, bytearray, memoryview)  # to be left as they are
_CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")


class TypeTable:
    """Describes types; those with fields once each, in `objects`, under a name that is theirs alone."""

    def __init__(self) -> None:
        self.objects: dict[str, ObjectDescription] = {}
        self._keys: dict[Any, str] = {}

    def describe(self, annotation: Any, where: str) -> TypeDescription:
        """The description of a type. Raises ContractError, beginning with `where`, if it cannot be sent."""
        if type(annotation) is type and annotation in _BUILTIN:
            return _BUILTIN[annotation]
        annotation = without_alias(annotation)
        if is_array_type(annotation):  # msgspec's own walk would lose the dtype
            return _array(annotation)
        try:
            walked = inspect.type_info(annotation)
        except Exception as error:  # TypeError for the type itself, NameError and others from its own annotations
            shown = getattr(annotation, "__name__", None) or annotation
            raise ContractError(f"{where}: type {shown} cannot be sent: {error}") from None
        return self._walk(walked, where)

    def _walk(self, node: inspect.Type, where: str) -> TypeDescription:
        kind = type(node)
        if kind in _PLAIN:
            return TypeDescription(_PLAIN[kind], detail=_constraints(node))
        if kind in _COLLECTIONS:
            items = self._walk(node.item_type, where)  # type: ignore[attr-defined]
            return TypeDescription(_COLLECTIONS[kind], (items,), detail=_constraints(node))
        if isinstance(node, inspect.Metadata):
            return self._walk(node.type, where)
        if isinstance(node, inspect.DictType):
            pair = (self._walk(node.key_type, where), self._walk(node.value_type, where))
            return TypeDescription("dict", pair, detail=_constraints(node))
        if isinstance(node, inspect.TupleType):
            return TypeDescription("tuple", tuple(self._walk(each, where) for each in node.item_types))
        if isinstance(node, inspect.UnionType):
            return TypeDescription("union", _ordered(self._walk(each, where) for each in node.types))
        if isinstance(node, inspect.EnumType):
            values = ", ".join(sorted(repr(member.value) for member in node.cls))
            return TypeDescription("enum", detail=values, name=node.cls.__name__)
        if isinstance(node, inspect.LiteralType):
            return TypeDescription("Literal", detail=", ".join(sorted(repr(value) for value in node.values)))
        if isinstance(node, inspect.CustomType):
            return _custom(node.cls, where)
        if isinstance(node, (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType)):
            return self._object(node, where)
        raise ContractError(f"{where}: type {kind.__name__.removesuffix('Type')} cannot be sent")

    def _object(
        self,
        node: inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType,
        where: str,
    ) -> TypeDescription:
        name = str(getattr(node.cls, "__name__", node.cls))
        key = self._keys.get(node.cls)
        if key is None:
            key, copies = name, 1
            while key in self.objects:
                copies += 1
                key = f"{name}#{copies}"
            self._keys[node.cls] = key
            self.objects[key] = ObjectDescription("map", ())  # holds the name while a recursive type is walked
            fields = []
            for each in node.fields:
                described = self._walk(each.type, f"{where}: field {each.name!r} of {name}")
                fields.append(FieldDescription(each.encode_name, described, each.required))
            self.objects[key] = _object_description(node, tuple(fields))
        return TypeDescription("object", name=name, reference=key)


def _object_description(node: inspect.Type, fields: tuple[FieldDescription, ...]) -> ObjectDescription:
    if isinstance(node, inspect.StructType):
        tag = "" if node.tag is None else f"{node.tag_field}={node.tag!r}"
        return ObjectDescription("array" if node.array_like else "map", fields, tag, node.forbid_unknown_fields)
    return ObjectDescription("array" if isinstance(node, inspect.NamedTupleType) else "map", fields)


def _custom(cls: Any, where: str) -> TypeDescription:
    if cls is Buffer:
        return TypeDescription("Buffer")
    if is_array_type(cls):
        return _array(cls)
    if arrow_kind(cls) is not None:
        return TypeDescription("arrow", detail=cls.__name__)
    raise ContractError(
        f"{where}: type {getattr(cls, '__qualname__', cls)} cannot be sent: wanted builtins, a dataclass, "
        "a msgspec.Struct, TypedDict, NamedTuple, Enum, date or time, UUID, Decimal, Buffer, numpy.ndarray, or "
        "Table, RecordBatch, ChunkedArray or Array of pyarrow"
    )


def _array(annotation: Any) -> TypeDescription:
    arguments = get_args(annotation)
    scalars = get_args(arguments[1]) if len(arguments) == 2 else ()
    scalar = get_origin(scalars[0]) or scalars[0] if scalars else None
    return TypeDescription("ndarray", detail=getattr(scalar, "__name__", "") if scalar is not Any else "")


def _ordered(members: Any) -> tuple[TypeDescription, ...]:
    # int | str and str | int are one type.
    return tuple(sorted(members, key=lambda member: (member.kind, member.reference, member.detail)))


def _constraints(node: inspect.Type) -> str:
    return ", ".join(f"{name}={value!r}" for name in _CONSTRAINTS if (value := getattr(node, name, None)) is not None)


def default_text(default: object, annotation: Any, where: str) -> str:
    """A parameter's default as text. Raises ContractError if it is not of the parameter's own type."""
    try:
        sent = msgspec.msgpack.encode(default, enc_hook=encode_large)
        msgspec.msgpack.decode(sent, type=annotation, dec_hook=decode_large, ext_hook=decode_extension)
    except Exception as error:
        raise ContractError(f"{where}: the default {default!r} is not of the declared type: {error}") from None
    try:
        return _value_text(default)
    except Exception as error:  # such as RecursionError
        raise ContractError(f"{where}: the default {default!r} can't be described: {error}") from None


def _value_text(value: Any) -> str:
    """A value as JSON, the same in every process; as Python writes it, where JSON has no word: bytes, infinity, keys
    that are no text."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{_value_text(key)}:{_value_text(each)}" for key, each in value.items())) + "}"
    if isinstance(value, (set, frozenset)):
        return "[" + ",".join(sorted(map(_value_text, value))) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_value_text, value)) + "]"
    if isinstance(value, _BINARY):
        return repr(bytes(value))
    if isinstance(value, float) and not math.isfinite(value):
        return repr(float(value))
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {} if config.tag is None else {config.tag_field: config.tag}
        fields = {each.encode_name: getattr(value, each.name) for each in structs.fields(value)}
        return _value_text(tag | {name: each for name, each in fields.items() if each is not msgspec.UNSET})
    if dataclasses.is_dataclass(value):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return _value_text({name: each for name, each in fields.items() if each is not msgspec.UNSET})
    plain = msgspec.to_builtins(value, builtin_types=_BINARY, enc_hook=_large_bytes)
    if plain is None or isinstance(plain, (bool, int, float, str)):
        return msgspec.json.encode(plain).decode()
    return _value_text(plain)


def _large_bytes(value: Any) -> object:
    """What stands for a value that msgspec does not know. Raises TypeError."""
    encoded = encode_large(value)
    return bytes(encoded.data) if isinstance(encoded, msgspec.msgpack.Ext) else encoded
