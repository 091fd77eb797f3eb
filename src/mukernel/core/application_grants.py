"""The grants in an application file, checked against what its plug-ins ask for and serve, before any is started."""

from __future__ import annotations

from collections.abc import Mapping

from ..contract import Capability, ContractError
from .application_file import ApplicationFile
from .builtin import BUILTIN
from .capabilities import checked_rights, is_sandbox, unknown
from .inspection import Inspected


def grant_problems(file: ApplicationFile, inspected: Mapping[str, Inspected], complete: bool) -> list[str]:
    """One line for each grant of what nobody serves or asks for, or that its server would not look at; and for each
    interface that a constructor requires and that is not granted. `complete`: all that is served is known."""
    lines = []
    for name, table in file.plugins.items():
        where = f"{file.label}: plugins.{name}.grants"
        needs = inspected[name].needs
        for grant in table.grants or ():
            lines += [f"{where}: {line}" for line in wrong_with(grant, name, inspected, complete)]
        granted = {each.interface for each in table.grants or ()}
        if table.grants is not None or is_sandbox(table.placement):
            lines += [
                f"{where}: {name} needs {need.interface.name} (parameter {need.parameter!r}), which is not granted; "
                f'add "{need.interface.name}"'
                for need in needs
                if need.required and need.interface.name not in granted and need.interface.name not in BUILTIN
            ]
    return lines


def wrong_with(grant: Capability, name: str, inspected: Mapping[str, Inspected], complete: bool) -> list[str]:
    """What is wrong with one grant."""
    served = {each.name for seen in inspected.values() for each in seen.interfaces}
    asked = {need.interface.name for need in inspected[name].needs}
    if grant.interface not in served | asked and grant.interface not in BUILTIN:
        return [unknown(grant, sorted(served | asked))] if complete else []
    lines = []
    for server, seen in inspected.items():
        if any(each.name == grant.interface for each in seen.interfaces):
            try:
                checked_rights(server, seen.rights, seen.scopes, grant)
            except ContractError as error:
                lines.append(str(error))
    return lines
