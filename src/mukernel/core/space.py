"""Space: what lives in one process. The kernel's own process has one, and so has every process of plug-ins."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..contract import ContractError, Description, Granted, NotFound, PermissionDenied
from ..kernel.clock import Clock as KernelClock
from ..mesh.route import Route
from ..transports.carriers import NO_BELL
from ..transports.contract import Wire
from ..transports.kind import Kind
from ..transports.segment import account
from .builtin import BUILTIN, BuiltinClock
from .directory import Directory
from .ending import contained
from .imported import Version
from .injection import Need, checked_configuration, read_constructor
from .instance import Instance
from .last_words import write_out_files_of
from .loader import load_version
from .messages import MOST_COUNTED, Blueprint, Counts, Quiesced
from .passing_on import identify
from .plain import plugin_class
from .routes import Routes

log = logging.getLogger("mukernel")


class Space(Routes):
    """The instances of one process, and its routes to others. Owned by one event loop."""

    def __init__(
        self, name: str, directory: Directory, clock: KernelClock, loop: asyncio.AbstractEventLoop,
        transport: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, directory, clock, loop, transport)
        self.building: dict[str, asyncio.Task[Any] | None] = {}  # by what: to be ended with it
        self.tickers: dict[str, Any] = {}
        self.on_step: Callable[[str, str], None] = lambda key, step: None
        self.on_asks: Callable[[str, list[str]], None] = lambda key, interfaces: None
        self.on_checkpoint: Callable[[str, bytes, int], None] = lambda key, state, version: None
        self.on_emptied: Callable[[int], None] = lambda channel: None
        self.on_forked: Callable[[], None] = lambda: None

    def leave_to_parent(self, reason: str) -> None:
        self.on_forked()
        super().leave_to_parent(reason)

    @contextmanager
    def step(self, blueprint: Blueprint, doing: str) -> Iterator[None]:
        """A part of building: the kernel is told first, as the plug-in may take the process with it."""
        self.on_step(blueprint.key, doing)
        with contained(blueprint.name, doing):
            yield

    async def build(self, blueprint: Blueprint) -> Instance:
        """Load, construct, start and check an instance. It receives nothing until it is activated."""
        with self.step(blueprint, "being imported"):
            version = load_version(blueprint.use)
        self.building[blueprint.key], injected = asyncio.current_task(), list[Any]()
        try:
            return await self.build_version(blueprint, version, injected)
        except BaseException:
            version.withdraw()
            self.let_go_of(injected)
            raise
        finally:
            del self.building[blueprint.key]

    async def build_version(self, blueprint: Blueprint, version: Version, injected: list[Any]) -> Instance:
        """`injected`: takes the proxies that the instance is given."""
        if blueprint.use.stands_in is not None:
            from .standing_in import standing_in  # here: it imports much that only brokers need

            version.kind = standing_in(version.kind, blueprint.use.stands_in)
        version.kind = kind = plugin_class(version.kind, blueprint.use.only)
        if blueprint.shared_memory is not None:
            account.allow(blueprint.shared_memory)
        needs, settings = read_constructor(kind)
        arguments = checked_configuration(kind, blueprint.name, settings, blueprint.config)
        bindings: dict[str, str] = {}
        blocks_by: list[Route] = []
        self.on_asks(blueprint.key, [need.interface.__contract__.name for need in needs])
        for need in needs:
            name = need.interface.__contract__.name
            if is_withheld(blueprint, name):
                if need.required:
                    raise withheld(blueprint, kind, need)
                continue
            try:
                proxy = await self.get(
                    need.interface, blueprint.bindings.get(name), need.blocking, threads=blueprint.threads > 0
                )
            except ContractError as error:
                raise ContractError(f"{asking(blueprint, kind, need)}: {error.args[0]}", error.differences) from None
            except NotFound as error:
                if need.required:
                    raise NotFound(f"{asking(blueprint, kind, need)}: {error}") from None
                continue
            except PermissionDenied:  # revoked since it was begun
                if need.required:
                    raise withheld(blueprint, kind, need) from None
                continue
            arguments[need.parameter] = proxy
            if isinstance(proxy, BuiltinClock):
                continue
            injected.append(proxy)
            bindings[name] = proxy._mukernel_route.asked
            if need.blocking or any(method.blocking for method in proxy._mukernel_route.contract.methods.values()):
                blocks_by.append(proxy._mukernel_route)
                await self.prepare_to_block(proxy._mukernel_route, blueprint.threads)
        with self.step(blueprint, "being built"):
            plugin = kind(**arguments)
        instance = Instance(blueprint, version, plugin, self.loop, self.now_ns)
        instance.server.when_let_go = partial(self.wire_emptied, instance)
        instance.bindings, instance.blocks_by, instance.injected = bindings, blocks_by, injected
        instance.needs = [need.interface.__contract__.name for need in needs]
        self.instances[blueprint.key] = instance
        identify(plugin, self, blueprint.key)
        object.__setattr__(plugin, "checkpoint", lambda: self.checkpoint(instance))  # it may be frozen
        try:
            with self.step(blueprint, "being started"):
                await instance.hook("start", "being started")
            with self.step(blueprint, "being checked"):
                await instance.hook("health", "being checked")
        except BaseException:
            try:
                await self.stop(blueprint.key, 0.0, "it could not be started")
            except Exception as error:  # what went wrong first is what is told
                log.warning("%s did not stop cleanly after that: %s", blueprint.key, error)
            raise
        return instance

    def attach(
        self, key: str, channel: int, rights: Sequence[int], caller: Description, transport: str = "ring",
        granted: Granted | None = None, sandbox: str = "",
    ) -> None:  # fmt: skip
        """Give an instance the receiving end of a channel; it owns `rights`. `granted`: what its caller may do;
        `sandbox`: which one that is, if it is one."""
        instance = self.instances[key]
        wire, bell = self.carriers.server(transport, rights, channel, sandbox)
        if instance.bell == NO_BELL:
            instance.bell = bell
        elif bell != NO_BELL:
            os.close(bell)
        try:
            instance.attach(channel, wire, caller, granted)
        except ContractError:
            wire.close()
            raise
        if not instance.server.paused:
            self.begin(instance, wire, False)

    def begin(self, instance: Instance, wire: Wire, recover: bool, ended: str = "") -> None:
        """Receive from a wire."""
        if recover:
            wire.end_interrupted(Kind.INTERRUPTED, ended.encode(errors="replace"), mortal=True)
        self.carriers.answer(instance.bell)
        wire.listen()

    def detach(self, channel: int, revoked: bool = False) -> None:
        """The caller of a channel is gone, or may not call any more. While a plug-in is replaced here, two instances
        have it."""
        for instance in self.instances.values():
            wire = instance.wires.get(channel)
            if wire is None:
                continue
            if revoked or wire.closed is not None:
                del instance.wires[channel]
                wire.close("the caller may not call any more")
                if not revoked:
                    self.on_emptied(channel)
            else:
                instance.server.abandon(wire)

    def wire_emptied(self, instance: Instance, wire: Wire) -> None:
        """All is run that came by a wire whose caller is gone."""
        for channel in [number for number, each in instance.wires.items() if each is wire]:
            del instance.wires[channel]
            self.on_emptied(channel)

    async def quiesce(self, key: str, drain: float, save: bool) -> Quiesced:
        """Start nothing more; wait until nothing runs; save. Raises SwapFailed, and serves on, when that fails.
        Routes from here are gated, those that were made or led here since the others were, too."""
        instance = self.instances[key]
        self.gate(instance.blueprint.name)
        inline, since = instance.in_flight.running, self.now_ns()
        running = len(instance.server.running) + inline
        try:
            routes = self.routes_to(instance.blueprint.name)
            await instance.drained(drain, lambda: sum(len(route.waiting) for route in routes))
            for route in self.routes_to(instance.blueprint.name):
                route.shut()
            with contained(instance.blueprint.name, "saving its state"):
                state = await instance.handover.save() if save else None
        except BaseException:
            self.receive(instance, False)
            raise
        instance.server.forget_waiting()
        for wire in instance.wires.values():
            wire.stop_listening()
        self.carriers.ignore(instance.bell)
        instance.in_charge = False
        return Quiesced(state, instance.handover.version, running, since, inline)

    def resume(self, key: str) -> None:
        """Go on after `quiesce`; what a successor had begun before it failed is answered."""
        instance = self.instances[key]
        instance.in_charge = True
        self.receive(instance, True)
        if instance.owes_checkpoint:
            self.checkpoint_soon(instance)

    async def activate(
        self, key: str, state: bytes | None, state_version: int, recover: bool, ended: str = ""
    ) -> int:  # fmt: skip
        """Take over the state and begin to receive; returns when that was, in ns."""
        instance = self.instances[key]
        if state is not None:
            with contained(instance.blueprint.name, "restoring its state"):
                await instance.handover.restore(state, state_version)
        instance.in_charge = True
        if instance.owes_checkpoint:
            with contained(instance.blueprint.name, "saving its state"):
                await self.checkpoint(instance)
        self.receive(instance, recover, ended)
        instance.begun, since = True, self.now_ns()
        every = instance.blueprint.checkpoint
        if every is not None and instance.handover.stateful and key not in self.tickers:  # it may take over again
            self.tickers[key] = self.clock.every(every, lambda: self.checkpoint_soon(instance))
        return since

    def receive(self, instance: Instance, recover: bool, ended: str = "") -> None:
        instance.server.paused = False
        for wire in list(instance.wires.values()):
            self.begin(instance, wire, recover, ended)
        instance.server.resume()

    def checkpoint_soon(self, instance: Instance) -> None:
        task = self.loop.create_task(self.checkpoint(instance))
        instance.background.add(task)
        task.add_done_callback(instance.background.discard)

    async def checkpoint(self, instance: Instance) -> None:
        """Hand the kernel a state to restart from. That of an instance which is not in charge is none, since it was not
        restored yet, or is its successor's by now: it is made when it is in charge again."""
        state = await instance.handover.save() if instance.in_charge else None
        instance.owes_checkpoint = not instance.in_charge
        if state is not None and instance.in_charge:
            self.on_checkpoint(instance.blueprint.key, state, instance.handover.version)

    def release(self, key: str, rejected: bool = False) -> None:
        """Let go of every channel of a quiet instance. `rejected`: its version is not wanted after all."""
        instance = self.instances[key]
        if rejected:
            instance.version.withdraw()
        for wire in list(instance.wires.values()):
            wire.close()
        instance.wires.clear()

    def count(self, key: str) -> Counts:
        """How busy an instance is."""
        instance = self.instances[key]
        server, inline = instance.server, instance.in_flight
        ledgers = [wire.ledger() for wire in instance.wires.values()]
        # A one-way call counts as answered when it is taken, and what has lost its caller as refused.
        serving = sum(call.expected for call in server.running.values())
        # A caller may have written any number there.
        taken, answered, refused = (min(sum(each[column] for each in ledgers), MOST_COUNTED) for column in (1, 2, 3))
        return Counts(
            server.calls + inline.calls, len(server.running) + inline.running, server.backlog.waiting,
            serving, taken, answered, refused, account.held, account.segments, account.in_flight(),
        )  # fmt: skip

    async def stop(self, key: str, drain: float, reason: str) -> None:
        """Stop an instance for good. What still runs after `drain` seconds is ended; `reason` is for its callers."""
        building, instance = self.building.get(key), self.instances.get(key)
        if building is not None and building is not asyncio.current_task():  # it is not waited for any more
            building.cancel()
            return
        if instance is None:
            return
        ticker = self.tickers.pop(key, None)
        if ticker is not None:
            ticker.cancel()
        try:
            with contained(instance.blueprint.name, "being stopped"):
                await instance.stop(drain, reason)
        finally:
            self.instances.pop(key, None)
            write_out_files_of(instance.plugin)
            if not instance.begun:
                instance.version.withdraw()
            self.let_go_of(instance.injected)
            for route in instance.blocks_by:
                del route.thread.idle[self.callers_for(route) - int(route.blocks_here) :]
            if instance.bell >= 0:
                self.carriers.ignore(instance.bell)
                os.close(instance.bell)


def is_withheld(blueprint: Blueprint, interface: str) -> bool:
    """Was an interface kept from an instance?"""
    return blueprint.granted is not None and interface not in blueprint.granted and interface not in BUILTIN


def withheld(blueprint: Blueprint, kind: type, need: Need) -> PermissionDenied:
    name = need.interface.__contract__.name
    return PermissionDenied(
        f"plug-in {blueprint.name!r}: {kind.__qualname__}.__init__ asks for {name} (parameter {need.parameter!r}), "
        f"which it was not granted; add {name!r} to its `grants`"
    )


def asking(blueprint: Blueprint, kind: type, need: Need) -> str:
    """Who asks for what, and where, for the errors of that."""
    return (
        f"plug-in {blueprint.name!r}: {kind.__qualname__}.__init__ asks for {need.interface.__contract__.name} "
        f"(parameter {need.parameter!r})"
    )
