"""What plug-ins of an application file that share a process must have alike, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kernel.process import Limits
from .application_environments import requests_of
from .application_file import ApplicationFile
from .messages import Source
from .registry import Options
from .sharing import settings_of_process, unlike


def sharing_problems(file: ApplicationFile) -> list[str]:
    """One line for each setting that a plug-in does not have as the first of its process does."""
    lines: list[str] = []
    groups: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, table in file.plugins.items():
        _, _, group = table.placement.partition(":")
        if not group:
            continue
        limits = Limits(memory=table.memory, cpu_seconds=table.cpu)
        options = Options(table.placement, limits=limits, sandbox=table.sandbox, shared_memory=table.shared_memory)
        own = settings_of_process(options)
        first, others = groups.setdefault(group, (name, own))
        lines += [
            f"{file.label}: plugins.{name}.{key}: got {mine}, where {first!r}, which shares the process {group!r}, has "
            f"{theirs}; wanted the same {key} for all of that name, or another name in `placement`"
            for key, mine, theirs in unlike(own, others)
        ]
    return lines


def unlike_environments(file: ApplicationFile, sources: Mapping[str, Source]) -> list[str]:
    """One line for each plug-in that has another environment than the first of its process. `sources`: of what is
    installed; of the others which have one of their own nothing is known yet."""
    lines: list[str] = []
    groups: dict[str, tuple[str, str]] = {}
    for name, table in file.plugins.items():
        _, _, group = table.placement.partition(":")
        if not group or (name not in sources and name in requests_of(file)):
            continue
        own = sources[name].environment if name in sources else ""
        first, others = groups.setdefault(group, (name, own))
        if own != others:
            lines.append(
                f"{file.label}: plugins.{name}.use: got {table.use!r}, which has another environment than {first!r}, "
                f"which shares the process {group!r}; wanted the same environment for all of that name, or another "
                "name in `placement`"
            )
    return lines
