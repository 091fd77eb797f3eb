"""A call that a server runs."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from ..contract import DeadlineExceeded, encode_fault
from .context import CallContext
from .contract import Received, Wire
from .inputs import InputStream
from .kind import Kind
from .served import ServedMethod

current_stream: ContextVar[Running | None] = ContextVar("mukernel_stream", default=None)


def served_stream(name: str) -> Running | None:
    """The stream that is being run for a caller of another process, where it is of the method of that name, such as
    "Files.watch"; None: whoever reads it runs it."""
    found = current_stream.get()
    return found if found is not None and found.method.name == name else None


class Running:
    """One call that is being run: where its reply goes, and what belongs to it."""

    __slots__ = (
        "cancelled", "context", "credit", "ending", "inputs", "message", "method", "more_credit", "task", "timer",
        "wire",
    )  # fmt: skip

    def __init__(self, wire: Wire, message: Received, method: ServedMethod) -> None:
        self.wire, self.message, self.method = wire, message, method
        self.task: asyncio.Task[None] | None = None
        self.context: CallContext | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.inputs: InputStream | None = None
        self.credit = message.credit
        self.more_credit: asyncio.Future[None] | None = None
        self.ending: Exception | None = None  # of a stream: how it ends where its caller takes nothing
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

    def has_more_credit(self) -> None:
        """Or has to go on otherwise."""
        if self.more_credit is not None and not self.more_credit.done():
            self.more_credit.set_result(None)

    def end(self, error: Exception) -> None:
        """End a stream in `error`, where its caller takes none of its items now, or later; an item that waits for that
        is lost."""
        self.ending = error
        self.has_more_credit()

    def give_credit(self, items: int) -> None:
        """Let the caller of a channel send so many items more."""
        self.wire.post(Kind.CREDIT, self.message.call, b"", 0, 0, 0, 0, items)
