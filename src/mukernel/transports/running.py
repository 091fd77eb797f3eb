"""A call that a server runs."""

from __future__ import annotations

import asyncio

from ..contract import DeadlineExceeded, encode_fault
from .context import CallContext
from .contract import Received, Wire
from .inputs import InputStream
from .kind import Kind
from .served import ServedMethod


class Running:
    """One call that is being run: where its reply goes, and what belongs to it."""

    __slots__ = (
        "cancelled", "context", "credit", "inputs", "message", "method", "more_credit", "task", "timer", "wire",
    )  # fmt: skip

    def __init__(self, wire: Wire, message: Received, method: ServedMethod) -> None:
        self.wire, self.message, self.method = wire, message, method
        self.task: asyncio.Task[None] | None = None
        self.context: CallContext | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.inputs: InputStream | None = None
        self.credit = message.credit
        self.more_credit: asyncio.Future[None] | None = None
        self.cancelled = False

    def fault(self, error: BaseException) -> bytes:
        """What it is answered that ends in an exception."""
        if isinstance(error, asyncio.CancelledError) and self.context is not None and self.context.deadline:
            error = DeadlineExceeded(f"{self.method.name}: cancelled at its deadline")
        return encode_fault(error, self.method.raises)

    @property
    def expected(self) -> bool:
        """Does somebody wait for its end?"""
        return self.message.kind != Kind.ONEWAY and self.wire.closed is None

    def give_credit(self, items: int) -> None:
        """Let the caller of a channel send so many items more."""
        self.wire.post(Kind.CREDIT, self.message.call, b"", 0, 0, 0, 0, items)
