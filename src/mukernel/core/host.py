"""Host: what a process of plug-ins does. It has one space, and does what the kernel tells it over its link."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any, cast

from ..contract import Description, Overloaded, Unavailable
from ..kernel.clock import Clock
from ..transports.carriers import NO_BELL
from ..transports.descriptors import close_all, duplicated, kept_of
from ..transports.link import Link
from ..transports.stray import end_stray
from . import messages
from .conversation import Conversation
from .directory import Grant
from .imported import all_here_is_warm
from .imported_for_plugins import this_process_is_of_plugins
from .inventory import inventory
from .last_words import say_last_words
from .messages import Connect, Done
from .space import Space
from .stack import answer_with_stack

log = logging.getLogger("mukernel")


class Host:
    """One process of plug-ins, from its first message to its last."""

    def __init__(
        self, link: Link, name: str, loop: asyncio.AbstractEventLoop, clock: Clock | None = None,
        transport: str | None = None,
    ) -> None:  # fmt: skip
        self.loop, self.finished = loop, loop.create_future()
        self.conversation = Conversation(link, loop, self.handle, self.kernel_gone)
        self.space = Space(name, self, clock or Clock(), loop, transport)
        self.space.on_step = lambda key, doing: self.conversation.tell(messages.Step(key, doing))
        self.space.on_asks = lambda key, interfaces: self.conversation.tell(messages.Asks(key, interfaces))
        self.space.on_emptied = lambda channel: self.say_of_channel(messages.Emptied(channel))
        self.space.on_checkpoint = lambda key, state, version: self.conversation.tell(
            messages.Checkpoint(key, state, version)
        )

    def kernel_gone(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def end_when_it_comes_back(self) -> None:
        """Called in a child that a plug-in has forked: whatever there would go on with what is its parent's ends it."""
        space, loop, end = self.space, cast(Any, self.loop), end_stray
        wires = [caller.wire for route in space.routes.values() for caller in route.callers]
        for instance in space.instances.values():
            wires += instance.wires.values()
            server: Any = instance.server
            server.paused = True
            server.reply = server.may_look = server.control = end
        for wire in cast(list[Any], wires):
            wire.send = wire.peek = wire.flush = wire.receiver = wire.controller = end
        conversation: Any = self.conversation
        conversation.send = conversation.receive = end
        if threading.get_ident() == space.thread:
            loop.call_soon(end)
            loop._ready.rotate(1)  # before whatever else is due in this turn
            loop._selector.select = end

    # -- the directory, as the space sees it --------------------------------------------------------------------

    async def connect(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int = -1, token: str = ""
    ) -> Grant:  # fmt: skip
        asked = Connect(interface, plugin, space, turn, token)
        return self.granted(*await self.conversation.ask(asked, given(bell)))

    def connect_now(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int, token: str = ""
    ) -> Grant:  # fmt: skip
        asked = Connect(interface, plugin, space, turn, token)
        return self.granted(*self.conversation.ask_blocking(asked, given(bell)))

    def granted(self, connected: messages.Connected, rights: list[int]) -> Grant:
        """What the kernel has answered. Raises Overloaded where its rights could not be received."""
        if connected.channels and not rights:
            for channel in connected.channels:
                self.disconnect(channel)
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            raise Overloaded(
                f"{connected.plugin}: there is no room for the rights to call it, files for each of "
                f"{len(connected.channels)} channels: this process may have {most} open; its limit of files is too low"
            )
        return Grant(connected, rights)

    async def narrow(self, key: str, interface: str, plugin: str, part: str, token: str) -> str:
        answer, _ = await self.conversation.ask(messages.Narrow(key, interface, plugin, part, token))
        return str(answer.token)

    def check_served(self, channel: int) -> None:
        pass  # the kernel is in another process, and does what has to be done

    def disconnect(self, channel: int) -> None:
        self.say_of_channel(messages.Disconnect(channel))

    def say_of_channel(self, said: messages.Message) -> None:
        with contextlib.suppress(Unavailable):  # the kernel has gone, and its channels with it
            self.conversation.tell(said)

    # -- what the kernel asks -----------------------------------------------------------------------------------

    async def handle(self, message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
        space = self.space
        match message:
            case messages.Build():
                instance = await space.build(message.blueprint)
                return instance.describe(), ()
            case messages.Attach():
                self.attach(message, rights)
            case messages.Detach():
                space.detach(message.channel, message.revoked)
            case messages.Quiesce():
                return await space.quiesce(message.key, message.drain, message.save), ()
            case messages.Activate():
                since = await space.activate(
                    message.key, message.state, message.state_version, message.recover, message.ended
                )
                return messages.Activated(since), ()
            case messages.Resume():
                space.resume(message.key)
            case messages.Release():
                space.release(message.key, message.rejected)
            case messages.Stop():
                await space.stop(message.key, message.drain, message.reason)
            case messages.Count():
                return space.count(message.key), ()
            case messages.TakeInventory():
                return inventory(), ()
            case messages.Rerouted():
                return messages.Done(await self.rerouted(message)), ()
            case messages.Ping():
                pass
        return Done(), ()

    def attach(self, message: messages.Attach, rights: list[int]) -> None:
        """Receive from a channel. One that there are no files for, beside a few that this process keeps for what it has
        to do itself, is given back, so that its caller is told. Where it fails otherwise, such as for want of memory,
        its caller would wait for ever: so this process ends, and its successor is given every channel anew."""
        if not self.has_room(rights):
            close_all(rights)
            self.say_of_channel(messages.Unattached(message.key, message.channel))
            return
        try:
            self.space.attach(
                message.key, message.channel, rights, message.caller, message.transport, message.granted,
                message.sandbox,
            )  # fmt: skip
        except Exception as error:
            if not self.finished.done():
                self.finished.set_exception(error)

    def has_room(self, rights: list[int]) -> bool:
        """For the rights to a channel, and before the first one for what rings for all of them."""
        try:
            self.space.carriers.get_ready()
        except Overloaded:
            return False
        return leaves_enough(rights)

    async def rerouted(self, message: messages.Rerouted) -> int:
        """Returns how many calls had waited for that."""
        if message.closed is not None:
            self.space.close_routes(message.plugin, message.closed)
        elif message.gate:
            self.space.gate(message.plugin)
        else:
            return await self.space.lead_all(message.plugin, message.local)
        return 0


def leaves_enough(rights: list[int]) -> bool:
    """Were there files for the rights to a channel, and are there still those that a process keeps for itself?"""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        close_all(duplicated(rights[:1] * kept_of(most)))
    except OSError:
        return False
    return bool(rights)


def given(bell: int) -> list[int]:
    """The right to ring a bell, where there is one."""
    return [bell] if bell != NO_BELL else []


def configure_logging() -> None:
    """Done in the fork server already, for all that it forks."""
    if not logging.root.handlers:
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")


def warn_before_killing() -> None:
    """Of what uses up its processor time SIGXCPU, which says so, comes a second before SIGKILL."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_CPU, (max(1, most - 1), most))


def main(rights: list[int]) -> None:
    """Entry point of a process: `rights` holds its end of the link, and of the pipe for its stack, if it has one."""
    if len(rights) > 1:
        answer_with_stack(rights[1])
    warn_before_killing()
    configure_logging()
    all_here_is_warm()
    this_process_is_of_plugins()
    connection = socket.socket(fileno=rights[0])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    host = Host(Link(connection), f"process {os.getpid()}", loop)
    host.space.on_forked = host.end_when_it_comes_back
    status = 1
    try:
        loop.run_until_complete(host.finished)
        status = 0
    except Exception:
        log.exception("the event loop of this process broke")
    finally:
        say_last_words()
        os._exit(status)
