"""`mukernel list`, `uninstall`, `gc`: the environments of an application, and removing them."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from ..contract import MukernelError, NotFound, Unavailable
from ..core.application_environments import checked, installer_for, lock_problems, present
from ..core.application_file import read_application_file
from ..core.control import PluginVersion
from ..core.quantity import size_text
from ..core.state_folder import StateFolder, running_applications
from ..deployment import Installer
from ..deployment.cleaning import collect_garbage, uninstall
from ..deployment.work import Work
from .client import connected
from .options import add_file
from .terminal import Terminal, as_json

HEADER = ("ENVIRONMENT", "PYTHON", "SIZE", "DECLARED BY", "USED BY")
LIST = """\
List the environments that are installed for an application.

DECLARED BY: the plug-ins of the application file that it was made for. USED BY: the plug-ins that run in it at this
moment, "(a process)" where whoever uses it can't be asked. What is neither declared nor used is removed by
`mukernel gc`; the version before a swap is such a one, and a rollback makes it again from what is locked."""
UNINSTALL = """\
Remove the environment of a plug-in, or one by its own name. One that is being used is not removed. What was locked
stays: `mukernel install`, or the next `mukernel run`, makes it again."""
GC = """\
Remove every environment that no plug-in of the application file asks for and that nobody uses, the versions before a
swap and damaged ones among them; then what only those were made of; and what is remembered of installations that
failed."""
EXAMPLES = {
    "list": "  mukernel list\n  mukernel list shop/app.toml --json",
    "uninstall": "  mukernel uninstall catalog\n  mukernel uninstall shop-catalog-2.0-222fa70629ac",
    "gc": "  mukernel gc --dry-run\n  mukernel gc shop/app.toml",
}


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description = {"list": LIST, "uninstall": UNINSTALL, "gc": GC}[command]
    parser.epilog = "examples:\n" + EXAMPLES[command]
    if command == "uninstall":
        parser.add_argument("name", metavar="NAME", help="of the plug-in, or of the environment")
    add_file(parser)
    if command == "gc":
        parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--state", metavar="DIR", help="its state folder, where `mukernel run` was given one")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.set_defaults(run={"list": show, "uninstall": remove, "gc": collect}[command])


def declared(arguments: argparse.Namespace) -> tuple[Installer, str, dict[str, list[str]]]:
    """The installer of an application, its name, and the plug-ins that ask for each environment."""
    file = checked(*read_application_file(arguments.file))
    if arguments.state and not os.path.isdir(arguments.state):
        raise NotFound(
            f"--state: got {arguments.state!r}, where no folder is; wanted the one that `mukernel run` or `mukernel "
            "install` was given"
        )
    installer = installer_for(file, arguments.state)
    checked(file, lock_problems(installer))  # else nobody could say whose an environment is
    found: dict[str, list[str]] = {}
    for name, source in present(file, installer)[0].items():
        found.setdefault(source.environment.rpartition("/")[2], []).append(name)
    return installer, file.name, found


def show(arguments: argparse.Namespace) -> int:
    installer, name, asking = declared(arguments)
    running = asyncio.run(versions(name, arguments.state)) or []
    rows: list[dict[str, Any]] = []
    damaged = {each: why for each in installer.store.names() if (why := installer.store.damage(each))}
    for each in installer.store.all():
        if each.name in damaged:
            continue
        users = [it.plugin for it in running if it.environment == installer.store.path(each.name)]
        if not users and installer.store.is_held(each.name):
            users = ["(a process)"]
        rows.append(
            {"environment": each.name, "python": each.python.version, "size": each.size,
             "declared_by": asking.get(each.name, []), "used_by": users, "distributions": each.distributions}
        )  # fmt: skip
    failures = [
        {"use": each.use, "python": each.python, "reason": each.reason}
        for each in installer.store.notes().failures.values()
    ]
    terminal = Terminal()
    if arguments.json:
        folder = str(installer.store.folder)
        terminal.say(as_json({"environments": rows, "damaged": [*damaged], "failures": failures, "folder": folder}))
        return 0
    cells = [
        [each["environment"], each["python"], size_text(each["size"]), ", ".join(each["declared_by"]) or "-",
         ", ".join(each["used_by"]) or "-"]
        for each in rows
    ]  # fmt: skip
    terminal.say(terminal.table(HEADER, cells, ("SIZE",)))
    for name, why in damaged.items():
        terminal.say(
            f"damaged: {name}; `mukernel install` makes it anew if it is asked for, `mukernel gc` removes it: {why}"
        )
    for failure in failures:
        terminal.say(f"not installed: {failure['reason']}")
    return 0


async def versions(name: str, state: str | None) -> list[PluginVersion] | None:
    """What the plug-ins of an application are of; nothing where it does not run, None where it does not answer."""
    folder = StateFolder(state) if state else running_applications().get(name)
    if folder is None or folder.pid() is None:
        return []
    options = argparse.Namespace(app=None if state else name, state=state, timeout=None)
    try:
        async with connected(options) as control:
            return list(await control.versions())
    except MukernelError:
        return None


def remove(arguments: argparse.Namespace) -> int:
    installer, _, asking = declared(arguments)
    environment = next((each for each, names in asking.items() if arguments.name in names), arguments.name)
    others = [each for each in asking.get(environment, []) if each != arguments.name]
    if others and environment != arguments.name:
        raise Unavailable(
            f"the environment {environment} of {arguments.name!r} is that of {', '.join(others)}, too; "
            f"`mukernel uninstall {environment}` removes it for all"
        )
    try:
        removed = uninstall(installer.store, environment, working())
    except NotFound:
        known = ", ".join(name for names in asking.values() for name in names)
        names = ", ".join(each.name for each in installer.store.all())
        raise NotFound(
            f"{arguments.name!r} is neither a plug-in that is installed (those are: {known or 'none'}) nor an "
            f"environment (those are: {names or 'none'})"
        ) from None
    said = {"removed": [{"environment": removed.name, "size": removed.size}]}
    Terminal().say(as_json(said) if arguments.json else f"removed {removed.name} ({size_text(removed.size)})")
    return 0


def collect(arguments: argparse.Namespace) -> int:
    installer = declared(arguments)[0]
    removed = collect_garbage(
        installer.store, lambda: declared(arguments)[2], working(), arguments.dry_run, str(installer.lock_file.path)
    )
    terminal = Terminal()
    if arguments.json:
        key = "would_remove" if arguments.dry_run else "removed"
        terminal.say(as_json({key: [{"environment": each.name, "size": each.size} for each in removed]}))
        return 0
    for each in removed:
        what = "would remove" if arguments.dry_run else "removed"
        terminal.say(f"{what} {each.name} ({size_text(each.size)})")
    if not removed:
        terminal.say("there is nothing that is not needed")
    return 0


def working() -> Work:
    return Work(Terminal(sys.stderr).say)
