"""Questions and answers over a link, with file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from ..contract import Unavailable, decode_fault, encode_fault
from ..transports.link import Link, close_all
from . import messages
from .messages import Envelope, Failed

Handler = Callable[[Any, list[int]], Awaitable[tuple[Any, Sequence[int]]]]


class Conversation:
    """One end of a link. `handler(message, rights)` answers what the other end asks; it owns the rights.

    `on_closed` is called once when the other end is gone; every open question then fails with Unavailable.
    """

    def __init__(
        self, link: Link, loop: asyncio.AbstractEventLoop, handler: Handler, on_closed: Callable[[], None]
    ) -> None:
        self.link, self.loop, self.handler, self.on_closed = link, loop, handler, on_closed
        self.numbers = itertools.count(1)
        self.questions: dict[int, asyncio.Future[tuple[Any, list[int]]]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        link.watch(loop, self.arrived)

    async def ask(self, content: Any, rights: Sequence[int] = ()) -> tuple[Any, list[int]]:
        """Send a question; return the answer and its rights. Raises what the other end raised, or Unavailable."""
        number = next(self.numbers)
        future: asyncio.Future[tuple[Any, list[int]]] = self.loop.create_future()
        self.questions[number] = future
        try:
            self.send(Envelope(number, False, content), rights)
            return await future
        finally:
            self.questions.pop(number, None)
            if future.done() and not future.cancelled():
                future.exception()  # where sending failed it was told to the future, too, and nobody looks there

    def tell(self, content: Any, rights: Sequence[int] = ()) -> None:
        """Send what wants no answer."""
        self.send(Envelope(0, False, content), rights)

    def ask_blocking(self, content: Any, rights: Sequence[int] = ()) -> tuple[Any, list[int]]:
        """As `ask`, on the loop's own thread, which stands still; what else arrives is handled after it."""
        number = next(self.numbers)
        self.send(Envelope(number, False, content), rights)
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        while True:
            poll.poll()
            received = self.receive()
            if received is None:
                raise Unavailable("the kernel is gone")
            answer: tuple[Any, list[int]] | None = None
            for envelope, fds in received:  # all of them: what came behind the answer is not lost
                if envelope.answer and envelope.number == number:
                    answer = envelope.content, fds
                else:
                    self.loop.call_soon(self.handle, envelope, fds)
            if answer is not None:
                return self.answer_of(answer[0]), answer[1]

    def send(self, envelope: Envelope, rights: Sequence[int]) -> None:
        if self.closed:
            raise Unavailable("the process at the other end is gone")
        try:
            self.link.send(messages.encode(envelope), rights)
        except OSError as error:
            self.close()
            raise Unavailable(f"the process at the other end is gone ({error})") from None
        if self.link.backlog:
            self.loop.add_writer(self.link.fileno(), self.flush)

    def flush(self) -> None:
        try:
            self.link.flush()
        except OSError:
            self.close()
            return
        if not self.link.backlog:
            self.loop.remove_writer(self.link.fileno())

    def receive(self) -> list[tuple[Envelope, list[int]]] | None:
        received: list[tuple[Envelope, list[int]]] = []
        try:
            while (found := self.link.receive()) is not None:
                received.append(self.understood(*found))
        except (ConnectionError, MemoryError, msgspec.MsgspecError):  # gone, or it says what nobody understands
            if not received:
                self.close()
                return None
        return received

    def understood(self, data: bytes, rights: list[int]) -> tuple[Envelope, list[int]]:
        """A message, and the rights that it is one to bring; others are given up. Raises MsgspecError."""
        try:
            envelope = messages.decode(data)
        except msgspec.MsgspecError:
            close_all(rights)
            raise
        if rights and not isinstance(envelope.content, messages.BRINGS_RIGHTS):
            close_all(rights)
            rights = []
        return envelope, rights

    def arrived(self) -> None:
        for envelope, rights in self.receive() or ():
            self.handle(envelope, rights)

    def handle(self, envelope: Envelope, rights: list[int]) -> None:
        if not envelope.answer:
            task = self.loop.create_task(self.respond(envelope, rights))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            return
        future = self.questions.get(envelope.number)
        if future is None or future.done():
            close_all(rights)
            return
        try:
            future.set_result((self.answer_of(envelope.content), rights))
        except Exception as error:
            future.set_exception(error)

    def answer_of(self, content: Any) -> Any:
        if isinstance(content, Failed):
            raise decode_fault(content.fault)
        return content

    async def respond(self, envelope: Envelope, rights: list[int]) -> None:
        given: Sequence[int] = ()
        try:
            content, given = await self.handler(envelope.content, rights)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not envelope.number:
                self.loop.call_exception_handler({"message": f"{envelope.content!r} failed", "exception": error})
                return
            content = Failed(encode_fault(error))
        if envelope.number and not self.closed:
            with contextlib.suppress(Unavailable):  # it has gone meanwhile
                self.send(Envelope(envelope.number, True, content), given)

    def close(self) -> None:
        """Close this end; told once to `on_closed`."""
        if self.closed:
            return
        self.closed = True
        self.link.unwatch(self.loop)
        self.link.close()
        for future in list(self.questions.values()):
            if not future.done():
                future.set_exception(Unavailable("the process at the other end is gone"))
        for task in list(self.tasks):
            task.cancel()
        self.on_closed()
