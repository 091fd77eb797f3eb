"""Sharing: what plug-ins that share a process must have alike, since it has one of each, from its start to its end."""

from __future__ import annotations

from typing import Any

from .reach import sandbox_of
from .registry import Options


def settings_of_process(options: Options) -> dict[str, Any]:
    """What a plug-in wants of its process, by the names that operators know. None: what any has. (Outside of a sandbox
    `shared_memory` is no limit of the system's, and can grow with whoever comes.)"""
    limits, sandbox = options.limits, sandbox_of(options)
    return {
        "sandbox": sandbox,
        "shared_memory": options.shared_memory if sandbox is not None else None,
        "memory": limits.memory,
        "cpu": limits.cpu_seconds,
        "limits.files": limits.files,
        "limits.processes": limits.processes,
        "limits.core": limits.core,
    }


def unlike(own: dict[str, Any], others: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The settings in which two differ: the name of each, and both values as texts."""
    return [(key, text(key, value), text(key, others[key])) for key, value in own.items() if value != others[key]]


def text(key: str, value: Any) -> str:
    unit = {"shared_memory": " bytes", "memory": " bytes", "cpu": " s", "limits.core": " bytes"}.get(key, "")
    return "none" if value is None else f"{value:,}{unit}" if isinstance(value, int) else str(value)
