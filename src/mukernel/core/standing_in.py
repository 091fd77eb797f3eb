"""Standing in: a class that serves an interface in another plug-in's stead, made from the interface's description.

Its process needs neither the classes of the interface nor those of its types: values pass through as the message pack
has them, and exceptions that the interface declares by their names.
"""

from __future__ import annotations

import types
from typing import Any

from ..contract import Contract, Description, Interface, Method, MethodDescription, Model, Parameter
from .described_type import DescribedTypes


class LeftOut:
    """In the place of an argument that its caller left out: only whoever serves the method knows what that means."""


LEFT_OUT = LeftOut()


class StandInContract(Contract):
    """The contract of a description, whose one-way methods return when they have ended, as the others do."""

    __slots__ = ()

    def __init__(self, description: Description) -> None:
        self.name, self.version, self.hash = description.name, description.version, description.hash
        self._description = description
        self.methods = {
            each.name: stand_in_method(description.name, number, each)
            for number, each in enumerate(description.methods)
        }


def stand_in_method(interface: str, number: int, described: MethodDescription) -> Method:
    """A method that takes and gives anything."""
    result = type(None) if Model(described.model) is Model.ONEWAY else Any
    raised = tuple(type(name, (Exception,), {"__qualname__": name}) for name in described.raises)
    return Method(
        interface, described.name, number, Model.CALL, False, False, raised, parameters_of(described, None), result,
        documentation=described.documentation,
    )  # fmt: skip


def checking_method(interface: str, described: MethodDescription, known: DescribedTypes) -> Method:
    """The same method, whose arguments are of the types that were described."""
    return Method(interface, described.name, 0, Model.CALL, False, False, (), parameters_of(described, known), Any)


def parameters_of(described: MethodDescription, known: DescribedTypes | None) -> tuple[Parameter, ...]:
    """Without `known` types, of any type. By position, as they lie in the message."""
    return tuple(
        Parameter(each.name, Any if known is None else known.decodable(each.type), each.required, LEFT_OUT)
        for each in described.parameters
    )


def standing_in(kind: type, description: Description) -> type:
    """A plug-in class that serves the interface by the method `_accept(method, arguments)` of `kind`, a plug-in class
    that has hooks and else no name that a method of an interface can have."""
    functions = {each.name: accepting(each.name) for each in description.methods}

    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(
            functions, __cached_contract__=StandInContract(description), __doc__=description.documentation,
            __qualname__=f"<locals>.{description.name}", __module__=kind.__module__,
        )  # fmt: skip

    keywords = {"name": description.name, "version": description.version}
    interface = types.new_class(description.name, (Interface,), keywords, fill)

    def fill_plugin(namespace: dict[str, Any]) -> None:
        namespace.update(__module__=kind.__module__, __qualname__=kind.__qualname__, __doc__=kind.__doc__)

    return types.new_class(kind.__name__, (kind, interface), {}, fill_plugin)


def accepting(name: str) -> Any:
    async def method(self: Any, *arguments: Any) -> Any:
        return await self._accept(name, arguments)

    method.__name__ = name
    return method
