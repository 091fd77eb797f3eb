"""Held: what each plug-in may call at present, and the channels that it has, gathered for the control interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .capabilities import KERNEL, is_sandbox
from .control import HeldCapabilities, OpenChannel
from .registry import Entry, Replica
from .stopped import StoppedPlugins

if TYPE_CHECKING:
    from .kernel import Kernel

INLINE = "inline"


def held_by_all(kernel: Kernel, stopped: StoppedPlugins) -> list[HeldCapabilities]:
    """Every plug-in, the first loaded first, stopped ones last."""
    entries = sorted(kernel.registry.entries.values(), key=lambda entry: entry.order)
    found = [held_by(kernel, entry) for entry in entries]
    for name, declaration in stopped.declarations.items():
        options = declaration.options
        grants = list(map(str, options.grants or ()))
        found.append(HeldCapabilities(name, options.placement, "stopped", options.grants is not None, grants, []))
    return found


def held_by(kernel: Kernel, entry: Entry) -> HeldCapabilities:
    """One plug-in. The channels are those of its processes, which its neighbours there have, too."""
    placement = entry.options.placement
    capabilities = kernel.switchboard.capabilities
    spaces = [space for space in capabilities.spaces_of(entry.name) if space != KERNEL]
    channels = [
        open_channel(kernel, server.name, replica, number)
        for server, replica in kernel.registry.replicas()
        for number, channel in replica.port.channels.items()
        if channel.caller in spaces
    ]
    grants = list(map(str, capabilities.holding(entry)))
    enforced = "advice" if placement == INLINE else "sandbox" if is_sandbox(placement) else "process"
    return HeldCapabilities(entry.name, placement, enforced, entry.grants is not None, grants, channels)


def open_channel(kernel: Kernel, server: str, replica: Replica, number: int) -> OpenChannel:
    granted = replica.granted.get(number)
    grants = [] if granted is None else list(map(str, granted.capabilities))
    found = OpenChannel(number, replica.callers[number].name, server, grants)
    part = kernel.switchboard.narrowings.channels.get(number)
    if part is not None:
        found.giver, found.origin = part.giver.name, part.origin.name
    return found
