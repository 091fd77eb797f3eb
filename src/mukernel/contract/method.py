"""Method: what an interface says about one of its methods."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Model(enum.StrEnum):
    """The four interaction models."""

    CALL = "call"  # one request, one reply
    ONEWAY = "oneway"  # one request, no reply
    STREAM = "stream"  # one request, a stream of items back
    CHANNEL = "channel"  # a stream in, a stream back


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that travels in the request (a channel's input stream is not one)."""

    name: str
    annotation: Any
    required: bool
    default: Any = None  # meaningless when required
    keyword_only: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """One method of an interface.

    index is the position in definition order, inherited methods first; peers of one contract hash use it on
    the wire. blocking: declared with a plain `def`, and not as an async stream. returns is the result's
    annotation of a CALL (NoneType for the other models), item that of a stream's items, input_item that of
    a channel's input, whose parameter is called input_name and stands at position input_position (self not
    counted).
    """

    interface: str
    name: str
    index: int
    model: Model
    blocking: bool
    idempotent: bool
    raises: tuple[type[Exception], ...]
    parameters: tuple[Parameter, ...]
    returns: Any
    item: Any = None
    input_item: Any = None
    input_name: str | None = None
    input_position: int = 0
    documentation: str = ""

    @property
    def qualified(self) -> str:
        """Interface and method, as in "Greeter.greet": how error messages name it."""
        return f"{self.interface}.{self.name}"
