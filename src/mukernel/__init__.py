"""mukernel: a microkernel for Python applications. The public names, nothing else."""

from . import shared
from .contract import (
    Blocking,
    Buffer,
    ContractError,
    DeadlineExceeded,
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
    oneway,
    raises,
)
from .core.builtin import Clock
from .core.kernel import Kernel
from .core.kernel_thread import KernelThread
from .core.ledger import Ledger
from .core.registry import RestartPolicy
from .core.replacement import SwapReport
from .transports.context import deadline, priority

__all__ = [
    "Blocking",
    "Buffer",
    "Clock",
    "ContractError",
    "DeadlineExceeded",
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
    "SwapFailed",
    "SwapReport",
    "Unavailable",
    "deadline",
    "idempotent",
    "oneway",
    "priority",
    "raises",
    "shared",
]
