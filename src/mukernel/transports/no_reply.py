"""No reply: what came in its stead, as the exception that a caller gets."""

from __future__ import annotations

from contextlib import suppress

from ..contract import ContractError, MukernelError, Overloaded, PluginCrashed, Unavailable, decode_fault
from .kind import Kind
from .remote import RemoteMethod

RERUNS = 8  # crashes an idempotent call survives before it is given up
LONGEST_ENDING = 500  # characters of how a process ended, in the message of a call


def no_reply(kind: int, body: bytes, method: RemoteMethod) -> Exception:
    """The exception that a message other than a reply stands for."""
    if kind == Kind.ERROR:
        try:
            return decode_fault(body, method.raises)
        except ContractError as malformed:  # the end of this call, and of nothing else
            return ContractError(f"{method.name}: {malformed}")
    if kind == Kind.INTERRUPTED:
        again = (
            f"it was run {RERUNS + 1} times" if method.idempotent else "it is not run again: not declared @idempotent"
        )
        return PluginCrashed(f"{method.name}: its process died while it ran this call{ending(body)}; {again}")
    if kind == Kind.GONE:
        return Unavailable(f"{method.name}: {body.decode(errors='replace')}")
    return MukernelError(f"{method.name}: a message of unknown kind {kind} came instead of a reply")


def ending(body: bytes) -> str:
    """How a process ended, in brackets, where whoever tells of it knows: the kernel, in 500 characters at most."""
    return f" ({body.decode(errors='replace')[:LONGEST_ENDING]})" if body else ""


def mailbox_closed(kind: int, body: bytes) -> str:
    """Why a wire is closed whose server has told all at once what is to become of the calls that it has not taken."""
    return "its mailbox is closed" if kind == Kind.ERROR else body.decode(errors="replace")


def had_no_room(kind: int, body: bytes) -> bool:
    """Was a mailbox closed since its server has no room for it? It would have none for another."""
    with suppress(ContractError):
        return kind == Kind.ERROR and isinstance(decode_fault(body), Overloaded)
    return False
