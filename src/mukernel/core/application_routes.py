"""The routes in an application file, checked against what its plug-ins serve, before any is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from .application_file import ApplicationFile
from .brokerable import EVENTS, unbrokered
from .checks import nearest
from .inspection import Inspected


def route_problems(file: ApplicationFile, inspected: Mapping[str, Inspected], complete: bool) -> list[str]:
    """One line for each route to what nobody serves, or several do, and for each method that can't be brokered.
    `complete`: all that is served is known."""
    lines = []
    known = sorted({each.name for seen in inspected.values() for each in seen.interfaces})
    for interface, route in file.routes.items():
        where = f"{file.label}: routes.{interface}"
        serving = serving_in(inspected, interface)
        if not serving and complete:
            lines.append(f"{where}: no plug-in serves {interface}; {nearest(interface, known)}")
        if not route.brokered:
            continue
        if len(serving) > 1:
            lines.append(f"{where}.brokered: several plug-ins serve {interface}: {', '.join(serving)}; wanted one")
        for name in serving[:1]:
            described = next(each for each in inspected[name].interfaces if each.name == interface)
            lines += [f"{where}.brokered: {line}" for line in unbrokered(described, inspected[name].rights)]
        servers = serving_in(inspected, EVENTS)
        if len(servers) != 1 and complete:
            lines.append(
                f"{where}.brokered: it takes one event server, and there are {len(servers)}; wanted one plug-in with "
                'use = "mukernel.servers.events:EventServer"'
            )
    return lines


def serving_in(inspected: Mapping[str, Inspected], interface: str) -> list[str]:
    """The plug-ins that serve an interface."""
    return [name for name, seen in inspected.items() if any(each.name == interface for each in seen.interfaces)]


def keeping_calls(file: ApplicationFile, inspected: Mapping[str, Inspected]) -> ApplicationFile:
    """The file with the brokered interfaces in the configuration of its event server, which keeps a stream for each."""
    brokered = [interface for interface, route in file.routes.items() if route.brokered]
    if not brokered:
        return file
    (server,) = serving_in(inspected, EVENTS)
    table = file.plugins[server]
    calls = list(dict.fromkeys([*table.config.get("calls", []), *brokered]))
    table = msgspec.structs.replace(table, config=table.config | {"calls": calls})
    return msgspec.structs.replace(file, plugins=file.plugins | {server: table})


def brokered_now(file: ApplicationFile, inspected: Mapping[str, Inspected], started: Sequence[str]) -> list[str]:
    """The interfaces whose routes are to be brokered, and can be since the last of `started` was: their plug-in and the
    event server are there."""
    last = started[-1]
    found = []
    for interface, route in file.routes.items():
        if route.brokered:
            needed = [*serving_in(inspected, interface), *serving_in(inspected, EVENTS)]
            if last in needed and all(name in started for name in needed):
                found.append(interface)
    return found
