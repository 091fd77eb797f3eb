"""Messages and mailboxes where no ring carries them: the same attributes and methods, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

from .kind import Kind


class Message:
    """A message where no ring carries it. The same attributes and methods as `ring.Message`."""

    __slots__ = (
        "call", "content", "credit", "deadline", "flags", "interface", "kind", "lacking", "mailbox", "method",
        "priority", "span", "trace_high", "trace_low",
    )  # fmt: skip

    def __init__(
        self, kind: int, call: int, content: bytes, method: int = 0, interface: int = 0, priority: int = 0,
        deadline: int = 0, credit: int = 0, flags: int = 0, trace: tuple[int, int, int] | None = None,
    ) -> None:  # fmt: skip
        self.kind, self.call, self.content, self.method, self.interface = kind, call, content, method, interface
        self.priority, self.deadline, self.credit, self.flags = priority, deadline, credit, flags
        self.trace_high, self.trace_low, self.span = trace or (0, 0, 0)
        self.mailbox: Mailbox | None = None
        self.lacking = 0  # bytes of a body that there was no memory for

    @property
    def body(self) -> bytes:
        return self.content

    def take(self) -> bytes:
        """Mark the message as started; return its body. Raises MemoryError where it does not fit: started it is."""
        if self.mailbox is not None and self.kind < Kind.ITEM:
            self.mailbox.started(self)
        if self.lacking:
            raise MemoryError(f"there is no memory for a body of {self.lacking} bytes")
        return self.content

    def discard(self) -> None:
        """Take it out, never to be run; it counts as refused."""
        if self.mailbox is not None and self.kind < Kind.ITEM:
            self.mailbox.discarded(self)

    def finished(self, refused: bool = False) -> None:
        """The reply is out: the call is in flight no more."""
        if self.mailbox is not None and self.kind != Kind.ONEWAY:
            self.mailbox.finished(self, refused)


@dataclass(slots=True)
class Mailbox:
    """What a server knows of one caller's calls where no ring keeps the count."""

    accepted: int = 0
    taken: int = 0
    answered: int = 0
    refused: int = 0
    running: dict[int, Message] = field(default_factory=dict)

    def started(self, message: Message) -> None:
        self.taken += 1
        if message.kind == Kind.ONEWAY:
            self.answered += 1
        else:
            self.running[message.call] = message

    def discarded(self, message: Message) -> None:
        self.started(message)
        if message.kind != Kind.ONEWAY:
            self.finished(message, True)

    def finished(self, message: Message, refused: bool) -> None:
        self.running.pop(message.call, None)
        if refused:
            self.refused += 1
        else:
            self.answered += 1
