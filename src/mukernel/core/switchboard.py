"""Switchboard: joins callers to ports. Control goes through here; data, after that, goes direct."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..contract import ContractError, Description, Granted, Overloaded, PermissionDenied, Unavailable, differences
from ..kernel.ipc import Channel
from ..transports.carriers import ledger, mint_by
from ..transports.descriptors import duplicated, enough_for
from .bounds import Bounds
from .capabilities import KERNEL, Capabilities, checked_rights
from .directory import Grant
from .ledger import Ledger
from .messages import Connected
from .narrowing import Narrowed, Narrowings, part_of
from .registry import Entry, Registry, Replica
from .unread import Unread


class Switchboard:
    """Mints channels and remembers who holds which."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.capabilities = Capabilities()
        self.narrowings = Narrowings(registry, self.capabilities)
        self.space_plugins: dict[str, set[str]] = {}  # those that each space has routes to, gone ones too
        self.transports: dict[str, list[str]] = {}  # those of the spaces that can't be reached by all
        self.unread = Unread()
        self.bounds = Bounds(registry)

    def connect(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int = -1, token: str = ""
    ) -> Grant:  # fmt: skip
        """Channels from `space` to the plug-in that serves `interface`; the grant's rights stay the kernel's own.

        Raises PermissionDenied, NotFound, Unavailable, Overloaded for a process that has too many, or ContractError
        with the differences of the two contracts.
        """
        # What is granted comes first: who may not call it learns nothing of it.
        narrowed = self.narrowings.found(token) if token else None
        if narrowed is not None:
            plugin, granted = narrowed.server, narrowed.granted(interface.name)
        else:
            granted = self.capabilities.granted(space, interface.name)
        to_broker = self.is_broker(space)
        entry = self.registry.answering(interface.name, plugin, to_broker)
        if entry.failure is not None:
            raise Unavailable(f"{interface.name}: {entry.name} is given up: {entry.failure}")
        served = self.check(entry, interface)
        for each in granted.capabilities if granted is not None else ():
            checked_rights(entry.name, entry.rights, entry.scopes, each, to_broker)
        self.space_plugins.setdefault(space, set()).add(entry.name)
        replicas = [replica for replica in entry.staying if replica.failure is None]
        if turn < 0:
            for replica in replicas:
                if replica.instance is not None and replica.instance.place.space == space:
                    return Grant(Connected(entry.name, [], local=replica.instance.blueprint.key))
        elif replicas:
            replicas = [replicas[turn % len(replicas)]]
        if not replicas:
            raise Unavailable(f"{interface.name}: {entry.name} is being unloaded")
        if space.partition(" ")[0] != KERNEL:
            interface = self.bounds.kept(space, interface, served)
            self.bounds.check_channels(space, replicas)
        transport = self.transport_for(space, replicas[0])
        grant = Grant(Connected(entry.name, [], transport=transport))
        if kept_for := self.registry.kept_for(entry.name):
            grant.connected = Connected(kept_for, [], transport=transport, broker=entry.name)
        with self.whole(grant, space):
            for replica in replicas:
                channel = self.mint(replica, interface, bell, space, granted, narrowed, transport)
                grant.connected.channels.append(channel.number)
                grant.rights += channel.caller_rights
        return grant

    def connect_here(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int, token: str
    ) -> Grant:  # fmt: skip
        """As `connect`, for a space of the kernel's own process, which owns the rights."""
        grant = self.connect(interface, plugin, bell, space, turn, token)
        with self.whole(grant, space):
            return Grant(grant.connected, duplicated(grant.rights))

    @contextmanager
    def whole(self, grant: Grant, space: str) -> Iterator[None]:
        """Where no file is left for all of a grant its channels are given up. Raises Overloaded then."""
        try:
            with enough_for(f"a channel from {space} to {grant.connected.plugin}"):
                yield
        except Overloaded:
            for number in grant.connected.channels:
                self.disconnect(number)
            raise

    def is_broker(self, space: str) -> bool:
        """Do brokers live in a process? They reach what they keep calls for."""
        brokers = self.registry.brokers.values()
        return any(holder.entry.name in brokers for holder in self.capabilities.holders.get(space, {}).values())

    def check(self, entry: Entry, caller: Description) -> Description:
        """What an entry serves of the interface that is called. Raises ContractError where the two don't fit."""
        served = next(each for each in entry.interfaces if each.name == caller.name)
        if caller.hash != served.hash:
            lines = differences(caller, served)
            if lines:
                raise ContractError(f"{caller.name}: the caller's contract and that of {entry.name!r} don't fit", lines)
        return served

    def mint(
        self, replica: Replica, caller: Description, bell: int, space: str, granted: Granted | None = None,
        narrowed: Narrowed | None = None, transport: str = "",
    ) -> Channel:  # fmt: skip
        """Make a channel and hand its receiving end to whoever receives from the port, now or soon. `transport`: where
        it is to be another than the port's."""
        port = replica.port
        own = transport in ("", port.transport)
        channel = port.mint(space, bell) if own else mint_by(transport, port, space, bell)
        replica.callers[channel.number] = caller
        if granted is not None:
            replica.granted[channel.number] = granted
        if narrowed is not None:
            self.narrowings.channels[channel.number] = narrowed
        try:
            for instance in (replica.instance, replica.successor):
                if instance is not None and instance.place is not None:
                    sandbox = self.bounds.sandbox(space)
                    instance.place.attach(instance.blueprint.key, channel, caller, granted, sandbox)
        except (OSError, Overloaded):  # no file is left to hand its rights over
            self.drop(replica, channel.number)
            raise
        return channel

    def transport_for(self, space: str, replica: Replica) -> str:
        """By what a space can call a replica: the port's own transport, unless the space does not have that."""
        own, known = replica.port.transport, self.transports.get(space)
        return own if known is None or own in known else known[0]

    def narrow(self, space: str, key: str, interface: str, server: str, part: str, token: str) -> str:
        """A token for a part of what an instance, or `token`, holds in an interface of a plug-in. Raises
        PermissionDenied, NotFound, ContractError."""
        holder = self.capabilities.holders.get(space, {}).get(key)
        if holder is None:
            raise PermissionDenied(f"{key!r} is no instance of the process that asks")
        entry, capability = self.registry.serving(interface, server), part_of(interface, part)
        checked_rights(entry.name, entry.rights, entry.scopes, capability)
        return self.narrowings.narrow(holder.entry, entry.name, capability, token)

    def disconnect(self, number: int, space: str | None = None) -> None:
        """The caller has let go of a channel. `space`: who says so, where that can't be trusted: of its own alone."""
        for _, replica in self.registry.replicas():
            channel = replica.port.channels.get(number)
            if channel is not None and space in (None, channel.caller):
                self.drop(replica, number)
                return
        self.unread.let_go(number, space)

    def drop(self, replica: Replica, number: int) -> None:
        """The caller of a channel is gone. What it has sent without waiting for a reply was accepted: the channel is
        kept for that until whoever serves it says that it is empty."""
        accepted, taken, _, _ = ledger(replica.port.channels[number])
        if accepted > taken:
            replica.abandoned.add(number)
        for instance in (replica.instance, replica.successor):
            if instance is not None:
                instance.place.detach(number)
        if accepted <= taken:
            self.forget(replica, number)

    def emptied(self, number: int, space: str) -> None:
        """A process says that it has run all that came by a channel whose caller is gone."""
        for _, replica in self.registry.replicas():
            if number in replica.abandoned:
                if any(
                    each is not None and each.place.space == space for each in (replica.instance, replica.successor)
                ):
                    self.forget(replica, number)
                return

    def forget(self, replica: Replica, number: int, counts: tuple[int, int, int, int] | None = None) -> None:
        """Nothing is received from a channel any more. `counts`: its ledger, where the kernel has no right to it."""
        replica.abandoned.discard(number)
        replica.callers.pop(number, None)
        replica.granted.pop(number, None)
        self.narrowings.channels.pop(number, None)
        replica.settled = replica.settled.closed(*(counts or ledger(replica.port.channels[number])))
        replica.port.revoke(number)

    def space_died(self, space: str) -> None:
        """A process is gone, and its send rights with it."""
        self.space_plugins.pop(space, None)
        self.transports.pop(space, None)
        self.bounds.forget(space)
        self.capabilities.space_died(space)
        self.unread.space_died(space)
        for _, replica in self.registry.replicas():
            for number, channel in list(replica.port.channels.items()):
                if channel.caller == space:
                    self.drop(replica, number)

    def still_holds(self, replica: Replica, channel: Channel) -> bool:
        """Is a channel what its caller would be given today?"""
        narrowed = self.narrowings.channels.get(channel.number)
        if narrowed is not None:
            return self.narrowings.lives(narrowed)
        try:
            now = self.capabilities.granted(channel.caller, replica.callers[channel.number].name)
        except PermissionDenied:
            return False
        return now == replica.granted.get(channel.number)

    def outdated(self, space: str) -> list[str]:
        """The plug-ins to which a process has channels that are not what it would be given today."""
        found = {
            entry.name: None
            for entry, replica in self.registry.replicas()
            for channel in replica.port.channels.values()
            if channel.caller == space and not self.still_holds(replica, channel)
        }
        return list(found)

    def spaces_calling(self, plugin: str) -> list[str]:
        """The spaces that have routes to a plug-in, open or closed."""
        return [space for space, plugins in self.space_plugins.items() if plugin in plugins]


def account_of(replica: Replica) -> Ledger:
    """The account of one mailbox, `running` left out."""
    account = replica.settled
    for channel in replica.port.channels.values():
        account = account.plus(*ledger(channel))
    return account
