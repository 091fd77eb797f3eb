"""MethodCodec: the values of one method to bytes and back, checked where they arrive.

Two tiers. `encode_positional`, `decode_positional`, `encode_value`, `decode_value` are what a hot path
grabs once: they raise whatever msgspec raises, and `arguments_error()` or `result_error()` makes a
ContractError of that. The methods do the same with arguments bound as a call binds them and every error a
ContractError.

Checking costs once: a sender encodes what it is given, the receiver's typed decoding refuses what does not
fit.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any

import msgspec

from .binding import Binding
from .description import ObjectDescription, TypeDescription
from .errors import ContractError, MukernelError
from .large import decode_extension, decode_large, encode_large
from .lending import Incoming, borrowing, lending
from .method import Method
from .schema import TypeTable

Message = bytes | bytearray | memoryview | Incoming

_encoder = msgspec.msgpack.Encoder(enc_hook=encode_large)
_COPIED_OUT = {NoneType, bool, int, float, str, bytes}
_LOOKS_INTO_MESSAGE = {"memoryview", "Buffer", "ndarray", "arrow", "Any"}
_PATH = re.compile(r"^(?P<problem>.*) - at (?:`(?P<end>key|value)` in )?`(?P<path>\$.*)`$", re.DOTALL)
_FIRST_STEP = re.compile(r"^\$(?:\[(?P<index>\d+)\]|\.(?P<name>\w+))?(?P<rest>.*)$", re.DOTALL)
_RESULT = "the result"
_WRONG_RESULT = ": the plug-in returned what its interface does not declare"


class MethodCodec:
    """Encodes and decodes one method's arguments, result, items and input items.

    encode_positional: a tuple, in the order of method.parameters, trailing defaults left out, to bytes.
    decode_positional: those bytes to a tuple of all arguments, defaults filled in.
    encode_value, decode_value: a CALL's result.
    `binding` takes a call's arguments apart and puts them together.
    Buffers, arrays and memoryviews that were decoded look into the message, which is therefore copied first
    unless it is bytes: the caller may reuse a bytearray or memoryview as soon as decoding returns.
    """

    def __init__(self, method: Method) -> None:
        """Raises ContractError if a type of the method cannot be sent."""
        self.method = method
        self.binding = Binding(method)
        self._most = self.binding.positional_most
        self._least = self.binding.positional_least
        annotations = [parameter.annotation for parameter in method.parameters]
        self.encode_positional: Callable[[tuple[Any, ...]], bytes] = self._encoder_for(annotations)
        self.encode_value: Callable[[Any], bytes] = self._encoder_for([method.returns])
        self.decode_positional: Callable[[Message], tuple[Any, ...]] = self._positional_decoder(annotations)
        self.decode_value: Callable[[Message], Any] = self._decoder(method.returns, [method.returns])

    # Made when first needed: few methods need all of them, and a process that starts has no time to spare.

    @functools.cached_property
    def _encode_item(self) -> Callable[[Any], bytes]:
        return self._encoder_for([NoneType if self.method.item is None else self.method.item])

    @functools.cached_property
    def _encode_input(self) -> Callable[[Any], bytes]:
        return self._encoder_for([NoneType if self.method.input_name is None else self.method.input_item])

    @functools.cached_property
    def _decode_named(self) -> Callable[[Message], tuple[Any, ...]]:
        annotations = [parameter.annotation for parameter in self.method.parameters]
        return self._struct_decoder(annotations, array_like=False)

    @functools.cached_property
    def _decode_item(self) -> Callable[[Message], Any]:
        item = NoneType if self.method.item is None else self.method.item
        return self._decoder(item, [item])

    @functools.cached_property
    def _decode_input(self) -> Callable[[Message], Any]:
        item = NoneType if self.method.input_name is None else self.method.input_item
        return self._decoder(item, [item])

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """A call's arguments (without a channel's input stream) as bytes, by position. Raises
        ContractError."""
        if kwargs or not self._least <= len(args) <= self._most:
            args = self.binding.positional(args, kwargs)
        try:
            return self.encode_positional(args)
        except MukernelError:
            raise
        except Exception as error:
            raise self._unsendable(
                {p.name: v for p, v in zip(self.method.parameters, args, strict=False)}, error
            ) from None

    def decode_arguments(self, data: Message, named: bool = False) -> tuple[Any, ...]:
        """All arguments in the order of method.parameters, defaults filled in. `named`: `data` is a map of parameter
        names, as of a peer whose contract differs. Raises ContractError."""
        try:
            return self._decode_named(data) if named else self.decode_positional(data)
        except Exception as error:
            raise self.arguments_error(error) from None

    def encode_result(self, value: Any) -> bytes:
        """A CALL's result as bytes. Raises ContractError if it cannot be sent."""
        return self._encode(self.encode_value, value, _RESULT)

    def decode_result(self, data: Message) -> Any:
        """A CALL's result. Raises ContractError if it is not of the declared type."""
        try:
            return self.decode_value(data)
        except Exception as error:
            raise self.result_error(error) from None

    def encode_item(self, value: Any) -> bytes:
        """One item of the stream that a STREAM or CHANNEL answers with. Raises ContractError."""
        return self._encode(self._encode_item, value, "an item")

    def decode_item(self, data: Message) -> Any:
        """One item of that stream. Raises ContractError."""
        try:
            return self._decode_item(data)
        except MukernelError:
            raise
        except Exception as error:
            try:
                self._decode_item(data)
            except Exception:
                raise ContractError(self._explain(error, "an item") + _WRONG_RESULT) from None
            raise  # it was somebody else's, such as a signal handler's

    def encode_input(self, value: Any) -> bytes:
        """One item of a CHANNEL's input. Raises ContractError."""
        return self._encode(self._encode_input, value, f"an item of parameter {self.method.input_name!r}")

    def decode_input(self, data: Message) -> Any:
        """One item of a CHANNEL's input. Raises ContractError."""
        try:
            return self._decode_input(data)
        except MukernelError:
            raise
        except Exception as error:
            where = f"an item of parameter {self.method.input_name!r}"
            raise ContractError(self._explain(error, where)) from None

    def arguments_error(self, error: Exception) -> MukernelError:
        """What decode_positional raised, as the error to send to the caller."""
        if isinstance(error, MukernelError):
            return error
        return ContractError(self._explain(error, None))

    def result_error(self, error: Exception) -> MukernelError:
        """What decode_value raised, as the error to raise at the caller."""
        if isinstance(error, MukernelError):
            return error
        return ContractError(self._explain(error, _RESULT) + _WRONG_RESULT)

    def encode_error(self, value: Any, error: Exception) -> Exception:
        """What encode_value raised for `value`, as the error to send to the caller."""
        if isinstance(error, MukernelError):
            return error
        return self._unsendable({_RESULT: value}, error)

    def _encode(self, encode: Callable[[Any], bytes], value: Any, place: str) -> bytes:
        try:
            return encode(value)
        except MukernelError:
            raise
        except Exception as error:
            raise self._unsendable({place: value}, error) from None

    def _encoder_for(self, parts: Sequence[Any]) -> Callable[[Any], bytes]:
        """What encodes values of these types. What it gives back where large ones are among them, an Outgoing, is
        `bytes` to all but the wires."""
        return lending(_encoder.encode) if _looks_into_message(parts, self.method.qualified) else _encoder.encode

    def _decoder(self, annotation: Any, parts: Sequence[Any]) -> Callable[[Message], Any]:
        try:
            decode: Callable[[Any], Any] = msgspec.msgpack.Decoder(
                annotation, dec_hook=decode_large, ext_hook=decode_extension
            ).decode
        except Exception as error:
            raise ContractError(f"{self.method.qualified}: a type of it cannot be sent: {error}") from None
        if not _looks_into_message(parts, self.method.qualified):
            return decode
        return borrowing(decode)

    def _positional_decoder(self, annotations: list[Any]) -> Callable[[Message], tuple[Any, ...]]:
        if all(parameter.required for parameter in self.method.parameters):
            return self._decoder(tuple[tuple(annotations)], annotations)  # type: ignore[misc]
        return self._struct_decoder(annotations, array_like=True)

    def _struct_decoder(self, annotations: list[Any], array_like: bool) -> Callable[[Message], tuple[Any, ...]]:
        fields: list[tuple[str, Any, Any]] = []
        for number, parameter in enumerate(self.method.parameters):
            options: dict[str, Any] = {"name": parameter.name}
            if not parameter.required:
                # One object for every call, as a Python default is, and msgspec would refuse a mutable one.
                options["default_factory"] = _constant(parameter.default)
            fields.append((f"p{number}", parameter.annotation, msgspec.field(**options)))
        try:
            arguments = msgspec.defstruct(
                "Arguments", fields, array_like=array_like, kw_only=True, forbid_unknown_fields=True
            )
        except Exception as error:
            raise ContractError(f"{self.method.qualified}: a type of it cannot be sent: {error}") from None
        decode, astuple = self._decoder(arguments, annotations), msgspec.structs.astuple
        return lambda data: astuple(decode(data))

    def _explain(self, error: Exception, place: str | None) -> str:
        """The message of a decoding error: method, place, what came, what was wanted. No place: arguments."""
        problem, inside = str(error) or type(error).__name__, ""
        if found := _PATH.match(problem):
            problem, path = found["problem"], found["path"]
            step = _FIRST_STEP.match(path) if place is None else None
            if step and step["index"]:
                place, path = self._parameter(int(step["index"])), "$" + step["rest"]
            elif step and step["name"]:
                place, path = f"parameter {step['name']!r}", "$" + step["rest"]
            steps = [path.removeprefix("$").removeprefix("."), found["end"] and f"a {found['end']}"]
            inside = "".join(f" at {step}" for step in steps if step)
        elif place is None and isinstance(error, msgspec.ValidationError):
            problem = self._explain_count(problem)
        problem = problem[:1].lower() + problem[1:].replace("`", "")
        return f"{self.method.qualified}: {place or 'the arguments'}: {problem}{inside}"

    def _explain_count(self, problem: str) -> str:
        names = ", ".join(parameter.name for parameter in self.method.parameters) or "none"
        return f"{problem}; wanted the parameters {names}"

    def _parameter(self, index: int) -> str:
        parameters = self.method.parameters
        return f"parameter {parameters[index].name!r}" if index < len(parameters) else f"argument {index}"

    def _unsendable(self, values: Mapping[str, Any], error: Exception) -> Exception:
        """Names the first value that cannot be encoded; `error` is what encoding them together raised. Where each can
        be, that is somebody else's, such as a signal handler's, and is returned."""
        names = {parameter.name for parameter in self.method.parameters}
        for name, value in values.items():
            try:
                _encoder.encode(value)
            except Exception as own:
                place = f"parameter {name!r}" if name in names and name != _RESULT else name
                return ContractError(f"{self.method.qualified}: {place}: {_why_unsendable(own, value)}")
        if isinstance(error, RecursionError):
            return ContractError(f"{self.method.qualified}: {_why_unsendable(error, values)}")
        return error

    def __repr__(self) -> str:
        return f"<MethodCodec {self.method.qualified} {self.method.model.value}>"


def _why_unsendable(error: Exception, value: Any) -> str:
    if isinstance(error, OverflowError):
        return "an int beyond 64 bits cannot be sent: wanted -2**63 to 2**64 - 1"
    if isinstance(error, RecursionError):
        return f"a {type(value).__name__} nested too deeply, or in itself, cannot be sent"
    return str(error) or type(error).__name__


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _looks_into_message(annotations: Sequence[Any], where: str) -> bool:
    if all(type(annotation) is type and annotation in _COPIED_OUT for annotation in annotations):
        return False
    table = TypeTable()
    described = [table.describe(annotation, where) for annotation in annotations]

    def looks(part: TypeDescription) -> bool:
        return part.kind in _LOOKS_INTO_MESSAGE or any(looks(argument) for argument in part.arguments)

    def object_looks(part: ObjectDescription) -> bool:
        return any(looks(field.type) for field in part.fields)

    return any(map(looks, described)) or any(map(object_looks, table.objects.values()))
