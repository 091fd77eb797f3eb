"""`mukernel new`: make a package that has a plug-in, a test and an app.toml."""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path

from ..contract import ContractError
from .template import FILES
from .terminal import Terminal, UsageError

DESCRIPTION = """\
Make the folder NAME with a package: an interface in a module of its own, a plug-in that implements it, a
test, an app.toml that runs at once, pyproject.toml and README."""
EXAMPLES = """\
examples:
  mukernel new hello
  mukernel run hello/app.toml"""
WANTED = (
    "a name such as 'hello' or 'web-shop': lower-case letters and digits, and '-' or '_' between them, that begins "
    "with a letter"
)
# What the package, its tests and its installation need or may be given later, though it may not be installed now.
RESERVED = {"mukernel", "msgspec", "numpy", "uvloop", "pytest", "setuptools", "pip", "tests", "test"}
IMPORTED = {"conftest", "sitecustomize", "usercustomize"}  # by pytest, and by Python as it starts


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "name", metavar="NAME", help="of the folder, the application and (with '_' for '-') the package"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.name)
    package = package_of(path.name)
    if path.exists():
        raise ContractError(f"{path} exists already; choose another name, or remove it")
    for name, text in FILES.items():
        file = path / filled(name, path.name, package)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(filled(text, path.name, package))
    terminal = Terminal()
    terminal.say(f"{path} is made; next:")
    terminal.say(f"  cd {path}\n  mukernel run\n  mukernel call Greeter.greet name=Ada     # in another terminal")
    return 0


def package_of(name: str) -> str:
    """The name of the package. Raises UsageError for a name that can't be imported, or that hides another
    module."""
    package = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or len(name) > 64 or keyword.iskeyword(package):
        raise UsageError(f"NAME: got {name!r}, wanted {WANTED}")
    if package in IMPORTED:
        raise UsageError(f"NAME: Python or pytest imports a module {package!r} by itself; choose another")
    if package in RESERVED or package in sys.stdlib_module_names or is_installed(package):
        raise UsageError(f"NAME: {package!r} would hide a module of that name; choose another")
    return package


def is_installed(package: str) -> bool:
    """Does Python find a module of that name, elsewhere than in the working folder, where only `python -m` looks?"""
    for (
        finder
    ) in sys.meta_path:  # not find_spec of importlib.util: what is loaded already says nothing of what there is
        found = finder.find_spec(package, None)
        if found is not None:
            places = list(found.submodule_search_locations or ()) or [found.origin or ""]
            return any(Path(place).parent != Path.cwd() for place in places)
    return False


def filled(text: str, name: str, package: str) -> str:
    return text.replace("@NAME@", name).replace("@PACKAGE@", package)
