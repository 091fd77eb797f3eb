"""Replies: takes calls out of their mailboxes, sends what they ended with, and accounts for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from ..contract.lending import MARK, received
from . import refusal
from .contract import Received, Wire
from .kind import Kind
from .lane import let_go, loaded
from .served import ServedMethod


class Replies:
    """Those of one server. `now_ns`: the clock of deadlines; `stopped`: why what still ran was cut off."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self.stopped: bytes | None = None

    def reply(self, wire: Wire, message: Received, kind: int, body: bytes, refused: bool = False) -> None:
        """Send what a call ended with and account for it."""
        lends = type(body) is not bytes and message.kind != 1
        if lends and self.unwanted(message, refused):
            lends, refused, kind, body = False, True, 9, refusal.cut_off(message)
        if refused and kind == 9 and self.stopped is not None:
            kind, body = Kind.GONE, self.stopped
        if lends:
            body = loaded(wire.lane, body)
            kind = Kind.LENT if body.startswith(MARK) else kind
        sender: Any = wire.right_to_send
        try:
            short = sender is not None and not (refused or wire.outbox or message.kind == 1)
            if short and message.answer(sender, kind, body):  # type: ignore[attr-defined]  # a ring's
                return
            if message.kind != 1 and (wire.outbox or not wire.send(kind, message.call, body)):
                wire.post_last(partial(message.finished, refused), kind, message.call, body)  # in flight until then
                return
        except (ValueError, OSError, MemoryError) as error:  # larger than any message, or than the memory that is left
            wire.post(Kind.ERROR, message.call, refusal.unsendable(error))
        message.finished(refused)

    def unwanted(self, message: Received, cancelled: bool) -> bool:
        """Does nobody wait for a reply? A method may return after its call was cut off, by computing or catching that.
        What it lends would stay on its way for as long as a thread that made the call makes no other. (What is stopped
        is `cancelled`, too, and its caller waits.)"""
        return (cancelled and self.stopped is None) or 0 < message.deadline < self.now_ns()

    def taken_out(self, wire: Wire, message: Received) -> bytes | None:
        """The body of a message; None where there is no memory for it. A broken record breaks its wire."""
        try:
            return message.take()
        except ConnectionError as broken:
            wire.fail(str(broken))
            return b""
        except MemoryError:
            return None

    def taken(self, wire: Wire, message: Received) -> bytes | None:
        """As `taken_out`, with what it lends."""
        body = self.taken_out(wire, message)
        return body if message.kind in (Kind.CREDIT, Kind.CANCEL) else cast(bytes, received(body))

    def not_taken(self, wire: Wire, message: Received, method: ServedMethod, error: Exception) -> None:
        """A call could not be started: its record is broken, or its body does not fit into this process."""
        if isinstance(error, ConnectionError):
            wire.fail(str(error))
        else:
            self.reply(wire, message, Kind.ERROR, refusal.too_large(method, error), refused=True)

    def discard(self, wire: Wire, message: Received) -> None:
        """Take a call that is not run, and that nobody waits for any more, out of its mailbox."""
        wire.overtaken.discard(message.call)
        try:
            message.discard()
        except ConnectionError as broken:
            wire.fail(str(broken))
        else:
            let_go(message.body)

    def refuse(self, wire: Wire, message: Received, kind: int, body: bytes) -> None:
        """Answer a call that is not run. Where its channel can account for no more calls in flight it stays in the
        mailbox until the answer is out, for a successor, should we die in between."""
        if not wire.saturated:
            let_go(self.taken_out(wire, message))
            self.reply(wire, message, kind, body, refused=True)
        elif message.kind == Kind.ONEWAY:
            self.discard(wire, message)
        else:
            wire.post_last(partial(self.discard, wire, message), kind, message.call, body)
