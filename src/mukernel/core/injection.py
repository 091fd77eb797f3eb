"""What a plug-in's constructor asks for: interfaces, which are injected, and configuration, which is checked."""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ..contract import (
    ContractError,
    Interface,
    declared_parameters,
    plain_annotations,
    type_hints,
    unwrap_blocking,
)


@dataclass(frozen=True, slots=True)
class Need:
    """A constructor parameter that is an interface."""

    parameter: str
    interface: type[Interface]
    blocking: bool
    required: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """A constructor parameter that is configuration."""

    name: str
    annotation: Any
    required: bool
    default: Any  # None when required


def read_constructor(plugin: type) -> tuple[list[Need], list[Setting]]:
    """The parameters of the constructor. Raises ContractError for an annotation that can't be resolved, and for a
    required parameter that can't be given by name."""
    constructor: Any = vars(plugin).get("__init__") or getattr(plugin, "__init__")  # noqa: B009
    if constructor is object.__init__:
        return [], []
    function: Callable[..., Any] = inspect.unwrap(constructor)
    try:
        hints = plain_annotations(function, {})
        if hints is None:
            hints = type_hints(function, {})
    except NameError as error:
        raise ContractError(f"{plugin.__qualname__}.__init__: an annotation can't be resolved: {error}") from None
    needs, settings = [], []
    for parameter in declared_parameters(function)[1:]:
        if parameter.gathers or not (parameter.named or parameter.required):
            continue
        if not parameter.named:
            raise ContractError(
                f"{plugin.__qualname__}.__init__: parameter {parameter.name!r} can be given by position only, and what "
                "a constructor takes is given by name; take the '/' away"
            )
        annotation, blocking = unwrap_blocking(without_none(hints.get(parameter.name, Any)))
        if isinstance(annotation, type) and issubclass(annotation, Interface):
            needs.append(Need(parameter.name, annotation, blocking, parameter.required))
        else:
            settings.append(Setting(parameter.name, annotation, parameter.required, parameter.default))
    return needs, settings


def without_none(annotation: Any) -> Any:
    """`X` of `X | None`; anything else as it is."""
    if isinstance(annotation, type):
        return annotation
    rest = [each for each in typing.get_args(annotation) if each is not types.NoneType]
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    if not is_union or len(rest) != 1:
        return annotation
    found = unwrap_blocking(rest[0])[0]
    return rest[0] if inspect.isclass(found) and issubclass(found, Interface) else annotation


def checked_configuration(plugin: type, name: str, settings: list[Setting], given: dict[str, Any]) -> dict[str, Any]:
    """The configuration converted to the constructor's types. Raises ContractError that names the field."""
    known = {setting.name: setting for setting in settings}
    for key in given:
        if key not in known:
            raise ContractError(
                f"plug-in {name!r}: config.{key} is unknown to {plugin.__qualname__}; "
                f"it takes: {', '.join(known) or 'no configuration'}"
            )
    converted = {}
    for setting in settings:
        if setting.name not in given:
            if setting.required:
                raise ContractError(
                    f"plug-in {name!r}: config.{setting.name} is missing; {plugin.__qualname__} wants "
                    f"{getattr(setting.annotation, '__name__', setting.annotation)}"
                )
            continue
        try:
            converted[setting.name] = msgspec.convert(
                given[setting.name], setting.annotation,
                str_keys=True,  # the keys of TOML and JSON are text
            )  # fmt: skip
        except msgspec.ValidationError as error:
            raise ContractError(
                f"plug-in {name!r}: config.{setting.name} is {given[setting.name]!r}: {error}"
                f"{hint_of_path(setting.annotation, given[setting.name])}"
            ) from None
    return converted


def hint_of_path(annotation: Any, given: object) -> str:
    """For whoever expects a str to become a Path: no file and no message carries one."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(given, str) and inspect.isclass(kind) and issubclass(kind, os.PathLike):
            return f"; annotate it as str, and make the {kind.__name__} in the constructor"
    return ""
