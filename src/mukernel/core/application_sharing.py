"""What plug-ins of an application file that share a process must have alike, checked before anything starts."""

from __future__ import annotations

from typing import Any

from ..kernel.process import Limits
from .application_file import ApplicationFile
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
