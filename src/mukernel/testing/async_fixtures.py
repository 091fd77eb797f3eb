"""Async fixtures that use a kernel: they run on its loop, around the test, and not before there is one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import AsyncGeneratorType
from typing import Any

import pytest


class Pending:
    """Stands for the value of an async fixture until the loop runs. `arguments`: what it asks for; of these some may be
    pending, too."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.function, self.arguments = function, arguments

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the fixture {self.function.__name__!r} runs on the kernel's loop, so request.getfixturevalue can't give "
            "its value: wanted it as a parameter of the test"
        )


class AsyncFixtures:
    """The pending fixtures of one test. To be entered on the loop; at its end their own ends run, the last first."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.values: dict[Pending, Any] = {}

    async def __aenter__(self) -> AsyncFixtures:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.stack.aclose()

    async def values_of(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, with the value of each that is pending."""
        return {
            name: await self.value_of(each) if isinstance(each, Pending) else each for name, each in arguments.items()
        }

    async def value_of(self, pending: Pending) -> Any:
        if pending not in self.values:
            made = pending.function(**await self.values_of(pending.arguments))
            if inspect.isasyncgen(made):
                try:
                    self.values[pending] = await anext(made)
                except StopAsyncIteration:
                    raise RuntimeError(f"the fixture {made.__name__!r} ended without a yield") from None
                self.stack.push_async_callback(finish, made)
            else:
                self.values[pending] = await made
        return self.values[pending]


async def finish(generator: AsyncGeneratorType[Any, Any]) -> None:
    """Run what stands behind the `yield` of a fixture. It hears nothing of how the test ended, as in pytest."""
    async for _ in generator:
        await generator.aclose()
        raise RuntimeError(f"the fixture {generator.__name__} yields more than once")


def is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def uses(
    definition: pytest.FixtureDef[Any], wanted: Callable[[str, pytest.FixtureDef[Any]], bool], known: Mapping[str, Any],
    seen: tuple[pytest.FixtureDef[Any], ...] = (),
) -> bool:  # fmt: skip
    """Does a fixture use a wanted one, itself or by others? `known`: the definitions of each name, the nearest last;
    one that asks for its own name is given the next farther."""
    for name in definition.argnames:
        definitions = list(known.get(name) or ())
        if definition in definitions:
            definitions = definitions[: definitions.index(definition)]
        if definitions and definitions[-1] not in seen:  # pytest itself tells of circles
            used = definitions[-1]
            if wanted(name, used) or uses(used, wanted, known, (*seen, used)):
                return True
    return False


def bound(definition: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The function of a fixture; for one that is a method, that of the test's own instance."""
    function = definition.func
    if inspect.ismethod(function) and isinstance(request.instance, type(function.__self__)):
        made: Callable[..., Any] = function.__func__.__get__(request.instance)
        return made
    return function
