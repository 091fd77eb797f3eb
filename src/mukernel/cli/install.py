"""`mukernel install`: give each plug-in that asks for one an environment of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping

from ..contract import ContractError, MukernelError, NotFound
from ..core.application_environments import checked, installer_for, lock_problems, of_plugin, requests_of
from ..core.application_file import ApplicationFile, read_application_file
from ..deployment import Installer, Request, read_request
from ..deployment.request import TO_BE_INSTALLED
from ..deployment.work import Work
from .environments import versions
from .options import add_file
from .terminal import Terminal, as_json

DESCRIPTION = """\
Install what the plug-ins of an application file ask for: each `use` that is a requirement such as
"shop-catalog==2.0", a wheel, a directory or "git+https://..." gets an environment of its own, with the Python that
`python` names. Equal environments are made once.

What was chosen is written to a lock file beside the application file (app.toml has app.lock), with the hash of every
file: keep it with the application, whoever installs later gets the same. What has failed before is tried again, such as
to compile mukernel for another Python, and an environment of which files are missing is made anew. uv is used where it
is there, pip otherwise; both find packages by their own settings, and in the folders of `wheels = ["FOLDER"]` in
[app]."""
EXAMPLES = """\
examples:
  mukernel install                       what the app.toml here asks for
  mukernel install shop/app.toml --plugin catalog
  mukernel install --upgrade             to the newest versions that fit, whatever was locked"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_file(parser)
    parser.add_argument(
        "--plugin", metavar="NAME", action="append", default=[], help="only this plug-in; may be given several times"
    )
    parser.add_argument(
        "--only-wheels", action="store_true",
        help="build nothing, so that nothing of a package is run while it is installed; only_wheels = true in [app] "
        "says so for good",
    )  # fmt: skip
    parser.add_argument("--upgrade", action="store_true", help="choose anew, and lock that")
    parser.add_argument("--state", metavar="DIR", help="keep environments here (default: by the application's name)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        file, installer, requests = prepared(arguments)
    except (ContractError, NotFound) as error:
        if not arguments.json:
            raise
        problems = list(getattr(error, "differences", ())) or [str(error)]
        return Terminal().say_at_the_end(as_json({"ok": False, "installed": [], "problems": problems}), 1)
    terminal, told = Terminal(), Terminal(sys.stderr)
    done = []
    problems = []
    for name, request in requests.items():
        if arguments.plugin and name not in arguments.plugin:
            continue
        try:
            done.append(install(name, request, installer, arguments.upgrade, told))
        except MukernelError as error:
            problems.append(of_plugin(file, name, str(error)))
    if not arguments.plugin and not problems:
        leave_out(file, installer, requests, arguments.state, told)
    if arguments.json:
        text = as_json({"ok": not problems, "installed": done, "problems": problems})
        return terminal.say_at_the_end(text, int(bool(problems)))
    for each in done:
        terminal.say(f"{terminal.paint(str(each['plugin']), 'bold')}   {each['use']}   {each['environment']}")
    if problems:
        raise ContractError(f"{file.label}: not everything could be installed", problems)
    if not requests:
        terminal.say(
            f"{file.label} has no plug-in that asks for an environment of its own: no `use` is {TO_BE_INSTALLED}"
        )
    return 0


def prepared(arguments: argparse.Namespace) -> tuple[ApplicationFile, Installer, dict[str, Request]]:
    """What is to be installed, and by whom. Raises NotFound, and ContractError for what is wrong before that."""
    file = checked(*read_application_file(arguments.file))
    installer, requests = installer_for(file, arguments.state), requests_of(file)
    installer.only_wheels |= arguments.only_wheels
    checked(file, lock_problems(installer))
    for name in arguments.plugin:
        if name not in requests:
            known = ", ".join(requests) or "none"
            raise NotFound(f"--plugin: got {name!r}, wanted one that has an environment of its own: {known}")
    return file, installer, requests


def leave_out(
    file: ApplicationFile, installer: Installer, requests: Mapping[str, Request], state: str | None, told: Terminal
) -> None:
    """Let the lock file hold no more than is asked for, and what a running application has swapped to or can go back
    to: a rollback obeys it."""
    running = asyncio.run(versions(file.name, state))
    if running is None:  # nobody can say
        return
    swapped = [read_request(use, file.folder) for each in running for use in (each.use, *each.previous)]
    kept = [*requests.values(), *(each for each in swapped if each is not None)]
    installer.keep_locked(kept, Work(told.say))


def install(name: str, request: Request, installer: Installer, upgrade: bool, terminal: Terminal) -> dict[str, object]:
    """Install for one plug-in; what is to be said of that."""
    work = Work(lambda text: terminal.say(f"{name}: {text}"))
    installed, hold = installer.install(request, work, upgrade=upgrade, verify=True)
    hold.close()
    environment = installed.environment
    return {
        "plugin": name, "use": installed.use, "version": installed.version, "environment": environment.name,
        "python": environment.python.version, "size": environment.size, "distributions": environment.distributions,
    }  # fmt: skip
