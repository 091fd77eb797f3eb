"""mukernel: a microkernel for Python applications. The public names, nothing else."""

import importlib
from typing import TYPE_CHECKING, Any

from . import shared
from .contract import (
    Blocking,
    Buffer,
    Capability,
    ContractError,
    DeadlineExceeded,
    Granted,
    Interface,
    MukernelError,
    NotFound,
    Overloaded,
    PermissionDenied,
    Plugin,
    PluginCrashed,
    RemoteError,
    SwapFailed,
    Unavailable,
    idempotent,
    interface_of,
    oneway,
    raises,
)
from .core.builtin import Clock
from .core.passing_on import narrow, redeem
from .sandbox.policy import Sandbox
from .transports.context import deadline, priority
from .transports.granted import caller_grant

if TYPE_CHECKING:
    from .core.kernel import Kernel
    from .core.kernel_thread import KernelThread
    from .core.ledger import Ledger
    from .core.registry import RestartPolicy
    from .core.replacement import SwapReport

__all__ = [
    "Blocking",
    "Buffer",
    "Capability",
    "Clock",
    "ContractError",
    "DeadlineExceeded",
    "Granted",
    "Interface",
    "Kernel",
    "KernelThread",
    "Ledger",
    "MukernelError",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Plugin",
    "PluginCrashed",
    "RemoteError",
    "RestartPolicy",
    "Sandbox",
    "SwapFailed",
    "SwapReport",
    "Unavailable",
    "caller_grant",
    "deadline",
    "idempotent",
    "interface_of",
    "narrow",
    "oneway",
    "priority",
    "raises",
    "redeem",
    "shared",
]

# The kernel's own side. A process of plug-ins has no use for it, and every page of memory counts there.
_WHEN_ASKED_FOR = {
    "Kernel": "kernel", "KernelThread": "kernel_thread", "Ledger": "ledger", "RestartPolicy": "registry",
    "SwapReport": "replacement",
}  # fmt: skip


if not TYPE_CHECKING:  # a checker is to know these names and no others

    def __getattr__(name: str) -> Any:
        if name not in _WHEN_ASKED_FOR:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(f".core.{_WHEN_ASKED_FOR[name]}", __name__), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
