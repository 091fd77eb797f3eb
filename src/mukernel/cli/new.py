"""`mukernel new`: make a package that has a plug-in, a test and an app.toml."""

from __future__ import annotations

import argparse
import keyword
import re
import shutil
import sys
from pathlib import Path

from ..contract import ContractError
from ..core.checks import LONGEST_NAME
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
    f"with a letter, of at most {LONGEST_NAME} characters"
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
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise ContractError(f"{path} exists already; choose another name, or remove it") from None
    except OSError as error:
        raise ContractError(f"{path} can't be made: {error.strerror}") from None
    try:
        write(path, package)
    except BaseException:  # whole or not at all
        shutil.rmtree(path, ignore_errors=True)
        raise
    terminal = Terminal()
    terminal.say(f"{path} is made; next:")
    terminal.say(f"  cd {path}\n  mukernel run\n  mukernel call Greeter.greet name=Ada     # in another terminal")
    return 0


def write(path: Path, package: str) -> None:
    """Every file of the package. Raises ContractError for one that can't be written."""
    for name, text in FILES.items():
        file = path / filled(name, path.name, package)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(filled(text, path.name, package))
        except OSError as error:
            raise ContractError(f"{file} can't be written: {error.strerror}; nothing is kept of {path}") from None


def package_of(name: str) -> str:
    """The name of the package. Raises UsageError for a name that can't be imported, or that hides another
    module."""
    package = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise UsageError(f"NAME: got {name!r}, wanted {WANTED}")
    if keyword.iskeyword(package):
        raise UsageError(f"NAME: {name!r} is a word of Python's own, which no module can be named; choose another")
    if len(name) > LONGEST_NAME:
        raise UsageError(f"NAME: got {len(name)} characters, {name[:20]!r}..., wanted at most {LONGEST_NAME}")
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
