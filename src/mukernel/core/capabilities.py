"""Capabilities: what the plug-ins in each process hold, asked whenever a channel is to be minted for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..contract import Capability, ContractError, Granted, PermissionDenied
from ..contract.capability import PATHS, is_path
from .builtin import BUILTIN
from .checks import nearest
from .registry import Entry, Registry

BROKER = "broker"  # the right to the calls that a route's broker keeps: nobody else can be granted that
BROKERS = "process:call-brokers"  # their placement: what lives with a broker reaches what it keeps calls for
KERNEL = "kernel"  # the space of the kernel's own process; others that are its own begin with this word


@dataclass(slots=True)
class Holder:
    """An instance that is, or is being built, in a process. `asks`: the interfaces that its constructor asks for, once
    it has said so."""

    entry: Entry
    sandboxed: bool
    asks: tuple[str, ...] | None = None

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What was granted; where nothing was said, all that the constructor asks for, and in a sandbox nothing."""
        if self.entry.grants is not None:
            return self.entry.grants
        return () if self.sandboxed else tuple(map(Capability, self.asks or ()))


class Capabilities:
    """Who is where, by the name of the space and the key of the instance. It is the kernel's own account: of what a
    process says, it takes what a constructor asks for, once."""

    def __init__(self) -> None:
        self.holders: dict[str, dict[str, Holder]] = {}

    def enter(self, space: str, key: str, entry: Entry, placement: str) -> None:
        """An instance is built there from now on."""
        self.holders.setdefault(space, {})[key] = Holder(entry, is_sandbox(placement))

    def leave(self, space: str, key: str) -> None:
        """It is gone, and what it was granted with it."""
        self.holders.get(space, {}).pop(key, None)

    def space_died(self, space: str) -> None:
        self.holders.pop(space, None)

    def asked(self, space: str, key: str, interfaces: Iterable[str]) -> None:
        """What the constructor of an instance asks for. A second time it is not heard."""
        holder = self.holders.get(space, {}).get(key)
        if holder is not None and holder.asks is None:
            holder.asks = holder.entry.asks = tuple(interfaces)

    def granted(self, space: str, interface: str) -> Granted | None:
        """What a process may do in an interface: the union of what the plug-ins in it hold; None: everything. Raises
        PermissionDenied."""
        if space.partition(" ")[0] == KERNEL:
            return None
        here = list(self.holders.get(space, {}).values())
        held = tuple(
            dict.fromkeys(each for holder in here for each in holder.capabilities if each.interface == interface)
        )
        if not held:
            names = sorted({holder.entry.name for holder in here})
            raise PermissionDenied(denied(interface, names))
        return None if any(each.whole for each in held) else Granted(held)

    def spaces_of(self, plugin: str) -> list[str]:
        """Where the instances of a plug-in are."""
        return [s for s, held in self.holders.items() if any(each.entry.name == plugin for each in held.values())]

    def holding(self, entry: Entry) -> tuple[Capability, ...]:
        """What a plug-in holds at present."""
        return Holder(entry, is_sandbox(entry.options.placement), entry.asks).capabilities


def is_sandbox(placement: str) -> bool:
    """Does a placement keep everything from its plug-ins that was not granted?"""
    return placement.startswith("sandbox")


def denied(interface: str, plugins: Sequence[str]) -> str:
    """What a process is told that asks for what its plug-ins do not hold."""
    who = " and ".join(map(repr, plugins)) or "a process without plug-ins"
    name = plugins[0] if plugins else "NAME"
    return (
        f"{interface} was not granted to {who}: add {interface!r} to its `grants`, or, while it runs, "
        f"`mukernel grant {name} {interface}`"
    )


def checked_grants(registry: Registry, plugin: str, grants: Sequence[Capability], needs: Sequence[str]) -> None:
    """Raises ContractError for a grant of an interface that the plug-in does not ask for and nobody serves, and of
    rights that its server does not tell apart."""
    served = {each.name for entry in registry.entries.values() for each in entry.interfaces}
    for grant in grants:
        if grant.interface not in served and grant.interface not in needs and grant.interface not in BUILTIN:
            raise ContractError(f"plug-in {plugin!r}: grants: {unknown(grant, sorted({*served, *needs}))}")
        for entry in registry.entries.values():
            if any(each.name == grant.interface for each in entry.interfaces):
                checked_rights(entry.name, entry.rights, entry.scopes, grant, plugin in registry.brokers.values())


def checked_rights(
    server: str, rights: Sequence[str], scopes: str, grant: Capability, to_broker: bool = False
) -> None:  # fmt: skip
    """Raises ContractError where the server of an interface would not look at what a grant keeps back, so that it would
    keep back nothing, and for a scope in which nothing can lie there, so that it would keep back everything.
    `to_broker`: it is that of a broker."""
    if grant.whole:
        return
    if not rights:
        raise ContractError(
            f"grant {str(grant)!r}: {server!r}, which serves {grant.interface}, tells no rights or scopes apart (it "
            f"declares no `grant_rights`), so nothing would hold it to that; grant {grant.interface!r}, or nothing"
        )
    for right in grant.rights:
        if right not in rights and not (to_broker and right == BROKER):
            raise ContractError(
                f"grant {str(grant)!r}: {server!r}, which serves {grant.interface}, knows no right {right!r}; "
                f"it knows: {', '.join(rights)}"
            )
    if scopes == PATHS and grant.scope and not is_path(grant.scope):
        raise ContractError(
            f"grant {str(grant)!r}: got the scope {grant.scope!r}, in which {server!r} has nothing; wanted an absolute "
            "path without '//' and '/./', such as '/data'"
        )


def unknown(grant: Capability, known: Sequence[str]) -> str:
    """What is wrong with a grant of an interface that there is not."""
    return f"{str(grant)!r}: no plug-in serves or asks for {grant.interface}; {nearest(grant.interface, known)}"
