"""The errors that mukernel raises, and the small integers by which a wire carries them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class MukernelError(Exception):
    """Root of every error that mukernel raises itself."""


class NotFound(MukernelError):
    """No plug-in, interface, method or node of that name."""


class ContractError(MukernelError):
    """A declaration, a value or a pair of contracts does not fit.

    `differences` has one line for each thing that does not fit; it is empty when the message says it all.
    """

    def __init__(self, message: str, differences: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.differences: list[str] = list(differences)

    def __str__(self) -> str:
        return "\n  - ".join([super().__str__(), *self.differences])


class DeadlineExceeded(MukernelError):
    """The call's deadline passed before its reply came."""


class Overloaded(MukernelError):
    """The mailbox is full, or the limit of a route is reached; the call was not run."""


class Unavailable(MukernelError):
    """Nothing serves the interface at the moment; the call was not run, or says that it was stopped while it ran."""


class PluginCrashed(MukernelError):
    """The process died while it ran the call; whether the call took effect is unknown."""


class PermissionDenied(MukernelError):
    """The caller was not granted the interface, or the plug-in not the thing it reached for."""


class SwapFailed(MukernelError):
    """A swap, a move or a scale was rolled back; the message says at which step and why.

    `report`: the SwapReport of what happened, where the swap had begun.
    """

    report: Any = None


class RemoteError(MukernelError):
    """The plug-in raised an exception that its interface does not declare.

    type_name is the exception's class name on the other side, message its text, traceback the text of the
    other side's traceback ("" when there is none).
    """

    def __init__(self, type_name: str, message: str, traceback: str = "") -> None:
        super().__init__(type_name, message, traceback)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        head = f"{self.type_name}: {self.message}" if self.message else self.type_name
        return f"{head}\n\nThe other side's traceback:\n{self.traceback.rstrip()}" if self.traceback else head


# A code, once released, keeps its meaning for ever: peers of different versions exchange them. 0 is
# "declared by the interface" (see faults.py) and so never a key here.
ERROR_CODES: dict[int, type[MukernelError]] = {
    1: MukernelError,
    2: NotFound,
    3: ContractError,
    4: DeadlineExceeded,
    5: Overloaded,
    6: Unavailable,
    7: PluginCrashed,
    8: PermissionDenied,
    9: SwapFailed,
    10: RemoteError,
}
CODE_OF_ERROR: dict[type[MukernelError], int] = {error: code for code, error in ERROR_CODES.items()}


def error_code(error: BaseException) -> int:
    """The code of the nearest framework class of `error`, RemoteError's for any other exception."""
    for ancestor in type(error).__mro__:
        if ancestor in CODE_OF_ERROR:
            return CODE_OF_ERROR[ancestor]
    return CODE_OF_ERROR[RemoteError]
