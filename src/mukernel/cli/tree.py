"""`mukernel tree`: which plug-ins run in which process, and who calls whom."""

from __future__ import annotations

import argparse

import msgspec

from ..core.control import Control, TreePlugin, TreeProcess
from .client import shown
from .options import add_options
from .terminal import Terminal

EXAMPLES = """\
shop  kernel 4711
├─ greeter   serving   Greeter 1.0          (inline: in the kernel's own process)
├─ process catalog, 4713
│  └─ catalog   serving   Catalog 1.0   calls Greeter of greeter
└─ sandbox reports, 4720
   └─ reports   serving   Report 1.0

examples:
  mukernel tree
  mukernel tree --json"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description = "Show the kernel, its processes, the plug-ins in each, and who is connected to whom."
    parser.epilog = EXAMPLES
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return shown(arguments, ask, picture)


class Tree(msgspec.Struct):
    """An application and its processes; the first is the kernel's own."""

    name: str
    pid: int
    processes: list[TreeProcess]


async def ask(control: Control) -> Tree:
    about = await control.about()
    return Tree(about.name, about.pid, await control.tree())


def picture(tree: Tree, terminal: Terminal) -> list[str]:
    """The tree, line by line: the kernel's own plug-ins, then its processes."""
    kernel, others = tree.processes[0], tree.processes[1:]
    lines = [f"{terminal.paint(tree.name, 'bold')}  kernel {tree.pid}{connections(kernel, terminal)}"]
    branches = len(kernel.plugins) + len(others)
    for number, plugin in enumerate(kernel.plugins, 1):
        lines.append(("└─ " if number == branches else "├─ ") + plugin_line(plugin, terminal))
    for number, process in enumerate(others, len(kernel.plugins) + 1):
        last = number == branches
        head = f"{process.kind} {process.name}, {process.pid}{connections(process, terminal)}"
        lines.append(("└─ " if last else "├─ ") + head)
        for place, plugin in enumerate(process.plugins, 1):
            branch = "└─ " if place == len(process.plugins) else "├─ "
            lines.append(("   " if last else "│  ") + branch + plugin_line(plugin, terminal))
    return lines


def plugin_line(plugin: TreePlugin, terminal: Terminal) -> str:
    name, state = terminal.paint(plugin.name, "bold"), terminal.state(plugin.state)
    text = f"{name}   {state}   {', '.join(plugin.interfaces)}"
    calls = ", ".join(f"{interface} of {other}" for interface, other in plugin.calls.items())
    return text + (f"   calls {calls}" if calls else "")


def connections(process: TreeProcess, terminal: Terminal) -> str:
    """The plug-ins elsewhere that somebody in this process has a way to."""
    inside = {plugin.name for plugin in process.plugins}
    others = [name for name in process.connected if name not in inside]
    return terminal.paint(f"   connected to {', '.join(others)}", "dim") if others else ""
