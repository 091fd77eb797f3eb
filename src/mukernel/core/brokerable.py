"""Which interfaces can have a brokered route."""

from __future__ import annotations

from collections.abc import Container, Sequence

from ..contract import ContractError, Description
from .builtin import BUILTIN

EVENTS = "Events"  # the interface of the server that keeps the calls


def unbrokered(description: Description, rights: Sequence[str]) -> list[str]:
    """What keeps the route to an interface from being brokered, one line each. `rights`: those that its server tells
    apart."""
    name = description.name
    if name == EVENTS or name in BUILTIN:
        return [f"{name} can't be brokered: the calls of {EVENTS} and of what the kernel serves have nowhere to wait"]
    lines = []
    if rights:
        lines.append(
            f"{name} can't be brokered: its server tells rights apart ({', '.join(rights)}), and would be called "
            "by the broker in everybody's name"
        )
    for method in description.methods:
        where = f"{name}.{method.name} can't be brokered: "
        if method.model in ("stream", "channel"):
            lines.append(f"{where}it is a {method.model}, of which nothing can be kept; take it to another interface")
        elif method.model == "call" and not method.idempotent:
            lines.append(
                f"{where}a call that is kept is run at least once, so perhaps twice; mark it @idempotent if that does "
                "no harm, or @oneway if nobody waits for its result, or take it to another interface"
            )
    return lines


def check_brokered(
    brokered: Container[tuple[str, str]], plugin: str, interfaces: Sequence[Description], rights: Sequence[str]
) -> None:
    """Raises ContractError where a version of a plug-in can't have the brokered routes that lead to it, with every
    reason. `brokered`: each an interface, and the plug-in that serves it."""
    lines = {each.name: unbrokered(each, rights) for each in interfaces if (each.name, plugin) in brokered}
    names = [name for name, reasons in lines.items() if reasons]
    if names:
        reasons = [line for name in names for line in lines[name]]
        raise ContractError(f"the route to {', '.join(names)} is brokered, which the new version can't be", reasons)
