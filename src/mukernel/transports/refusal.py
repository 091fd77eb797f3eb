"""Refusals: what a server answers, encoded, to calls that it could not start or whose reply it could not send."""

from __future__ import annotations

import asyncio

from ..contract import ContractError, DeadlineExceeded, Overloaded, encode_fault
from .contract import Received
from .served import ServedMethod


def unknown_method(number: int) -> bytes:
    """There is no method of that number in the table of the channel."""
    return encode_fault(ContractError(f"there is no method of number {number} in the contract of this channel"))


def too_late(method: ServedMethod) -> bytes:
    """The deadline had passed in the mailbox."""
    return encode_fault(DeadlineExceeded(f"{method.name}: the deadline had passed before the call was started"))


def cut_off(message: Received) -> bytes:
    """Its method returned when nobody waited any more: the call ends as if it had heeded that."""
    late = DeadlineExceeded("the method returned after the deadline of its call")
    return encode_fault(late if message.deadline else asyncio.CancelledError())


def too_large(method: ServedMethod, error: Exception) -> bytes:
    """The body does not fit into this process; `error` says how large it is."""
    return encode_fault(Overloaded(f"{method.name}: {error} in the process of the plug-in"))


def item_too_large(method: ServedMethod) -> bytes:
    """An item of a channel does not fit into this process."""
    return encode_fault(Overloaded(f"{method.name}: the plug-in's process has no memory for an item that came"))


def unreadable(method: ServedMethod, error: Exception, body: bytes) -> bytes:
    """The arguments in `body` could not be decoded; `error` is what was raised."""
    if isinstance(error, MemoryError):
        return too_large(method, MemoryError(f"there is no memory for arguments of {len(body)} bytes"))
    return encode_fault(method.codec.arguments_error(error))


def unsendable(error: Exception) -> bytes:
    """The reply is larger than any message, or than the memory that is left."""
    return encode_fault(Overloaded(f"the reply could not be sent: {error}"))
