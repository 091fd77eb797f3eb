"""Calls by description: for whoever has a plug-in's contract as data and not its Interface class."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..contract import (
    ContractError,
    Description,
    Interface,
    Method,
    MethodDescription,
    Model,
    NotFound,
    Parameter,
    Unavailable,
    digest,
    type_text,
)
from ..mesh.route import Route
from ..transports.carriers import ledger
from .capabilities import KERNEL
from .described_type import DescribedTypes
from .lifecycle import State
from .registry import Entry

if TYPE_CHECKING:
    from .kernel import Kernel

_visits = itertools.count(1)
SETTLING = 1.0  # seconds that a visitor stays for its last calls to be begun and accounted for


class DescribedContract:
    """A contract made from a description: the same methods by number. What is sent is of type Any, as the plug-in
    checks that; what it answers is checked here."""

    def __init__(self, description: Description) -> None:
        self.name, self.version, self.hash = description.name, description.version, description.hash
        self.description = description
        types = DescribedTypes(description.types)
        self.methods = {
            each.name: described_method(description.name, number, each, types)
            for number, each in enumerate(description.methods)
        }

    def describe(self) -> Description:
        return self.description


class DescribedInterface:
    """Stands where a route wants an Interface class."""

    def __init__(self, description: Description) -> None:
        self.__contract__ = DescribedContract(description)


def described_method(interface: str, number: int, described: MethodDescription, types: DescribedTypes) -> Method:
    """The method as a caller needs it. Never blocking: whoever calls by description is on the kernel's own
    loop. It knows no defaults: see `without_gaps`."""
    model = Model(described.model)
    parameters = tuple(
        Parameter(
            each.name,
            Any,
            each.required,
            keyword_only=each.keyword_only,
        )
        for each in described.parameters
    )
    return Method(
        interface, described.name, number, model, False, described.idempotent, (), parameters,
        types.decodable(described.result) if described.result is not None else NoneType,
        item=types.decodable(described.item) if described.item is not None else None,
        input_item=Any if described.input is not None else None, input_name=described.input_name or None,
        documentation=described.documentation,
    )  # fmt: skip


def without_gaps(description: Description, method: MethodDescription, given: Collection[str]) -> Description:
    """The contract of a caller that gives `given` to `method`, and knows no optional parameter before them that it
    leaves out: only whoever serves the method knows what that stands for, so it must not travel."""
    names = [each.name for each in method.parameters]
    last = max((names.index(name) for name in given if name in names), default=-1)
    known = tuple(each for number, each in enumerate(method.parameters) if each.name in given or number > last)
    if len(known) == len(names):
        return description
    methods = tuple(
        msgspec.structs.replace(each, parameters=known) if each.name == method.name else each
        for each in description.methods
    )
    narrowed = msgspec.structs.replace(description, methods=methods, hash="")
    return msgspec.structs.replace(narrowed, hash=digest(narrowed))


def served_interface(entry: Entry, interface: str) -> Description:
    """Raises NotFound with what the plug-in serves."""
    found = next((each for each in entry.interfaces if each.name == interface), None)
    if found is None:
        served = ", ".join(each.name for each in entry.interfaces)
        raise NotFound(f"plug-in {entry.name!r} does not serve {interface}; it serves: {served or 'nothing yet'}")
    return found


def served_method(description: Description, method: str) -> MethodDescription:
    """Raises NotFound with the methods that there are."""
    found = description.method(method)
    if found is None:
        known = ", ".join(each.name for each in description.methods)
        raise NotFound(f"{description.name} has no method {method!r}; it has: {known}")
    return found


def check_arguments(description: Description, method: MethodDescription, arguments: Mapping[str, Any]) -> None:
    """Raises ContractError for names that the method does not know, or wants and did not get."""
    where = f"{description.name}.{method.name}"
    known = [each.name for each in method.parameters]
    for name in arguments:
        if name not in known:
            raise ContractError(f"{where}: parameter {name!r} is unknown: wanted {', '.join(known) or 'none'}")
    for each in method.parameters:
        if each.required and each.name not in arguments:
            raise ContractError(f"{where}: parameter {each.name!r} is missing: wanted {type_text(each.type)}")


@asynccontextmanager
async def visiting(
    kernel: Kernel, entry: Entry, description: Description
) -> AsyncIterator[dict[str, Callable[..., Any]]]:
    """The methods of a plug-in, callable from the kernel's loop over channels of their own, for as long as it
    lasts.

    Raises Unavailable where nothing will answer.
    """
    if entry.failure is not None or entry.state is State.STOPPED:
        raise Unavailable(
            f"plug-in {entry.name!r} is {entry.state.value}" + (f": {entry.failure}" if entry.failure else "")
        )
    space = kernel.space
    route = Route(entry.name, cast(type[Interface], DescribedInterface(description)), space)
    # Under a name of its own: as the kernel's space it would be given an inline plug-in without a channel.
    visit = next(_visits)
    visitor, route.turns = f"{KERNEL} visitor {visit}", itertools.count(visit)  # each begins with another replica
    try:
        space.lead(route, kernel.connect_now(description, entry.name, space.bell, visitor, -1))
        yield route.sending
        await settled(kernel, entry, {caller.wire.number for caller in route.callers})
    finally:
        for caller in route.callers:
            caller.wire.close()
            kernel.disconnect(caller.wire.number)
        kernel.switchboard.space_plugins.pop(visitor, None)


async def settled(kernel: Kernel, entry: Entry, channels: set[int]) -> None:
    """Wait until every call that these channels carried has been begun and accounted for: a one-way call has
    no reply that would tell, and a reply is out before it is counted."""
    until = kernel.clock.now() + SETTLING
    while kernel.clock.now() < until:
        accounts = [
            ledger(channel) for replica in entry.replicas
            for number, channel in replica.port.channels.items() if number in channels
        ]  # fmt: skip
        if all(accepted == answered + refused for accepted, _, answered, refused in accounts):
            return
        await kernel.clock.sleep(0.001)
