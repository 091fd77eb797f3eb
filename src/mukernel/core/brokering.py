"""Brokered routes: the calls of an interface go through a durable queue, which outlives whoever is to run them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import msgspec

from ..contract import ContractError, Description, MukernelError, NotFound, SwapFailed, Unavailable
from .brokerable import EVENTS, check_brokered, unbrokered
from .capabilities import BROKER as BROKER_RIGHT
from .instances import Instances
from .journal import Journal
from .messages import Source
from .registry import Entry, RestartPolicy
from .replacement import Replacement

log = logging.getLogger("mukernel")
BROKER = "mukernel.servers.events.broker", "CallBroker"
PATIENT = RestartPolicy(intensity=1000, backoff=0.02, longest_backoff=1.0)
QUEUE = 10_000  # calls that may wait, unless somebody says otherwise


def broker_name(interface: str) -> str:
    """The plug-in that keeps the calls of an interface."""
    return f"{interface}.broker"


def config_of_broker(entry: Entry) -> dict[str, Any]:
    """What it has to know of the plug-in that it stands in for. `period`: in which crashes add up to what its
    supervisor gives it up for; they count from each restart on, which comes after its back-off."""
    policy = entry.options.restart
    period = policy.period + policy.back_off(max(1, policy.intensity))
    return {"plugin": entry.name, "intensity": policy.intensity, "period": period}


def grants_of_broker(interface: str) -> list[str]:
    """What it may call: the interface, and the event server for the calls of that interface alone."""
    return [f"{EVENTS}:manage", f"{EVENTS}:{BROKER_RIGHT}:calls/{interface.replace('.', '/')}", interface]


class Brokering:
    """Leads the routes of one kernel to brokers, and back. Whoever uses it loads and unloads the brokers."""

    def __init__(self, instances: Instances, journal: Journal) -> None:
        self.instances, self.registry, self.journal = instances, instances.registry, journal

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

    async def follow(self, entry: Entry) -> None:
        """A plug-in is of another version: the brokers of its routes serve that version's interfaces from now on, by
        its policy of restarts. One that can't serves those of the one before; the log says why, and the way out."""
        served = {each.name: each for each in entry.interfaces}
        for (interface, plugin), name in list(self.registry.brokers.items()):
            if plugin != entry.name or interface not in served or name not in self.registry.entries:
                continue
            try:
                check_brokered(self.registry.brokers, plugin, [served[interface]], entry.rights)
                async with self.registry.changing(name) as broker:
                    source = msgspec.structs.replace(broker.source, stands_in=served[interface])
                    config = {**broker.options.config, **config_of_broker(entry)}
                    if broker.source.stands_in != source.stands_in or broker.options.config != config:
                        options = replace(broker.options, config=config)
                        work = Replacement(self.instances, self.journal, broker, "restart", source, options)
                        await work.run()
            except Unavailable:
                pass  # the broker was unloaded meanwhile
            except (ContractError, SwapFailed) as error:
                log.warning(
                    "%s: its broker stays with the version of the interface before, and calls wait that the present "
                    "one can't answer. Where nobody calls that version any more, take its route off and on: "
                    "kernel.route(%r, brokered=False), and then brokered=True. Why: %s",
                    interface, interface, error,
                )  # fmt: skip

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
