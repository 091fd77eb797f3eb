"""Deployment: an environment of its own for a plug-in, with its own dependencies and its own Python.

A **request** names what to install; the **installer** resolves it, writes what it found to the **lock file**, and puts
it into an **environment** of the **store**, which is there whole or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .request import Request, read_request

if TYPE_CHECKING:
    from .installer import Installer

__all__ = ["Installer", "Request", "read_request"]


def __getattr__(name: str) -> Any:
    """The installer imports much that a kernel whose plug-ins are all here does not need."""
    if name == "Installer":
        from .installer import Installer

        return Installer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
