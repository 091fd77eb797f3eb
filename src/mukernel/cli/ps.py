"""`mukernel ps`: the plug-ins of a running application."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..core.control import PluginStatus
from ..core.quantity import duration_text, size_text
from .client import shown
from .options import add_options
from .terminal import Terminal

HEADER = (
    "NAME",
    "STATE",
    "PLACEMENT",
    "PID",
    "REPLICAS",
    "CALLS",
    "RUNNING",
    "WAITING",
    "RESTARTS",
    "CPU",
    "MEM",
    "LIMITS",
    "SHARED",
    "SINCE",
)
RIGHT = ("PID", "REPLICAS", "CALLS", "RUNNING", "WAITING", "RESTARTS", "CPU", "MEM", "SHARED", "SINCE")

DESCRIPTION = """\
List the plug-ins of a running application.

CALLS counts the calls that the present instances have started; "direct" stands where neighbours call an
inline plug-in as a plain method, so that nothing counts. CPU is the processor time that its present
processes have had, and MEM their private memory; "-" where they are the kernel's. LIMITS says what holds
a process to its limits: "rlimits", of each process by itself, or "cgroup", of all processes of a sandbox
together (only "cgroup:memory" or "cgroup:pids" on some machines).
SHARED is what its processes hold of shared memory: arrays and Buffers that they made, or got
from others and still look into (one that several hold counts for each)."""

EXAMPLES = """\
examples:
  mukernel ps
  mukernel ps --app shop --json | python3 -m json.tool"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return shown(arguments, lambda control: control.ps(), lines_of)


def lines_of(plugins: list[PluginStatus], terminal: Terminal) -> Iterator[str]:
    yield terminal.table(HEADER, [row(each, terminal) for each in plugins], RIGHT)
    for each in plugins:
        if each.failure:
            yield f"{each.name}: {each.failure}"
        if each.hang:
            line = each.hang.partition("\n")[0]
            yield f"{each.name} hung: {line}; `mukernel describe {each.name}` shows its stack"


def row(plugin: PluginStatus, terminal: Terminal) -> list[str]:
    """The cells of one plug-in, in the order of HEADER."""
    return [
        terminal.paint(plugin.name, "bold"),
        terminal.state(plugin.state),
        plugin.placement,
        pids(plugin.pids),
        str(plugin.replicas),
        "direct" if plugin.calls is None else str(plugin.calls),
        str(plugin.running),
        str(plugin.waiting),
        str(plugin.restarts),
        "-" if plugin.cpu is None else duration_text(plugin.cpu),
        "-" if plugin.memory is None else size_text(plugin.memory),
        plugin.limits or "-",
        size_text(plugin.shared_memory) if plugin.shared_memory else "-",
        duration_text(plugin.since),
    ]


def pids(numbers: list[int]) -> str:
    if len(numbers) > 2:
        return f"{numbers[0]},+{len(numbers) - 1}"
    return ",".join(map(str, numbers)) or "-"
