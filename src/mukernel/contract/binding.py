"""Binding: a caller's arguments against a method's parameters, and a callee's function against what
arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .description import type_text
from .errors import ContractError
from .method import Method, Parameter
from .schema import TypeTable

ITERATED = {"iterator": "__iter__", "async iterator": "__aiter__"}  # what makes a value one


class Binding:
    """Binds as a Python call would; its errors name the parameter.

    positional_least and positional_most bound the number of arguments that a call without keywords may have.
    """

    __slots__ = ("_keyword_start", "_method", "_names", "_parameters", "positional_least", "positional_most")

    def __init__(self, method: Method) -> None:
        self._method = method
        # Keyword-only parameters are last in a signature, so they are last on the wire.
        self._parameters: tuple[Parameter, ...] = method.parameters
        self._names = tuple(parameter.name for parameter in method.parameters)
        positional = [parameter for parameter in method.parameters if not parameter.keyword_only]
        needs_keywords = any(each.required and each.keyword_only for each in method.parameters)
        self._keyword_start = len(positional)
        self.positional_most = -1 if needs_keywords else len(positional)
        self.positional_least = sum(parameter.required for parameter in positional)

    def named(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by parameter name, those left out not among them. Raises ContractError."""
        method, names = self._method, self._names
        if len(args) > self._keyword_start:
            wanted = ", ".join(names[: self._keyword_start]) or "none"
            raise ContractError(
                f"{method.qualified}: got {len(args)} positional arguments, "
                f"wanted at most {self._keyword_start} ({wanted})"
            )
        bound = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name in bound:
                raise ContractError(f"{method.qualified}: parameter {name!r} came twice, by position and by name")
            if name not in names:
                wanted = ", ".join(names) or "none"
                raise ContractError(f"{method.qualified}: parameter {name!r} is unknown: wanted {wanted}")
            bound[name] = value
        for parameter in self._parameters:
            if parameter.required and parameter.name not in bound:
                kind = type_text(TypeTable().describe(parameter.annotation, method.qualified))
                raise ContractError(f"{method.qualified}: parameter {parameter.name!r} is missing: wanted {kind}")
        return bound

    def positional(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in the order of the parameters, as short as the trailing defaults allow. Raises
        ContractError."""
        bound = self.named(args, kwargs)
        last = max((index for index, name in enumerate(self._names) if name in bound), default=-1)
        return tuple(bound.get(parameter.name, parameter.default) for parameter in self._parameters[: last + 1])

    def take_input(
        self, args: Sequence[Any], kwargs: dict[str, Any], kinds: Iterable[str] = ITERATED
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """A channel's (input stream, other args, other kwargs). `kinds`: those of ITERATED that will do. Raises
        ContractError if the stream is missing, or no such thing."""
        name, position = self._method.input_name, self._method.input_position
        wanted = " or ".join(f"an {kind}" for kind in kinds)
        if name in kwargs:
            given, args = kwargs[name], tuple(args)
            kwargs = {key: value for key, value in kwargs.items() if key != name}
        elif name is None or len(args) <= position:
            raise ContractError(f"{self._method.qualified}: parameter {name!r} is missing: wanted {wanted}")
        else:
            given, args = args[position], (*args[:position], *args[position + 1 :])
        if not any(hasattr(given, ITERATED[kind]) for kind in kinds):
            came = "None" if given is None else type(given).__name__
            raise ContractError(f"{self._method.qualified}: parameter {name!r}: expected {wanted}, got {came}")
        return given, args, kwargs

    def call(self, function: Callable[..., Any], arguments: Sequence[Any], incoming: Any = None) -> Any:
        """function(...) with decoded arguments, and for a channel with its input stream, as its signature
        wants."""
        start = self._keyword_start
        args, keywords = (
            list(arguments[:start]),
            dict(zip(self._names[start:], arguments[start:], strict=True)),
        )
        if self._method.input_name is not None:
            args.insert(self._method.input_position, incoming)
        return function(*args, **keywords)
