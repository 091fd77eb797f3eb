"""Blocking[I]: "inject a proxy of interface I whose every method blocks"."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_args, get_origin

Interfaced = TypeVar("Interfaced")


class BlockingMark:
    """What tells Blocking[I] from I at run time; there is one instance."""

    def __repr__(self) -> str:
        return "blocking"


BLOCKING = BlockingMark()

# An alias of Annotated: a type checker sees Blocking[Greeter] as Greeter, typing.get_type_hints(...,
# include_extras=True) keeps the mark.
Blocking = Annotated[Interfaced, BLOCKING]


def unwrap_blocking(annotation: Any) -> tuple[Any, bool]:
    """The annotation without its Blocking mark, and whether it had one: (Greeter, True) for
    Blocking[Greeter]."""
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        if BLOCKING in extras:
            return inner, True
    return annotation, False
