"""What the sandboxes of an application file reach, checked before anything is imported, installed or mounted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..contract import MukernelError
from ..deployment import read_request
from ..deployment.store import default_folder
from .application_file import ApplicationFile, PluginTable
from .loader import source_of
from .messages import Source
from .reach import Reach
from .registry import Options
from .state_folder import base


def reach_problems(file: ApplicationFile, state: str | None) -> list[str]:
    """One line for each folder that a sandbox is given and must not have. `state`: the state folder, where it was
    named."""
    store = state or str(default_folder(file.name))
    plugins = {
        name: (source_for(file, table, store), Options(table.placement, config=table.config, sandbox=table.sandbox))
        for name, table in file.plugins.items()
    }
    wheels = [os.path.join(file.folder, each) for each in file.wheels]
    reach = Reach(
        [str(Path(state).absolute() if state else base() / file.name)],
        [store, *wheels],
        [file.folder],
    )
    return [f"{file.label}: plugins.{name}.{text}" for name, text in reach.problems(plugins)]


def source_for(file: ApplicationFile, table: PluginTable, store: str) -> Source:
    """Where a plug-in comes from, as far as it is known before it is installed; `store`: where it will be."""
    if read_request(table.use, file.folder) is not None:
        environments = os.path.join(store, "environments")
        return Source("", "", environment=environments, use=table.use, python=table.python, folder=file.folder)
    try:
        return source_of(table.use, file.folder)
    except MukernelError:  # its inspection says what is wrong
        return Source("", "", path=(file.folder, *sys.path))
