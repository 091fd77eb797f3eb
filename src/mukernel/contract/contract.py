"""Contract: an interface as the kernel's plug-ins see it, its methods by name, its hash and its
description."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .description import Description, MethodDescription, ParameterDescription, digest
from .errors import ContractError
from .method import Method
from .schema import TypeTable, default_text
from .signature import read_method


class Contract:
    """Name, version and methods of one interface; read once, never changed afterwards.

    methods is ordered by definition, and methods[name].index is the position in it. hash is 32 hexadecimal
    digits, equal for two contracts exactly when each side can read the other's positional messages.
    """

    __slots__ = ("_description", "hash", "methods", "name", "version")

    def __init__(self, name: str, version: str, methods: Iterable[Method], documentation: str = "") -> None:
        """Raises ContractError for a malformed version or a type that cannot be sent."""
        self.name = name
        self.version = checked_version(name, version)
        self.methods: dict[str, Method] = {method.name: method for method in methods}
        self._description = _describe(self, documentation)
        self.hash: str = self._description.hash

    def describe(self) -> Description:
        """The contract as plain data, for other processes."""
        return self._description

    @classmethod
    def of(cls, subject: type, name: str | None = None, version: str | None = None) -> Contract:
        """The contract of a class: of an Interface, or of any class, read from its public typed methods.

        For an Interface name and version are its own. Raises ContractError, naming what is wrong where.
        """
        name = name or str(getattr(subject, "__interface_name__", plain_name(subject)))
        version = version or str(getattr(subject, "__interface_version__", "1.0"))
        raised: tuple[type[Exception], ...] = getattr(subject, "__interface_raises__", ())
        methods = [
            read_method(name, index, attribute, function, vars(owner), raised)
            for index, (attribute, (owner, function)) in enumerate(public_functions(subject).items())
        ]
        return cls(name, version, methods, inspect.cleandoc(subject.__doc__ or ""))

    def __repr__(self) -> str:
        return f"<Contract {self.name} {self.version} {self.hash[:8]}>"


def plain_name(subject: Any) -> str:
    """The class's, or function's, qualified name, without the function that it may be defined in."""
    return str(subject.__qualname__).rpartition("<locals>.")[2]


def checked_version(where: str, version: object) -> str:
    """`version`, if it is "major.minor" of two whole numbers; ContractError otherwise."""
    text = version if isinstance(version, str) else ""
    major, _, minor = text.partition(".")
    if not (text.isascii() and major.isdigit() and minor.isdigit()):
        raise ContractError(f'{where}: version is {version!r}, wanted "major.minor", such as "1.0"')
    return f"{int(major)}.{int(minor)}"


def public_functions(subject: type) -> dict[str, tuple[type, Callable[..., Any]]]:
    """The public methods of a class by name, each with the class that defines it; inherited ones stand
    first, and an overridden one keeps its place."""
    found: dict[str, tuple[type, Callable[..., Any]]] = {}
    for owner in reversed(subject.__mro__):
        if owner is object:
            continue
        for name, value in vars(owner).items():
            if not name.startswith("_") and inspect.isfunction(value):
                found[name] = (owner, value)
    return found


def _describe(contract: Contract, documentation: str) -> Description:
    table = TypeTable()
    methods = tuple(_describe_method(method, table) for method in contract.methods.values())
    plain = Description(contract.name, contract.version, methods, table.objects, documentation)
    return Description(contract.name, contract.version, methods, table.objects, documentation, digest(plain))


def _describe_method(method: Method, table: TypeTable) -> MethodDescription:
    where = method.qualified
    parameters = []
    for each in method.parameters:
        here = f"{where}: parameter {each.name!r}"
        described = table.describe(each.annotation, here)
        default = "" if each.required else default_text(each.default, each.annotation, here)
        parameters.append(ParameterDescription(each.name, described, default, each.keyword_only))
    return MethodDescription(
        name=method.name,
        model=str(method.model),
        parameters=tuple(parameters),
        result=table.describe(method.returns, f"{where}: the result") if method.item is None else None,
        item=None if method.item is None else table.describe(method.item, f"{where}: each item of the result"),
        input=None
        if method.input_name is None
        else table.describe(method.input_item, f"{where}: parameter {method.input_name!r}"),
        input_name=method.input_name or "",
        raises=tuple(sorted(plain_name(exception) for exception in method.raises)),
        idempotent=method.idempotent,
        blocking=method.blocking,
        documentation=method.documentation,
    )
