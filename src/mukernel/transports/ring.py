"""The ring transport: shared memory, polled by the event loop between its system calls."""

from __future__ import annotations

import asyncio
import functools
import os
import selectors
from collections import deque
from typing import Any

from ..kernel.ipc import ring
from .beside import ReceiverBeside, SenderBeside
from .context import watch
from .contract import Received, Wire, nothing, refused
from .kind import Kind
from .lane import Lane

SYSTEM_EVERY = 100_000  # ns between two looks at the system while messages keep coming


class Ended:
    """Whose a receive right is once its wire is closed. It holds the wire no more: else the two, with the channel's
    memory and descriptors, would wait for Python's cyclic collector, in a server that may never run it."""

    receiver = kept_loop = staticmethod(nothing)


class RingWire(Wire):
    """One end of a channel in shared memory. `memory`, `peer_bell`: descriptors, owned by the wire from here on;
    `sends`: the direction that it sends in, 0 to the server and 1 to the caller."""

    def __init__(self, poller: Poller, memory: int, peer_bell: int, sends: int, bound: int) -> None:
        super().__init__()
        self.poller, self.peer_bell = poller, peer_bell
        self.mapping = ring.Mapping(memory)
        self.right_to_send = ring.Sender(self.mapping, sends, peer_bell, bound)
        self.right_to_receive = ring.Receiver(self.mapping, 1 - sends, peer_bell, table=sends == 1, owner=self)
        self.receivers = [self.right_to_receive]
        self.send = self.right_to_send.send  # type: ignore[method-assign]
        self.next_message, self.more = self.right_to_receive.peek, self.right_to_receive.more
        self.listening = False

    def send(self, *message: Any) -> bool:  # replaced by the ring's own in the constructor: one call less
        raise AssertionError

    def peek(self) -> Received | None:
        try:
            message: Received | None = self.next_message()
            return message
        except ring.Garbage as garbage:
            self.fail(str(garbage))
            return None

    def interrupted(self) -> list[tuple[int, int, int]]:
        """Calls that a predecessor was running when it died: (call, interface, method)."""
        if self.closed is not None:  # the number of its bell may be another's by now
            return []
        self.right_to_send.adopt()  # it has sent, perhaps, since this end was made
        calls: list[tuple[int, int, int]] = self.right_to_receive.interrupted()
        return calls

    def forget_interrupted(self, call: int) -> None:
        self.right_to_receive.forget(call)

    @property
    def saturated(self) -> bool:  # type: ignore[override]
        """As many calls are in flight as the channel can account for."""
        return bool(self.right_to_receive.full)

    def ledger(self) -> tuple[int, int, int, int]:
        counts: tuple[int, int, int, int] = ring.ledger(self.mapping.fd)
        return counts

    def listen(self) -> None:
        """Begin to receive."""
        if not self.listening and self.closed is None:
            self.listening = True
            self.right_to_send.adopt()
            for receiver in self.receivers:
                receiver.adopt()
                self.poller.waiter.add(receiver)
            if self.poller.selector is None:  # nothing polls it there, so it has to be armed
                self.poller.loop.call_soon(self.poller.rung, self.poller.waiter.bell)

    def stop_listening(self) -> None:
        if self.listening:
            self.listening = False
            for receiver in self.receivers:
                self.poller.waiter.remove(receiver)

    def want_room(self) -> None:
        self.poller.starving.add(self)
        if self.right_to_send.want_room():
            self.poller.loop.call_soon(self.poller.flush)

    def release(self) -> None:
        self.send, self.next_message = refused, nothing  # type: ignore[method-assign]
        self.stop_listening()
        self.poller.starving.discard(self)
        for receiver in self.receivers:
            receiver.owner = Ended
        os.close(self.peer_bell)


class ServerRingWire(RingWire):
    """The end of who serves. `memory_beside`: of the second ring, owned from here on, too."""

    def __init__(self, poller: Poller, memory: int, memory_beside: int, peer_bell: int, bound: int = 1024) -> None:
        super().__init__(poller, memory, peer_bell, 1, bound)
        self.beside = ReceiverBeside(self, memory_beside, peer_bell).right_to_receive
        self.receivers.append(self.beside)

    def listen(self) -> None:
        if not self.listening and self.closed is None:
            self.beside.owner.waiting.clear()  # what was not taken of it is there to be looked at again
        super().listen()

    def cancels(self) -> bool:
        if self.listening and self.beside.more():
            self.beside.owner.look()
            self.poller.loop.call_soon(self.take_beside)
        return bool(self.overtaken)

    def take_beside(self) -> None:
        if self.closed is None:
            try:
                self.beside.owner.receiver(self)
            except Exception as error:  # as the poller, which was to call it
                self.poller.broke(self, error)


class CallerRingWire(RingWire):
    """The end of who calls. `unsent`: what is to go beside the calls, as soon as there is room."""

    def __init__(self, poller: Poller, memory: int, memory_beside: int, peer_bell: int, bound: int = 1024) -> None:
        super().__init__(poller, memory, peer_bell, 0, bound)
        self.beside = SenderBeside(self.right_to_send, memory_beside, peer_bell)
        self.unsent: deque[tuple[Any, ...]] = deque()

    def post(self, *message: Any) -> None:
        if message[0] < Kind.ITEM:  # a call that is sent again
            super().post(*message)
        elif message[0] == Kind.CANCEL and self.take_back(message[1]):
            return
        elif message[0] == Kind.CANCEL and self.closed is None and self.beside.send(*message):
            return  # before items that there was no room for: what it is for may be begun meanwhile
        elif self.closed is None:
            self.unsent.append(message)
            if len(self.unsent) == 1:
                self.send_unsent()

    def take_back(self, call: int) -> bool:
        """Was a call that is cancelled still to be sent again? Then it is not."""
        for place, (message, _) in enumerate(self.outbox):
            if message[1] == call:
                del self.outbox[place]
                return True
        return False

    def send_unsent(self) -> None:
        while self.unsent and self.beside.send(*self.unsent[0]):
            self.unsent.popleft()
        if self.unsent:
            self.poller.starving.add(self)
            if self.beside.lacking.want_room():
                self.poller.loop.call_soon(self.poller.flush)

    def flush(self) -> None:
        if self.unsent:
            self.send_unsent()
        super().flush()

    def release(self) -> None:
        self.unsent.clear()
        super().release()


class BlockingRingWire:
    """A caller's end of a channel in shared memory that one thread owns, with a waiter of its own."""

    def __init__(self, waiter: Any, memory: int, memory_beside: int, peer_bell: int, bound: int = 1024) -> None:
        self.peer_bell = peer_bell
        self.closed: str | None = None
        self.lane: Lane | None = None
        self.mapping, self.waiter = ring.Mapping(memory), waiter
        self.right_to_send = ring.Sender(self.mapping, 0, peer_bell, bound)
        self.right_to_receive = ring.Receiver(self.mapping, 1, peer_bell)
        self.waiter.add(self.right_to_receive)
        self.beside = SenderBeside(self.right_to_send, memory_beside, peer_bell)
        self.send, self.receive, self.wait = self.beside.send, self.right_to_receive.receive, waiter.wait
        self.exchange = functools.partial(waiter.exchange, self.right_to_send, self.right_to_receive)

    def wait_for_room(self, limit: int) -> None:
        if not self.beside.lacking.want_room() and self.waiter.arm():
            self.waiter.wait_for_bell(limit)

    def close(self, why: str = "closed") -> None:
        if self.closed is None:
            self.closed = why
            self.waiter.remove(self.right_to_receive)
            os.close(self.peer_bell)
            if self.lane is not None:
                self.lane.close()


class Poller:
    """Joins rings to an asyncio event loop.

    On asyncio's own loops it stands between the loop and its selector, so that a ring is answered without a system
    call; on others (uvloop) it listens to the bell. `bells`: ports whose bell this process answers, besides its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiter = ring.Waiter()
        self.starving: set[RingWire] = set()
        self.bells: set[int] = set()
        self.selector: PollingSelector | None = None
        inner = getattr(loop, "_selector", None)
        if isinstance(inner, selectors.BaseSelector):
            self.selector = PollingSelector(inner, self)
            loop._selector = self.selector  # type: ignore[attr-defined]
        self.answer(self.waiter.bell)

    def answer(self, bell: int) -> None:
        """Answer the bell of a port from now on."""
        self.bells.add(bell)
        watch(self.loop, bell, self.rung, bell)
        if self.selector is None:
            self.loop.call_soon(self.rung, bell)

    def ignore(self, bell: int) -> None:
        self.bells.discard(bell)
        self.loop.remove_reader(bell)

    def rung(self, bell: int) -> None:
        ring.hush(bell)
        self.waiter.disarm(True)
        self.flush()
        self.work()
        if self.selector is None:
            self.arm_soon()

    def arm_soon(self) -> None:
        """Where no selector polls: go on while messages come, with turns for the loop; then wait for the bell."""
        if not self.waiter.arm():
            self.work()
            self.loop.call_soon(self.arm_soon)

    def flush(self) -> None:
        for wire in list(self.starving):
            self.starving.discard(wire)
            try:
                wire.flush()
            except Exception as error:  # there is no memory for what waits to be sent
                self.broke(wire, error)

    def work(self) -> bool:
        """Hand what has arrived to its owners; False when there was nothing."""
        ready = self.waiter.ready()
        if ready is None:
            return False
        several = len(ready) > 1
        began = ring.now_ns() if several else 0
        for count, receiver in enumerate(ready, 1):
            wire = receiver.owner
            try:
                wire.receiver(wire)
            except Exception as error:  # what one side sends must not take the loop of the other with it
                self.broke(wire, error)
            if several:  # each may be short, and all of them together long
                wire.kept_loop(ring.now_ns() - began, count)
        if self.starving:
            self.flush()
        return True

    def broke(self, wire: RingWire, error: Exception) -> None:
        """What came by a wire could not be handled: that wire is closed, and the loop says why."""
        self.loop.call_exception_handler({"message": "what came by a channel could not be handled", "exception": error})
        wire.fail(f"what came by it could not be handled: {type(error).__name__}: {error}")

    def close(self) -> None:
        for bell in list(self.bells):
            self.ignore(bell)
        if self.selector is not None:
            self.loop._selector = self.selector.inner  # type: ignore[attr-defined]


class PollingSelector:
    """A selector that looks into the rings before it asks the system."""

    def __init__(self, inner: selectors.BaseSelector, poller: Poller) -> None:
        self.inner, self.poller = inner, poller
        self.system_due = 0
        self.register, self.unregister, self.modify = inner.register, inner.unregister, inner.modify
        self.get_key, self.get_map, self.close = inner.get_key, inner.get_map, inner.close

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        poller, waiter = self.poller, self.poller.waiter
        loop_has_work = poller.loop._ready  # type: ignore[attr-defined]
        timers = poller.loop._scheduled  # type: ignore[attr-defined]  # a heap
        first = timers[0] if timers else None  # which `timeout` is of: calls that begin here may set an earlier one
        limit = -1 if timeout is None else int(timeout * 1e9)
        while True:
            while poller.work():
                if loop_has_work or ring.now_ns() >= self.system_due or (timers and timers[0] is not first):
                    return self.system_events()
            if limit == 0:
                return self.inner.select(0)
            if not waiter.spin(limit) and waiter.arm():
                break
        events = self.inner.select(timeout)
        waiter.disarm(False)
        poller.work()
        return events

    def system_events(self) -> list[tuple[selectors.SelectorKey, int]]:
        """However busy the rings are, sockets and timers get their turn."""
        now = ring.now_ns()
        if now < self.system_due:
            return []
        self.system_due = now + SYSTEM_EVERY
        return self.inner.select(0)
