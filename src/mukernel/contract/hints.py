"""What annotations mean, also where they name what their module imports for type checkers only."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

FOR_CHECKERS = "TYPE_CHECKING"


def type_hints(function: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """As typing.get_type_hints, with Annotated and the names in `namespace`. What a name below `if TYPE_CHECKING:` is
    imported from is imported now. Raises NameError for other names that are not there, and what evaluating raises."""
    known = dict(namespace)
    while True:
        try:
            return typing.get_type_hints(function, localns=known, include_extras=True)
        except NameError as error:
            module, name = getattr(inspect.unwrap(function), "__globals__", {}), error.name or ""
            found = [] if name in known else imported_for_checkers(module, name)
            if not found:
                raise
            known[name] = found[0]


def imported_for_checkers(module: Mapping[str, Any], wanted: str) -> list[Any]:
    """What the source of a module, of which there are the variables, imports by the name `wanted` below `if
    TYPE_CHECKING:`; of several imports, as for different versions of Python, the first that can be made."""
    for statement, alias in imports_for_checkers(module.get("__file__") or "", wanted):
        try:
            return [imported(statement, alias, module.get("__package__") or "")]
        except Exception:  # whatever is raised there: it is not there for who reads the types
            continue
    return []


def imported(statement: ast.Import | ast.ImportFrom, alias: ast.alias, package: str) -> Any:
    """What an import gives a name to. Raises what importing does, AttributeError."""
    level = getattr(statement, "level", None)
    if level is None:  # import a.b [as c]
        whole = importlib.import_module(alias.name)
        return whole if alias.asname else importlib.import_module(alias.name.partition(".")[0])
    origin = importlib.import_module("." * level + (getattr(statement, "module", None) or ""), package)
    if not hasattr(origin, alias.name):  # then it is a module of that package
        importlib.import_module(f"{origin.__name__}.{alias.name}")
    return getattr(origin, alias.name)


def imports_for_checkers(file: str, wanted: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, ast.alias]]:
    """Where a source imports a name below `if TYPE_CHECKING:`; nowhere, if it can't be read."""
    import ast  # here, as most processes never ask

    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, ValueError, SyntaxError):
        return
    for choice in ast.walk(tree):
        if isinstance(choice, ast.If) and FOR_CHECKERS in (
            getattr(choice.test, "id", ""), getattr(choice.test, "attr", "")
        ):  # fmt: skip
            for each in (inner for outer in choice.body for inner in ast.walk(outer)):
                if isinstance(each, ast.Import | ast.ImportFrom):
                    for alias in each.names:
                        if (alias.asname or alias.name.partition(".")[0]) == wanted:
                            yield each, alias
