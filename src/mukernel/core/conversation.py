"""Questions and answers over a link, with file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
from collections.abc import Awaitable, Callable, Sequence
from time import thread_time
from typing import Any

from ..contract import ContractError, Overloaded, RemoteError, Unavailable, decode_fault, encode_fault
from ..transports.calling import unheeded
from ..transports.descriptors import close_all
from ..transports.eager import start_task
from ..transports.link import LARGEST_RIGHTS, Link
from . import messages
from .allowance import AT_ONCE, Allowance
from .messages import Envelope, Failed

Handler = Callable[[Any, list[int]], Awaitable[tuple[Any, Sequence[int]]]]
LARGEST_OF_PROCESS = 1 << 19  # bytes of what a plug-in's process tells the kernel, but for these:
LARGEST_BUILT = 4 << 20  # bytes of what it says of an instance; a state is as large as its `memory` lets it be
LARGEST_FAULT = 1 << 18  # bytes of an error, so that it fits into that
SHOWN = 4000  # characters of each part of an error that is cut
MOST_UNREAD = 64  # answers that a plug-in's process leaves unread before nothing more is taken from it
MOST_IN_A_TURN = 64  # messages that are taken in one turn of the loop
LONGEST_TURN = 0.005  # seconds after which no more are, though some take longer by themselves
MOST_LAST = 1024  # messages of a process that has gone: more than a socket holds
MOST_COMPLAINTS = 20  # about what the other end has told, and wants no answer to: a log is not to be filled with them


class Conversation:
    """One end of a link. `handler(message, rights)` answers what the other end asks; it owns the rights.

    `on_closed` is called once when the other end is gone; every open question then fails with Unavailable.
    `of_process`: the other end is the process of a plug-in, which may be hostile. It may say only what such a process
    says, in LARGEST_OF_PROCESS bytes, LARGEST_BUILT, or `link.largest` where that is a state; and one that does not
    read what it is answered is not listened to meanwhile. One message is handled before the next is taken. One that
    takes up more of the loop's time than its allowance is not listened to for a while either (`pause`).
    `verdict`: why it has ended, as in "it ...", where that was decided here. `on_unsent`: called with an answer that
    could not be sent, such as for want of files for its rights; the other end is told of an error in its stead.
    """

    def __init__(
        self, link: Link, loop: asyncio.AbstractEventLoop, handler: Handler, on_closed: Callable[[], None],
        of_process: bool = False,
    ) -> None:  # fmt: skip
        self.link, self.loop, self.handler, self.on_closed = link, loop, handler, on_closed
        self.on_unsent: Callable[[Any], None] = lambda answer: None
        self.of_process, self.listens, self.complaints = of_process, True, 0
        self.allowance = Allowance(loop.time())
        self.pause: asyncio.TimerHandle | None = None  # until its end nothing is taken
        self.verdict: str | None = None
        if of_process:
            link.largest, link.most_rights = LARGEST_BUILT, LARGEST_RIGHTS
        self.numbers = itertools.count(1)
        self.questions: dict[int, asyncio.Future[tuple[Any, list[int]]]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        link.watch(loop, self.arrived)

    async def ask(self, content: Any, rights: Sequence[int] = ()) -> tuple[Any, list[int]]:
        """Send a question; return the answer and its rights. Raises what the other end raised, or what `send` does."""
        number = next(self.numbers)
        future: asyncio.Future[tuple[Any, list[int]]] = self.loop.create_future()
        self.questions[number] = future
        try:
            self.send(Envelope(number, False, content), rights)
            return await future
        finally:
            self.questions.pop(number, None)
            unheeded(future)  # where sending failed it was told to the future, too

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
            if self.closed:
                raise Unavailable("the kernel is gone")
            if received is None:
                continue
            envelope, fds = received
            if envelope.answer and envelope.number == number:
                return self.answer_of(envelope.content), fds
            self.loop.call_soon(self.handle, envelope, fds)

    def send(self, envelope: Envelope, rights: Sequence[int]) -> None:
        """Raises Unavailable, Overloaded where this process may open no more files, and ContractError in the process of
        a plug-in for more than the kernel takes."""
        if self.closed:
            raise Unavailable("the process at the other end is gone")
        data = messages.encode(envelope)
        content = envelope.content
        largest = LARGEST_BUILT if isinstance(content, messages.Built) else LARGEST_OF_PROCESS
        if not self.of_process and len(data) > largest and not isinstance(content, messages.OfState):
            raise ContractError(
                f"{subject_of(content)}: got {len(data):,} bytes, wanted at most {largest:,} for the kernel"
            )
        try:
            self.link.send(data, rights)
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
        self.listen_again()

    def listen_again(self) -> None:
        """Where nothing is against it any more."""
        if not self.listens and not self.closed and self.pause is None and len(self.link.backlog) < MOST_UNREAD:
            self.listens = True
            self.link.watch(self.loop, self.arrived)

    def stop_listening(self) -> None:
        if self.listens:
            self.listens = False
            self.loop.remove_reader(self.link.fileno())

    def receive(self) -> tuple[Envelope, list[int]] | None:
        """The next message, and the rights that it is one to bring. None where there is none now, and, with the link
        closed, when the other end is gone or has said what nobody understands."""
        try:
            found = self.link.receive()
            return None if found is None else self.understood(*found)
        except OSError:
            self.close()
        except Exception:  # whatever decoding raises: MsgspecError, RecursionError, MemoryError
            self.verdict = "told the kernel what no plug-in's process may say, or in too many bytes, and was ended"
            self.close()
        return None

    def understood(self, data: bytes, rights: list[int]) -> tuple[Envelope, list[int]]:
        """A message; rights that it is not one to bring are given up. Raises what decoding does, and leaves no
        right."""
        try:
            envelope = self.decoder(len(data))(data)
        except BaseException:
            close_all(rights)
            raise
        bring = messages.ANSWERS_WITH_RIGHTS if envelope.answer else messages.ASKS_WITH_RIGHTS
        if rights and not isinstance(envelope.content, bring):
            close_all(rights)
            rights = []
        return envelope, rights

    def decoder(self, size: int) -> Callable[[bytes], Envelope]:
        """For a message of that many bytes."""
        if not self.of_process:
            return messages.decode
        if size <= LARGEST_OF_PROCESS:
            return messages.decode_of_process
        return messages.decode_at_length if size <= LARGEST_BUILT else messages.decode_of_state

    def arrived(self) -> None:
        """Take what has arrived, as far as this turn of the loop goes."""
        began = thread_time()
        self.take(self.loop.time() + LONGEST_TURN)
        if self.of_process and not self.closed:
            self.count(thread_time() - began, self.loop.time())

    def take(self, until: float) -> None:
        for _ in range(MOST_IN_A_TURN):
            if self.of_process and len(self.link.backlog) >= MOST_UNREAD:
                self.stop_listening()  # until the other end has read some
                return
            received = self.receive()
            if received is None:
                return
            self.handle(*received)
            if self.of_process and self.tasks:  # the message is still there; the next one has to wait
                return
            if self.loop.time() > until:
                return

    def count(self, seconds: float, now: float) -> None:
        """The other end has taken up as many of the loop's time: where those are too many, let it wait."""
        pause = self.allowance.used(seconds, now)
        if pause:
            self.stop_listening()
            self.pause = self.loop.call_later(pause, self.end_pause)

    def end_pause(self) -> None:
        self.pause = None
        self.listen_again()

    def handle(self, envelope: Envelope, rights: list[int]) -> None:
        if not envelope.answer:
            work = self.respond(envelope, rights)
            # Begun at once with rights, too: those of many messages together may be more than there are files for.
            task = start_task(self.loop, work) if self.of_process or rights else self.loop.create_task(work)
            if not task.done():
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
                self.complain(envelope.content, error)
                return
            content = Failed(fault_of(error))
        if envelope.number and not self.closed:
            with contextlib.suppress(Unavailable):  # it has gone meanwhile
                try:
                    self.send(Envelope(envelope.number, True, content), given)
                except (ContractError, Overloaded) as error:
                    self.on_unsent(content)
                    self.send(Envelope(envelope.number, True, Failed(encode_fault(error))), ())

    def complain(self, content: Any, error: Exception) -> None:
        """Log that what the other end has told could not be done, in few words and not for ever."""
        self.complaints += 1
        if self.complaints > MOST_COMPLAINTS:
            return
        last = ", and what comes after it is not told" if self.complaints == MOST_COMPLAINTS else ""
        told = f"{type(content).__name__} of {str(getattr(content, 'key', ''))[:100]!r} failed{last}"
        self.loop.call_exception_handler({"message": told, "exception": error})

    def hear_checkpoints(self) -> None:
        """Those that the process of a plug-in had told before it went: its callers may know that it has. All else is of
        no use any more, and no more is heard than it may take up at once."""
        resets, latest = 0, thread_time() + AT_ONCE
        for _ in range(MOST_LAST if self.of_process and self.verdict is None else 0):
            if thread_time() > latest:
                return
            try:
                found = self.link.receive()
            except ConnectionError:  # told once before what lies there, where it had not read all that it was sent
                resets += 1
                if resets > 1:
                    return
                continue
            if found is None:
                return
            try:
                envelope, rights = self.understood(*found)
            except Exception:  # as in `receive`
                return
            close_all(rights)
            if isinstance(envelope.content, messages.Checkpoint):
                self.handle(envelope, [])

    def close(self) -> None:
        """Close this end; told once to `on_closed`."""
        if self.closed:
            return
        self.closed = True
        if self.pause is not None:
            self.pause.cancel()
        self.link.unwatch(self.loop)
        self.hear_checkpoints()
        self.link.close()
        for future in list(self.questions.values()):
            if not future.done():
                future.set_exception(Unavailable("the process at the other end is gone"))
        for task in list(self.tasks):
            task.cancel()
        self.on_closed()


def subject_of(content: messages.Message) -> str:
    """What a message to the kernel is about, for who has to make it smaller."""
    match content:
        case messages.Connect():
            return f"the description of interface {content.interface.name!r}"
        case messages.Built():
            names = ", ".join(each.name for each in content.interfaces) or "nothing"
            return f"the description of a plug-in that serves {names}"
    return type(content).__name__


def fault_of(error: Exception) -> bytes:
    """An error as it travels, cut where it says more than fits into a message."""
    fault = encode_fault(error)
    if len(fault) <= LARGEST_FAULT:
        return fault
    whole = decode_fault(fault)
    name = getattr(whole, "type_name", type(error).__name__)[:SHOWN]
    said, trace = getattr(whole, "message", str(whole)), getattr(whole, "traceback", "")
    return encode_fault(RemoteError(name, f"{said[:SHOWN]} [cut]", trace[-SHOWN:]))
