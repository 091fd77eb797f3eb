"""Place: where instances can be. The kernel does the same things to them in its own process and in others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
from abc import ABC, abstractmethod
from typing import Any, TypeVar

from ..contract import ContractError, Description, Granted, Unavailable
from ..kernel.ipc import Channel
from ..kernel.process import Process
from ..sandbox.policy import Sandbox
from ..transports.descriptors import duplicated, enough_for
from . import messages
from .configuration import checked_sendable
from .conversation import Conversation
from .enclosed import Enclosed
from .ending import described
from .inventory import inventory
from .messages import Blueprint, Built, Counts, Inventory, Quiesced
from .overdue import ended_if_overdue
from .space import Space
from .stack import Stack, StackPipe, own_stack

GRACE = 2.0  # seconds that a process has to end by itself
BESIDE_STATE = 1024  # bytes of a message with a state that are not the state
LONGEST_SILENCE = 30.0  # seconds without a sign of life after which one that is to stop is ended, whatever its policy
NOT_BUILT = "it was not built to its end"
Answer = TypeVar("Answer")


class Place(ABC):
    """A process, as the kernel commands it. `space` is the name of the space in it; `keys` are the instances there."""

    space: str

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.group: str | None = None

    @abstractmethod
    async def build(self, blueprint: Blueprint) -> Built: ...
    @abstractmethod
    def attach(
        self, key: str, channel: Channel, caller: Description, granted: Granted | None = None, sandbox: str = ""
    ) -> None:  # fmt: skip
        """Let an instance receive from a channel, which stays the kernel's own. `granted`: what its caller may do;
        `sandbox`: which one that is, if it is one."""

    @abstractmethod
    def detach(self, channel: int) -> None: ...
    @abstractmethod
    async def cut(self, channel: int) -> None:
        """Serve a channel no more, and nothing that it has brought; returns when nobody there reads or writes it."""

    @abstractmethod
    async def quiesce(self, key: str, drain: float, save: bool) -> Quiesced: ...
    @abstractmethod
    async def activate(self, key: str, state: bytes | None, version: int, recover: bool, ended: str = "") -> int: ...
    @abstractmethod
    async def resume(self, key: str) -> None: ...
    @abstractmethod
    async def release(self, key: str, rejected: bool) -> None: ...
    @abstractmethod
    async def stop(self, key: str, drain: float, reason: str) -> None:
        """End an instance; what still runs after `drain` seconds is cut off, and `reason` is for its callers."""

    @abstractmethod
    async def count(self, key: str) -> Counts: ...
    @abstractmethod
    async def inventory(self) -> Inventory: ...
    @abstractmethod
    async def gate(self, plugin: str) -> None: ...
    @abstractmethod
    async def reroute(self, plugin: str, local: str | None) -> int:
        """Lead its routes to where a plug-in is now: the instance `local` there, or what the kernel says when asked.
        Returns how many calls had waited for that."""

    @abstractmethod
    async def close_routes(self, plugin: str, reason: str) -> None: ...
    @abstractmethod
    async def stack(self, resume: bool = False) -> Stack:
        """Where it stands, whatever it is doing. `resume`: if it is stopped, it is let go on to tell."""

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def inhabitants(self) -> str:
        """The plug-ins in it, for messages."""
        return ", ".join(sorted({repr(key.partition("#")[0]) for key in self.keys})) or "nobody yet"

    @property
    def has_ended(self) -> bool:
        """Asks the system: the loop may not have had a turn to hear of it."""
        return False


class LocalPlace(Place):
    """The kernel's own process."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.here, self.space = space, space.name

    async def build(self, blueprint: Blueprint) -> Built:
        built = (await self.here.build(blueprint)).describe()
        self.keys.add(blueprint.key)
        return built

    def attach(
        self, key: str, channel: Channel, caller: Description, granted: Granted | None = None, sandbox: str = ""
    ) -> None:  # fmt: skip
        with enough_for(f"a channel to {key.partition('#')[0]}"):
            rights = duplicated(channel.server_rights)
            self.here.attach(key, channel.number, rights, caller, channel.transport, granted, sandbox)

    def detach(self, channel: int) -> None:
        self.here.detach(channel)

    async def cut(self, channel: int) -> None:
        self.here.detach(channel, revoked=True)

    async def quiesce(self, key: str, drain: float, save: bool) -> Quiesced:
        return await self.here.quiesce(key, drain, save)

    async def activate(self, key: str, state: bytes | None, version: int, recover: bool, ended: str = "") -> int:
        return await self.here.activate(key, state, version, recover, ended)

    async def resume(self, key: str) -> None:
        self.here.resume(key)

    async def release(self, key: str, rejected: bool) -> None:
        self.here.release(key, rejected)

    async def stop(self, key: str, drain: float, reason: str) -> None:
        self.keys.discard(key)
        await self.here.stop(key, drain, reason)

    async def count(self, key: str) -> Counts:
        return self.here.count(key)

    async def inventory(self) -> Inventory:
        return inventory()

    async def gate(self, plugin: str) -> None:
        self.here.gate(plugin)

    async def reroute(self, plugin: str, local: str | None) -> int:
        return await self.here.lead_all(plugin, local)

    async def close_routes(self, plugin: str, reason: str) -> None:
        self.here.close_routes(plugin, reason)

    async def stack(self, resume: bool = False) -> Stack:
        return own_stack(threading.get_ident(), "it is the kernel's own, where inline plug-ins run")


class RemotePlace(Place):
    """Another process, commanded over its link."""

    def __init__(self, space: str, process: Process, conversation: Conversation) -> None:
        super().__init__()
        self.space, self.process, self.conversation = space, process, conversation
        self.missed = 0  # heartbeats since the last that it answered
        self.patience: dict[str, float] = {}  # seconds, for each instance that is here or is being built
        self.doing: dict[str, str] = {}  # for each instance that is being built, how far that is
        self.pinging: asyncio.Task[None] | None = None
        self.ending = False
        self.stacks: StackPipe | None = None  # none where the process is simulated, in our own
        self.hangs = False  # found to; it is asked where it stands, and then ended
        self.sandbox: Sandbox | None = None  # what encloses it
        self.settings: dict[str, Any] = {}  # that, and its limits, by name: for whoever is to share it
        self.environment = ""  # the folder of the one whose Python it runs; "": the kernel's own
        self.transports: list[str] | None = None  # by which it can be reached; None: as the kernel
        self.enclosed: Enclosed | None = None  # its processes, where it is
        self.verdict: str | None = None  # why the kernel killed it

    @property
    def pid(self) -> int:
        """The process that the plug-ins are in, as the kernel's process sees it."""
        return self.enclosed.pid if self.enclosed is not None else self.process.pid

    @property
    def has_ended(self) -> bool:
        if self.process.alive:
            ended = select.poll()
            ended.register(self.process.pidfd, select.POLLIN)
            return bool(ended.poll(0))
        return True

    async def ask(self, key: str, message: Any, doing: str) -> Any:
        """What the process answers. Raises what it raised, or Unavailable that says how the process ended and what the
        instance was `doing`."""
        try:
            return await self.answer(message)
        except Unavailable:
            if not self.conversation.closed:
                raise
            plugin, _, _ = key.partition("#")
            doing = self.doing.get(key, doing)
            raise Unavailable(f"plug-in {plugin!r}: its process {await self.ended()} while it was {doing}") from None

    async def answer(self, message: Any) -> Any:
        """What the process answers. One that does not in the time for it is killed. Raises as the conversation."""
        silence = min((limit for limit in self.patience.values() if limit), default=None)
        with ended_if_overdue(message, self.ping, silence, self.kill):
            return (await self.conversation.ask(message))[0]

    def expected(self, answer: object, wanted: type[Answer]) -> Answer:
        """The answer, if it is of the type that the kernel's question wants. Raises ContractError."""
        if isinstance(answer, wanted):
            return answer
        raise ContractError(
            f"the process of {self.space!r} (pid {self.pid}) answered {type(answer).__name__}, wanted "
            f"{wanted.__name__}: it does not keep to the kernel's protocol; unload what runs there, and see what "
            "writes to its link"
        )

    async def ended(self) -> str:
        """How the process ended, which it is doing at this moment."""
        try:
            async with asyncio.timeout(GRACE):
                status = await self.process.wait()
                return self.verdict or described(status)
        except TimeoutError:
            return "closed its link to the kernel"

    def lost(self) -> None:
        """The link is closed: a process that can't be told anything any more is ended, if it does not end itself. Of a
        sandbox that is the inner: the outer hands on what that has printed last, and how it ended."""
        if self.ending:
            return
        self.verdict = self.verdict or self.conversation.verdict
        if self.enclosed is None:
            self.process.kill()
        else:
            self.enclosed.kill()
            self.conversation.loop.call_later(GRACE, self.process.kill)

    async def build(self, blueprint: Blueprint) -> Built:
        checked_sendable(blueprint.name, blueprint.config)
        self.keys.add(blueprint.key)  # from now on: while it is built, nobody is to end the process
        link = self.conversation.link
        link.largest = max(link.largest, (blueprint.largest_state or 0) + BESIDE_STATE)
        try:
            return self.expected(await self.ask(blueprint.key, messages.Build(blueprint), "being built"), Built)
        except BaseException:
            self.keys.discard(blueprint.key)
            with contextlib.suppress(Unavailable):  # it may be half built, in a process that lives on for others
                self.conversation.tell(messages.Stop(blueprint.key, 0.0, NOT_BUILT))
            raise
        finally:
            self.doing.pop(blueprint.key, None)

    def attach(
        self, key: str, channel: Channel, caller: Description, granted: Granted | None = None, sandbox: str = ""
    ) -> None:  # fmt: skip
        attach = messages.Attach(key, channel.number, caller, channel.transport, granted, sandbox)
        with contextlib.suppress(Unavailable):  # it has died: its successor is given every channel of the port
            self.conversation.tell(attach, channel.server_rights)

    def detach(self, channel: int) -> None:
        with contextlib.suppress(Unavailable):
            self.conversation.tell(messages.Detach(channel))

    async def cut(self, channel: int) -> None:
        with contextlib.suppress(Unavailable):  # it has died, and reads nothing any more
            await self.answer(messages.Detach(channel, revoked=True))

    async def quiesce(self, key: str, drain: float, save: bool) -> Quiesced:
        quiesced = await self.ask(key, messages.Quiesce(key, drain, save), "finishing its calls or saving its state")
        return self.expected(quiesced, Quiesced)

    async def activate(self, key: str, state: bytes | None, version: int, recover: bool, ended: str = "") -> int:
        activated = await self.ask(key, messages.Activate(key, state, version, recover, ended), "taking over")
        return self.expected(activated, messages.Activated).since

    async def resume(self, key: str) -> None:
        await self.ask(key, messages.Resume(key), "to take over again")

    async def release(self, key: str, rejected: bool) -> None:
        await self.answer(messages.Release(key, rejected))

    async def stop(self, key: str, drain: float, reason: str) -> None:
        self.patience[key] = self.patience.get(key) or LONGEST_SILENCE  # else it might be waited for for ever
        try:
            await self.ask(key, messages.Stop(key, drain, reason), "being stopped")
        finally:
            self.keys.discard(key)
            self.patience.pop(key, None)
            self.doing.pop(key, None)

    async def count(self, key: str) -> Counts:
        return self.expected(await self.ask(key, messages.Count(key), "saying how busy it is"), Counts)

    async def inventory(self) -> Inventory:
        return self.expected(await self.answer(messages.TakeInventory()), Inventory)

    async def gate(self, plugin: str) -> None:
        await self.answer(messages.Rerouted(plugin, gate=True))

    async def reroute(self, plugin: str, local: str | None) -> int:
        answer, _ = await self.conversation.ask(messages.Rerouted(plugin, local=local))
        return self.expected(answer, messages.Done).held

    async def close_routes(self, plugin: str, reason: str) -> None:
        await self.conversation.ask(messages.Rerouted(plugin, closed=reason))

    async def stack(self, resume: bool = False) -> Stack:
        if self.stacks is None:
            return own_stack(threading.get_ident(), "the process is simulated, in this one")
        return await self.stacks.ask(self.enclosed or self.process, resume)

    async def ping(self) -> None:
        await self.conversation.ask(messages.Ping())

    async def end(self) -> None:
        """End the process: it has nothing left to do."""
        self.ending = True
        self.conversation.close()
        try:
            async with asyncio.timeout(GRACE):
                await self.process.wait()
        except TimeoutError:  # it is not listening
            self.process.kill()
            await self.process.wait()

    def kill(self, verdict: str | None = None) -> None:
        """End the process at once; `verdict` tells why in its stead, as in "it ..."."""
        self.verdict = verdict
        self.process.kill()
