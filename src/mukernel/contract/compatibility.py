"""Compatibility: may a caller of one contract call a server of another, and does a class implement an
interface?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .description import (
    Description,
    MethodDescription,
    ObjectDescription,
    ParameterDescription,
    TypeDescription,
    type_text,
)

Objects = Mapping[str, ObjectDescription]


def differences(caller: Description, server: Description) -> list[str]:
    """What keeps the caller's messages from being understood, one line each; empty means compatible.

    "was" is the caller's contract, "is" the server's. The server may have further methods and further
    optional parameters; its types may read more than the caller writes (a further optional field, another
    member of a union), and what it answers may be less.
    """
    name = caller.name
    if caller.hash and caller.hash == server.hash:
        return []
    if name != server.name:
        return [f"{name}: the interface was {name}, is {server.name}"]
    if caller.version.partition(".")[0] != server.version.partition(".")[0]:
        return [f"{name}: the major version was {caller.version}, is {server.version}"]
    comparison = Comparison(caller.types, server.types)
    found: list[str] = []
    for method in caller.methods:
        other = server.method(method.name)
        if other is None:
            found.append(f"{name}.{method.name}: the method was in {caller.version}, is not in {server.version}")
        else:
            found += [f"{name}.{method.name}: {line}" for line in comparison.method(method, other)]
    return found


class Comparison:
    """Compares parts of two descriptions; yields lines without the name of the method."""

    def __init__(self, caller: Objects, server: Objects) -> None:
        self._caller = caller
        self._server = server

    def method(self, was: MethodDescription, now: MethodDescription) -> Iterator[str]:
        if was.model != now.model:
            yield f"the model was {was.model}, is {now.model}"
            return
        if was.idempotent and not now.idempotent:
            yield "was @idempotent, is not"
        yield from self._parameters(was, now)
        if was.input_name != now.input_name:
            yield f"the input stream was {was.input_name!r}, is {now.input_name!r}"
        if was.input and now.input:
            yield from self.requested(f"each item of parameter {was.input_name!r}", was.input, now.input)
        if was.result and now.result:
            yield from self.answered("the result", was.result, now.result)
        if was.item and now.item:
            yield from self.answered("each item of the result", was.item, now.item)

    def _parameters(self, was: MethodDescription, now: MethodDescription) -> Iterator[str]:
        theirs = {parameter.name: parameter for parameter in now.parameters}
        for parameter in was.parameters:
            other = theirs.pop(parameter.name, None)
            if other is None:
                yield f"parameter {parameter.name!r} was {_shown(parameter)}, is gone"
                continue
            if other.required and not parameter.required:
                yield f"parameter {parameter.name!r} was optional, is required"
            yield from self.requested(f"parameter {parameter.name!r}", parameter.type, other.type)
        for parameter in theirs.values():
            if parameter.required:
                yield f"parameter {parameter.name!r} is new and required ({_shown(parameter)})"

    def requested(self, where: str, was: TypeDescription, now: TypeDescription) -> Iterator[str]:
        """The caller writes, the server reads."""
        reading = _Reading(self._caller, self._server)
        if not reading.reads(was, now):
            yield f"{where} was {type_text(was)}, is {type_text(now)}" + reading.detail("was", "is")

    def answered(self, where: str, was: TypeDescription, now: TypeDescription) -> Iterator[str]:
        """The server writes, the caller reads."""
        reading = _Reading(self._server, self._caller)
        if not reading.reads(now, was):
            yield f"{where} was {type_text(was)}, is {type_text(now)}" + reading.detail("is", "was")


class _Reading:
    """Can a reader decode all that a writer may encode? Remembers the first field for which it cannot."""

    def __init__(self, writer: Objects, reader: Objects) -> None:
        self._writer = writer
        self._reader = reader
        self._assumed: set[tuple[str, str]] = set()  # pairs being compared: a recursive type fits if the rest does
        self._problem: tuple[str, str, str] | None = None  # (field, what is written, what is read)

    def detail(self, writers_word: str, readers_word: str) -> str:
        """The blame in words, as " (field 'age' of Person was int, is str)"; "" if no field is to blame."""
        if self._problem is None:
            return ""
        field, written, read = self._problem
        words = {writers_word: written, readers_word: read}
        return f" (field {field} was {words['was']}, is {words['is']})"

    def reads(self, written: TypeDescription, read: TypeDescription) -> bool:
        if read.kind == "Any" and not read.detail:
            return True
        if written.kind == "union":
            return all(self.reads(member, read) for member in written.arguments)
        if read.kind == "union":
            return any(self.reads(written, member) for member in read.arguments)
        if written.reference and read.reference:
            return self._reads_object(written, read)
        return (
            written.kind == read.kind
            and written.detail == read.detail
            and len(written.arguments) == len(read.arguments)
            and all(map(self.reads, written.arguments, read.arguments))
        )

    def _reads_object(self, written: TypeDescription, read: TypeDescription) -> bool:
        pair = (written.reference, read.reference)
        if pair in self._assumed:
            return True
        self._assumed.add(pair)
        theirs, ours = self._writer[written.reference], self._reader[read.reference]
        if (theirs.wire, theirs.tag) != (ours.wire, ours.tag):
            return False
        if theirs.wire == "array":
            return self._reads_array(written, theirs, ours)
        fields = {field.name: field for field in theirs.fields}
        for field in ours.fields:
            other = fields.pop(field.name, None)
            label = f"{field.name!r} of {read.name}"
            if other is None:
                if field.required:
                    return self._blame(label, "absent", f"{type_text(field.type)}, required")
            elif field.required and not other.required:
                return self._blame(label, "optional", "required")
            elif not self.reads(other.type, field.type):
                return self._blame(label, type_text(other.type), type_text(field.type))
        if ours.strict and fields:
            return self._blame(f"{next(iter(fields))!r} of {read.name}", "present", "refused")
        return True

    def _reads_array(self, written: TypeDescription, theirs: ObjectDescription, ours: ObjectDescription) -> bool:
        # Without names on the wire only equal fields at equal places mean the same.
        if [(f.name, f.required) for f in theirs.fields] != [(f.name, f.required) for f in ours.fields]:
            return self._blame(
                f"order of {written.name}", *(", ".join(f.name for f in o.fields) for o in (theirs, ours))
            )
        for other, field in zip(theirs.fields, ours.fields, strict=True):
            if not self.reads(other.type, field.type):
                return self._blame(f"{field.name!r} of {written.name}", type_text(other.type), type_text(field.type))
        return True

    def _blame(self, field: str, written: str, read: str) -> bool:
        self._problem = self._problem or (field, written, read)
        return False


def _shown(parameter: ParameterDescription) -> str:
    return type_text(parameter.type)
