"""Granting: what plug-ins hold is changed while they run. What is revoked dies at once, with the channels it opened."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ..contract import Capability, MukernelError, NotFound, PermissionDenied, encode_fault
from ..kernel.ipc import Channel
from ..transports.contract import Wire
from ..transports.kind import Kind
from .callers import tell
from .capabilities import KERNEL, Capabilities, checked_grants, denied
from .ending import to_its_end
from .instances import Instances, finish, received_by_kernel, refuse_waiting
from .journal import Journal
from .place import Place
from .registry import Replica

log = logging.getLogger("mukernel")


@dataclass(slots=True)
class Revoked:
    """A channel that its caller has no right to any more. It is no longer among those of its port: nobody is given it
    again. `wire`: the receiving end, once it is the kernel's own."""

    server: str
    replica: Replica
    channel: Channel
    fault: bytes
    wire: Wire | None = None


class Granting:
    """Grants and revokes for one kernel."""

    def __init__(self, instances: Instances, journal: Journal) -> None:
        self.instances, self.journal = instances, journal
        self.registry, self.processes, self.space = instances.registry, instances.processes, instances.space
        self.capabilities: Capabilities = instances.switchboard.capabilities

    async def grant(self, plugin: str, capability: Capability) -> None:
        """Let a plug-in call more. Raises NotFound, ContractError for what nobody serves or asks for."""
        entry = self.registry.entry(plugin)
        checked_grants(self.registry, plugin, [capability], entry.asks)
        held = self.capabilities.holding(entry)
        if capability not in held:
            entry.grants = (*held, capability)
        await self.connect_anew(set(self.capabilities.spaces_of(plugin)), self.servers_of(capability.interface))
        self.journal.record("grant", plugin, str(capability))

    async def revoke(self, plugin: str, capability: Capability) -> int:
        """Take from a plug-in all that `capability` covers; returns how many channels that closed, when nothing that
        came by them is run any more. Raises NotFound where it holds nothing of that.

        It has happened, for whatever asks from now on, before anything is waited for; and runs to its end, though its
        caller be cancelled.
        """
        entry = self.registry.entry(plugin)
        held = self.capabilities.holding(entry)
        left = tuple(each for each in held if not capability.covers(each))
        if left == held:
            wider = next((each for each in held if each.covers(capability)), None)
            hint = f"; it holds {wider}: revoke that, and grant what is to stay" if wider is not None else ""
            names = ", ".join(map(str, held)) or "nothing"
            raise NotFound(f"plug-in {plugin!r} was not granted {capability}{hint or f'; it holds: {names}'}")
        entry.grants = left
        revoked = self.take(plugin)
        self.instances.switchboard.narrowings.sweep()  # a token that has died is dead, whatever is granted later
        spaces = set(self.capabilities.spaces_of(plugin))
        cancelled = await to_its_end(self.end(revoked, spaces, self.servers_of(capability.interface)))
        self.journal.record("revoke", plugin, f"{capability}; {len(revoked)} channels closed")
        if cancelled is not None:
            raise cancelled
        return len(revoked)

    async def end_passed_on(self) -> None:
        """What a plug-in has passed on ends with it: close what others have of those that are gone."""
        revoked = self.take("")
        if revoked:
            await self.end(revoked, set(), {each.server for each in revoked})

    # -- channels ----------------------------------------------------------------------------------------------

    def take(self, plugin: str) -> list[Revoked]:
        """The channels that a plug-in, or whom it passed a part on to, does not hold any more. From now on they are no
        port's."""
        spaces = [space for space in self.capabilities.spaces_of(plugin) if space != KERNEL]
        found, switchboard = [], self.instances.switchboard
        passed_on = switchboard.narrowings.channels
        for server, replica in self.registry.replicas():
            for number, channel in list(replica.port.channels.items()):
                if (channel.caller in spaces or number in passed_on) and not switchboard.still_holds(replica, channel):
                    del replica.port.channels[number]
                    caller = replica.callers.pop(number)
                    replica.granted.pop(number, None)
                    part = passed_on.pop(number, None)
                    if part is not None:
                        why = f"{part.giver.name!r}, which had passed on {part.capability}, does not hold that any more"
                    else:
                        why = f"the grant was revoked: {denied(caller.name, [plugin])}"
                    fault = encode_fault(PermissionDenied(why))
                    found.append(Revoked(server.name, replica, channel, fault))
        return found

    async def end(self, revoked: list[Revoked], spaces: set[str], servers: set[str]) -> None:
        """End every call that came by some channels, and the channels. First those who serve them let go: from then on
        nothing that a caller writes is read by anybody but the kernel, which refuses it."""
        await asyncio.gather(*(self.cut(each) for each in revoked))
        await self.connect_anew(spaces | {each.channel.caller for each in revoked}, servers)
        # What was sent until then is refused now; later calls find that the route is closed.
        for each in revoked:
            assert each.wire is not None
            finish(each.wire, Kind.ERROR, each.fault)
            self.instances.switchboard.unread.keep(each.channel, each.wire)
            each.replica.settled = each.replica.settled.closed(*each.wire.ledger())

    async def cut(self, revoked: Revoked) -> None:
        """Whoever serves a channel lets go of it; the kernel receives in its stead, and refuses what was begun and what
        waits."""
        replica, channel = revoked.replica, revoked.channel
        for instance in (replica.instance, replica.successor):
            if instance is not None:
                try:
                    await instance.place.cut(channel.number)
                except MukernelError as error:
                    log.warning("%s: a revoked channel was not let go of: %s", instance.blueprint.key, error)
        revoked.wire = received_by_kernel(self.space.carriers, channel)
        revoked.wire.end_interrupted(Kind.ERROR, revoked.fault)
        refuse_waiting(revoked.wire, Kind.ERROR, revoked.fault)

    async def connect_anew(self, spaces: set[str], servers: set[str]) -> None:
        """Let processes ask again for what they call."""

        async def reroute(place: Place) -> None:
            for server in servers & set(self.registry.entries):
                await place.reroute(server, None)

        await tell([place for name, place in self.processes.places.items() if name in spaces], reroute)

    def servers_of(self, interface: str) -> set[str]:
        """The plug-ins that serve an interface."""
        return {e.name for e in self.registry.entries.values() if any(i.name == interface for i in e.interfaces)}
