"""Description: a contract as plain data, which crosses processes and can be compared and hashed without its
classes."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec


class TypeDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A type by its structure.

    kind is the builtin's name ("str", "list", "union", ...) or "object" for a type with fields. detail holds
    constraints, and the values of a literal or an enum. name is the user's word for the type: messages show
    it, the hash ignores it. reference, for an object, is its key in Description.types, so recursive types
    stay finite.
    """

    kind: str
    arguments: tuple[TypeDescription, ...] = ()
    detail: str = ""
    name: str = ""
    reference: str = ""


class FieldDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field as it is called on the wire."""

    name: str
    type: TypeDescription
    required: bool = True


class ObjectDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataclass, Struct, TypedDict or NamedTuple. wire is "map" or "array"; tag is "field=value" or ""; a
    strict object refuses fields it does not know."""

    wire: str
    fields: tuple[FieldDescription, ...]
    tag: str = ""
    strict: bool = False


class ParameterDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A parameter; default is a text that shows it, "" when the parameter is required. It is JSON, or as Python writes
    it where JSON has no word for it, so nobody reads the value from it: whoever serves the method knows that."""

    name: str
    type: TypeDescription
    default: str = ""
    keyword_only: bool = False

    @property
    def required(self) -> bool:
        return not self.default


class MethodDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A method. model is a value of Model; result, item and input are None where the model has none."""

    name: str
    model: str
    parameters: tuple[ParameterDescription, ...] = ()
    result: TypeDescription | None = None
    item: TypeDescription | None = None
    input: TypeDescription | None = None
    input_name: str = ""
    raises: tuple[str, ...] = ()
    idempotent: bool = False
    blocking: bool = False
    documentation: str = ""


class Description(msgspec.Struct, frozen=True, omit_defaults=True):
    """An interface. hash covers everything that a peer can tell from messages, in definition order; not the
    minor version, the documentation, the names and modules of types, nor whether the caller's side blocks."""

    name: str
    version: str
    methods: tuple[MethodDescription, ...] = ()
    types: dict[str, ObjectDescription] = {}
    documentation: str = ""
    hash: str = ""

    def method(self, name: str) -> MethodDescription | None:
        """The method of that name, or None."""
        return next((method for method in self.methods if method.name == name), None)


def digest(description: Description) -> str:
    """The contract hash: 32 hexadecimal digits."""
    numbers: dict[str, int] = {}  # an object is named by the order in which the walk first meets it

    def shape(described: TypeDescription | None) -> Any:
        if described is None:
            return None
        if described.reference:
            return ["object", numbers.setdefault(described.reference, len(numbers))]
        return [described.kind, described.detail, [shape(argument) for argument in described.arguments]]

    methods = [
        [
            method.name,
            method.model,
            method.idempotent,
            method.raises,
            method.input_name,
            [[each.name, shape(each.type), each.default, each.keyword_only] for each in method.parameters],
            [shape(method.result), shape(method.item), shape(method.input)],
        ]
        for method in description.methods
    ]
    objects: list[Any] = []
    while len(objects) < len(numbers):  # describing one may meet further ones
        described = description.types[list(numbers)[len(objects)]]
        # The order of fields counts only where there are no names on the wire.
        ordered = sorted(described.fields, key=lambda f: f.name if described.wire == "map" else "")
        fields = [[field.name, shape(field.type), field.required] for field in ordered]
        objects.append([described.wire, described.tag, described.strict, fields])
    whole = [description.name, description.version.partition(".")[0], methods, objects]
    return hashlib.sha256(msgspec.msgpack.encode(whole)).hexdigest()[:32]


_BRACKETED = {"list", "set", "frozenset", "dict", "tuple", "tuple..."}


def type_text(described: TypeDescription) -> str:
    """The type as its user would write it: "list[Person]", "str | None", "Literal['a', 'b']"."""
    arguments = [type_text(argument) for argument in described.arguments]
    if described.kind == "union":
        return " | ".join(arguments)
    name = described.name or described.kind
    if described.kind in _BRACKETED:
        inside = ", ".join(arguments) or "()"
        return f"{name.removesuffix('...')}[{inside}{', ...' if described.kind == 'tuple...' else ''}]"
    if described.kind == "Literal":
        return f"Literal[{described.detail}]"
    return f"{name}({described.detail})" if described.detail else name
