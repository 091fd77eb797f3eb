"""Brokered routes: the calls of an interface go through a durable queue, which outlives whoever is to run them."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract import ContractError, Description, MukernelError, NotFound
from .builtin import BUILTIN
from .capabilities import BROKER as BROKER_RIGHT
from .instances import Instances
from .messages import Source
from .registry import Entry, RestartPolicy

BROKER = "mukernel.servers.events.broker", "CallBroker"
EVENTS = "Events"  # the interface of the server that keeps the calls
PATIENT = RestartPolicy(intensity=1000, backoff=0.02, longest_backoff=1.0)
QUEUE = 10_000  # calls that may wait, unless somebody says otherwise


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


def broker_name(interface: str) -> str:
    """The plug-in that keeps the calls of an interface."""
    return f"{interface}.broker"


def grants_of_broker(interface: str) -> list[str]:
    """What it may call: the interface, and the event server for the calls of that interface alone."""
    return [f"{EVENTS}:manage", f"{EVENTS}:{BROKER_RIGHT}:calls/{interface.replace('.', '/')}", interface]


class Brokering:
    """Leads the routes of one kernel to brokers, and back. Whoever uses it loads and unloads the brokers."""

    def __init__(self, instances: Instances) -> None:
        self.instances, self.registry = instances, instances.registry

    def checked(self, interface: str, plugin: str | None) -> tuple[Entry, Description]:
        """The plug-in whose calls are to be kept. Raises NotFound, ContractError with every reason against it."""
        entry = self.registry.serving(interface, plugin)
        description = next(each for each in entry.interfaces if each.name == interface)
        lines = unbrokered(description, entry.rights)
        if lines:
            raise ContractError(f"the route to {interface} can't be brokered", lines)
        if broker_name(interface) in [*self.registry.entries, *self.registry.brokers.values()]:
            raise ContractError(f"the route to {interface} is brokered already")
        try:
            self.registry.serving(EVENTS)
        except MukernelError as error:
            raise type(error)(
                f"the route to {interface} is to be brokered, and that takes one event server "
                f"(mukernel.servers.events:EventServer): {error}"
            ) from None
        return entry, description

    def begin(self, entry: Entry, description: Description) -> Source:
        """From now on calls are for the broker, which is to be loaded from what this returns."""
        self.registry.brokers[description.name, entry.name] = broker_name(description.name)
        module, name = BROKER
        return Source(module, name, stands_in=description)

    async def end(self, interface: str, plugin: str | None) -> str:
        """From now on calls go direct again; returns the name of the broker, which is to be unloaded. Raises
        NotFound."""
        found = [key for key in self.registry.brokers if key[0] == interface and plugin in (None, key[1])]
        if not found:
            raise NotFound(f"the route to {interface} is not brokered")
        broker = self.registry.brokers.pop(found[0])
        await self.lead(broker)
        return broker

    def check_changeable(self, name: str, how: str) -> None:
        """Raises ContractError for a broker: there is one for a route, where nothing else lives."""
        if name in self.registry.brokers.values():
            raise ContractError(
                f"{name!r} is the broker of a route, which can't be {how}: restart it, or kernel.route it"
            )

    async def lead(self, name: str) -> None:
        """Those who have routes to a plug-in, or to a broker, ask anew where to call."""
        entry = self.registry.entries.get(name)
        if entry is not None:
            await self.instances.reroute_callers(entry)
