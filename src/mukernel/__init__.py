"""mukernel: a microkernel for Python applications. The public names, nothing else."""

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
from .core.kernel import Kernel
from .core.kernel_thread import KernelThread
from .core.ledger import Ledger
from .core.passing_on import narrow, redeem
from .core.registry import RestartPolicy
from .core.replacement import SwapReport
from .sandbox.policy import Sandbox
from .transports.context import deadline, priority
from .transports.granted import caller_grant

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
