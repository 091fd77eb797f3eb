"""Composition: how the plug-ins of an application fit together, and so in which order they are started."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import msgspec

from ..contract import differences
from .builtin import BUILTIN
from .inspection import Inspected


class Composition(msgspec.Struct):
    """`order`: names, each after those that it needs. `servers`: for each plug-in, who serves each interface
    it needs."""

    order: list[str]
    servers: dict[str, dict[str, str]]
    problems: list[str]


def compose(
    plugins: Mapping[str, Inspected], label: str = "app.toml", complete: bool = True,
    bind: Mapping[str, Mapping[str, str]] = {},
) -> Composition:  # fmt: skip
    """Join what is needed to what serves it. Each thing that does not fit is a line of `problems`. `complete`: whether
    these are all plug-ins, so that what none of them serves is not served at all. `bind`: of each plug-in, which one is
    meant for an interface."""
    found = Composition([], {name: {} for name in plugins}, [])
    optional: dict[str, set[str]] = {name: set() for name in plugins}
    for name, plugin in plugins.items():
        bound = bind.get(name, {})
        if not plugin.unreadable:
            found.problems += unasked(f"{label}: plugins.{name}.bind", bound, plugin)
        for need in plugin.needs:
            wanted = need.interface.name
            if wanted in BUILTIN:
                continue
            serving = {
                other: each for other, seen in plugins.items() for each in seen.interfaces if each.name == wanted
            }
            if wanted in bound:
                if complete and bound[wanted] not in serving:
                    found.problems.append(
                        f"{label}: plugins.{name}.bind.{wanted}: got {bound[wanted]!r}, wanted a plug-in that serves "
                        f"{wanted}: {', '.join(serving) or 'none does'}"
                    )
                serving = {other: each for other, each in serving.items() if other == bound[wanted]}
            if len(serving) == 1:
                ((other, served),) = serving.items()
                found.servers[name][wanted] = other
                if not need.required:
                    optional[name].add(other)
                if need.interface.hash != served.hash:
                    found.problems += [
                        f"{label}: {name} calls {wanted}, which {other} serves differently: {line}"
                        for line in differences(need.interface, served)
                    ]
            elif serving:
                found.problems.append(
                    f"{label}: {name} needs {wanted} (parameter {need.parameter!r}), and several plug-ins "
                    f"serve it: {', '.join(serving)}; wanted one, or plugins.{name}.bind.{wanted} to say which"
                )
            elif need.required and complete and wanted not in bound:
                found.problems.append(
                    f"{label}: {name} needs {wanted} (parameter {need.parameter!r}); no plug-in of {label} serves it"
                )
    graph = {name: list(dict.fromkeys(servers.values())) for name, servers in found.servers.items()}
    found.order, cycles = ordered(graph, optional)
    found.problems += [
        f"{label}: {' needs '.join(cycle)}: plug-ins that need each other can't be started; let one of them "
        "look the other up later, or give its parameter a default"
        for cycle in cycles
    ]
    return found


def unasked(where: str, bound: Mapping[str, str], plugin: Inspected) -> list[str]:
    """What is bound for interfaces that a plug-in does not ask for."""
    asked = [need.interface.name for need in plugin.needs if need.interface.name not in BUILTIN]
    return [
        f"{where}.{interface}: it does not ask for that; it asks for: {', '.join(asked) or 'no interface'}"
        for interface in bound
        if interface not in asked
    ]


def ordered(graph: Mapping[str, list[str]], optional: Mapping[str, set[str]]) -> tuple[list[str], list[list[str]]]:
    """The names, each after those that it points to, else as they stand; and each cycle that was found.

    A cycle is broken at a need that may stay unmet, if it has one, and is no problem then.
    """
    left = {name: list(others) for name, others in graph.items()}
    cycles: list[list[str]] = []
    while True:
        try:
            return list(TopologicalSorter(left).static_order()), cycles
        except CycleError as error:
            path: list[str] = list(reversed(error.args[1]))  # graphlib goes from what is needed to who needs it
            path = path if all(b in left[a] for a, b in pairwise(path)) else path[::-1]
            pairs = list(pairwise(path))
            spare = next(((a, b) for a, b in pairs if b in optional[a]), None)
            if spare is None:
                cycles.append(path)
            one, other = spare or pairs[-1]
            left[one].remove(other)
