"""`mukernel check`: everything that can be found wrong without starting anything."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ..contract import ContractError, NotFound
from ..core.application import Application, read_application
from ..core.capabilities import is_sandbox
from ..core.extensions import missing_extensions
from ..sandbox.machine import Enforced, enforced
from .options import add_file
from .terminal import Terminal, as_json

DESCRIPTION = """\
Check an application file and its plug-ins, and start nothing: keys and values, imports, interfaces,
configuration, who needs whom. The classes are imported in a process that is thrown away. Every problem is
listed, not only the first. Of a sound application it also says what of a sandbox this machine enforces."""
EXAMPLES = """\
examples:
  mukernel check
  mukernel check shop/app.toml --json"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_file(parser)
    parser.add_argument("--state", metavar="DIR", help="where its environments are, if `mukernel run` is given one")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if missing := missing_extensions():  # no problem of the application: for people, beside the result
        Terminal(sys.stderr).say(f"note: {missing}")
    try:
        application = asyncio.run(read_application(arguments.file, arguments.state))
    except (ContractError, NotFound) as error:
        if not arguments.json:
            raise
        problems = list(getattr(error, "differences", ())) or [str(error)]
        return Terminal().say_at_the_end(as_json({"ok": False, "problems": problems, "plugins": []}), 1)
    sandbox = enforced()
    boxed = [name for name, table in application.file.plugins.items() if is_sandbox(table.placement)]
    problems = [
        f"{application.file.label}: plugins.{name}.placement: {sandbox.text}" for name in boxed if sandbox.missing
    ]
    if problems and not arguments.json:
        raise ContractError(f"{application.file.label} can't run here", problems)
    brokered = [interface for interface, route in application.file.routes.items() if route.brokered]
    if arguments.json:
        plugins = [facts(application, n) for n in application.order]
        told = {
            "ok": not problems, "problems": problems, "plugins": plugins, "brokered": brokered,
            "sandbox": sandbox_facts(sandbox),
        }  # fmt: skip
        return Terminal().say_at_the_end(as_json(told), int(bool(problems)))
    terminal = Terminal(sys.stdout)
    rows = [row(application, name, terminal) for name in application.order]
    terminal.say(terminal.table(("NAME", "PLACEMENT", "SERVES", "CALLS"), rows))
    terminal.say(f"{application.file.label} is sound; plug-ins start in this order")
    if brokered:
        terminal.say(f"brokered, so that its calls wait for a plug-in that is not there: {', '.join(brokered)}")
    terminal.say(f"sandbox: {sandbox.text}")
    return 0


def sandbox_facts(sandbox: Enforced) -> dict[str, object]:
    return {
        "available": not sandbox.missing,
        "missing": sandbox.missing,
        "enforced": sandbox.parts,
        "not": sandbox.gaps,
    }


def facts(application: Application, name: str) -> dict[str, object]:
    table, seen = application.file.plugins[name], application.inspected[name]
    return {
        "name": name, "use": table.use, "placement": table.placement, "settings": seen.settings,
        "interfaces": [f"{each.name} {each.version}" for each in seen.interfaces],
        "calls": application.composition.servers[name],
    }  # fmt: skip


def row(application: Application, name: str, terminal: Terminal) -> list[str]:
    seen = application.inspected[name]
    calls = ", ".join(f"{interface} of {other}" for interface, other in application.composition.servers[name].items())
    serves = ", ".join(f"{each.name} {each.version}" for each in seen.interfaces)
    return [terminal.paint(name, "bold"), application.file.plugins[name].placement, serves, calls]
