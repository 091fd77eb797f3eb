"""What a server knows of a method that it serves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..contract import Contract, Description, Method, MethodCodec, Model
from ..contract.lending import Incoming, claimed


class ServedMethod:
    """A method of an instance, ready to be run for a message.

    `asynchronous`: may interleave with others. `runs_here`: a `def` that runs on the loop's thread. `in_pool`: a `def`
    that runs in a thread. `streams`: its items go back one by one. `in_steps`: a `def` stream, each step in a thread.
    """

    __slots__ = (
        "asynchronous", "codec", "decode_input", "decode_unchecked", "encode", "encode_item", "encode_unchecked",
        "function", "in_pool", "in_steps", "is_channel", "name", "raises", "runs_here", "simple", "streams",
    )  # fmt: skip

    def __init__(self, method: Method, codec: MethodCodec, function: Callable[..., Any], threads: int = 0) -> None:
        self.name, self.raises, self.codec = method.qualified, method.raises, codec
        self.function = function
        self.is_channel = method.model is Model.CHANNEL
        self.streams = method.model in (Model.STREAM, Model.CHANNEL)
        if not self.streams and any(parameter.keyword_only for parameter in method.parameters):
            self.function = lambda *arguments: codec.binding.call(function, arguments)  # streams are called so anyway
        blocks = self.streams and method.blocking and not inspect.isasyncgenfunction(inspect.unwrap(function))
        self.in_steps = blocks and threads > 0
        plain = not self.streams and not inspect.iscoroutinefunction(inspect.unwrap(function))
        self.asynchronous = not plain
        self.in_pool, self.runs_here = plain and threads > 0, plain and threads == 0
        self.simple = self.asynchronous and not self.streams  # neither a stream nor for the pool
        self.encode: Callable[[Any], bytes] = codec.encode_result
        # The same without a wrapper that explains what is wrong: whoever uses them asks the codec when they raise.
        self.decode_unchecked: Callable[..., Sequence[Any]] = codec.decode_positional
        self.encode_unchecked = codec.encode_value
        self.encode_item, self.decode_input = codec.encode_item, codec.decode_input

    def with_function(self, function: Callable[..., Any]) -> ServedMethod:
        """The same method, run by another function."""
        other = copied(self)
        other.function = function
        return other


def copied(method: ServedMethod) -> ServedMethod:
    other = object.__new__(ServedMethod)
    for name in ServedMethod.__slots__:
        setattr(other, name, getattr(method, name))
    return other


def methods_for(caller: Description, contract: Contract, served: dict[str, ServedMethod]) -> list[ServedMethod]:
    """The table by which one caller's messages are served: its own numbers, our methods.

    Where the contracts are equal, the values are read as they lie; else each method reads its caller's order of
    parameters and matches them by name.
    """
    if caller.hash == contract.hash:
        return [served[method.name] for method in contract.methods.values()]
    return [translated(served[method.name], [each.name for each in method.parameters]) for method in caller.methods]


def translated(method: ServedMethod, names: list[str]) -> ServedMethod:
    other = copied(method)
    other.decode_unchecked = by_name(method.codec, names)
    return other


def by_name(codec: MethodCodec, names: list[str]) -> Callable[[Any], Sequence[Any]]:
    """Reads arguments that lie in the order of a caller's own parameters, `names`: of a message that has come, or that
    was made here (an Outgoing, which is read whole)."""

    def decode(body: Any) -> Sequence[Any]:
        came = claimed(body)
        lends = type(came) is Incoming
        values = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode(came.payload if lends else bytes(came))
        named: Any = msgspec.msgpack.encode(dict(zip(names, values, strict=False)))
        return codec.decode_arguments(Incoming(named, came.segments) if lends else named, named=True)

    return decode
