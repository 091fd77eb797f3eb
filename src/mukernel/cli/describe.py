"""`mukernel describe`: all that is known of one plug-in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..contract import Description, MethodDescription, type_text
from ..core.control import PluginDescription
from ..core.quantity import duration_text
from .client import shown
from .options import add_options
from .terminal import Terminal, as_json

EXAMPLES = """\
examples:
  mukernel describe greeter
  mukernel describe greeter --json"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description = "Show a plug-in's interfaces, methods with their signatures, documentation and configuration."
    parser.epilog = EXAMPLES
    parser.add_argument("name", metavar="NAME", help="of the plug-in")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return shown(arguments, lambda control: control.describe(arguments.name), lines_of)


def lines_of(described: PluginDescription, terminal: Terminal) -> Iterator[str]:
    status = described.status
    pids = f" (process {', '.join(map(str, status.pids))})" if status.pids else ""
    state = terminal.state(status.state)
    since = duration_text(status.since)
    yield f"{terminal.paint(status.name, 'bold')}   {state}, {status.placement}{pids}, since {since}"
    if status.failure:
        yield f"  {status.failure}"
    if status.hang:
        yield from indented(f"hung: {status.hang}", 2)
    yield from indented(described.documentation, 2)
    yield f"  use      {described.use}"
    for key, value in described.config.items():
        yield f"  config   {key} = {as_json(value)}"
    for setting in described.settings:
        yield f"  takes    {setting}"
    for interface, plugin in described.calls.items():
        yield f"  calls    {interface} of {plugin}"
    for interface_description in described.interfaces:
        yield ""
        yield from interface_lines(interface_description, terminal)


def interface_lines(interface: Description, terminal: Terminal) -> Iterator[str]:
    title = terminal.paint(f"{interface.name} {interface.version}", "cyan")
    yield f"  interface {title}   contract {interface.hash}"
    yield from indented(interface.documentation, 4)
    for method in interface.methods:
        notes = [
            *(["idempotent"] if method.idempotent else []),
            *(["one-way"] if method.model == "oneway" else []),
        ]
        notes += [f"raises {', '.join(method.raises)}"] if method.raises else []
        yield f"    {signature(method)}" + (terminal.paint(f"   {'; '.join(notes)}", "dim") if notes else "")
        yield from indented(method.documentation, 8)


def indented(text: str, columns: int) -> list[str]:
    return [(" " * columns + line).rstrip() for line in text.splitlines()]


def signature(method: MethodDescription) -> str:
    """A method as its interface declares it: "greet(name: str, *, loud: bool = false) -> str"."""
    parts = [f"{method.input_name}: stream of {type_text(method.input)}"] if method.input is not None else []
    star = False
    for each in method.parameters:
        if each.keyword_only and not star:
            parts.append("*")
            star = True
        parts.append(f"{each.name}: {type_text(each.type)}" + ("" if each.required else f" = {each.default}"))
    if method.item is not None:
        result = f"stream of {type_text(method.item)}"
    else:
        result = type_text(method.result) if method.result is not None else "None"
    return f"{method.name}({', '.join(parts)}) -> {result}"
