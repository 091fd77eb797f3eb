"""One running copy of a plug-in, in the process where it runs."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable
from typing import Any

from ..contract import (
    Contract,
    ContractError,
    Description,
    Granted,
    Interface,
    MethodCodec,
    SwapFailed,
    check_implements,
    differences,
    interfaces_of,
)
from ..contract.capability import PATHS, RIGHT
from ..contract.interface import HOOKS
from ..mesh.route import Route
from ..transports.contract import Wire
from ..transports.granted import restricted
from ..transports.inline import InFlight
from ..transports.method_pool import MethodPool
from ..transports.served import ServedMethod, methods_for
from ..transports.serving import Server
from . import hooks
from .handover import Handover
from .hooks import CLEAN_UP, TookTooLong, outcome
from .imported import Version
from .messages import Blueprint, Built

log = logging.getLogger("mukernel")


class Instance:
    """A plug-in object with all that serves it. `plugin` is the object itself.

    `direct`: no state to hand over and nothing to stop, so inline calls need not be counted. `begun`: it has received.
    `in_charge`: it has taken over, and not handed over since; `owes_checkpoint`: it was asked for one when it was not.
    """

    def __init__(
        self, blueprint: Blueprint, version: Version, plugin: Any, loop: asyncio.AbstractEventLoop,
        now_ns: Callable[[], int],
    ) -> None:  # fmt: skip
        self.blueprint, self.version, self.plugin, self.loop = blueprint, version, plugin, loop
        self.kind = kind = version.kind
        self.begun = self.in_charge = self.owes_checkpoint = False
        self.strict = blueprint.strict
        self.interfaces: dict[str, type[Interface]] = {
            each.__contract__.name: each for each in checked_interfaces(kind)
        }
        self.handover = Handover(kind, plugin, blueprint.name, blueprint.largest_state)
        self.direct = not self.handover.stateful and not hasattr(kind, "stop")
        self.in_flight = InFlight()
        self.bindings: dict[str, str] = {}  # the plug-in that was injected for each interface
        self.needs: list[str] = []  # the interfaces that its constructor asks for
        self.blocks_by: list[Route] = []  # routes by which its threads make blocking calls
        self.injected: list[Any] = []  # its proxies
        self.background: set[asyncio.Task[Any]] = set()
        self.server = Server(loop, now_ns, concurrency=blueprint.concurrency, threads=blueprint.threads)
        self.served: dict[str, dict[str, ServedMethod]] = {}
        for name, interface in self.interfaces.items():
            self.served[name] = {
                method.name: ServedMethod(method, MethodCodec(method), getattr(plugin, method.name), blueprint.threads)
                for method in interface.__contract__.methods.values()
            }
        self.wires: dict[int, Wire] = {}
        self.bell = -1

    @property
    def pool(self) -> MethodPool | None:
        """The threads for its `def` methods, if it has any."""
        return self.server.pool if self.blueprint.threads else None

    def describe(self) -> Built:
        return Built(
            [each.__contract__.describe() for each in self.interfaces.values()],
            self.handover.stateful, self.handover.version,
            inspect.cleandoc(self.kind.__doc__ or ""), self.bindings, self.needs,
            checked_grant_rights(self.kind), checked_grant_scopes(self.kind), one_replica(self.kind),
        )  # fmt: skip

    def contract_for(self, caller: Description) -> Contract:
        """The contract that `caller` calls. Raises ContractError with every difference."""
        interface = self.interfaces.get(caller.name)
        if interface is None:
            raise ContractError(
                f"{self.blueprint.name} does not serve {caller.name}; it serves {', '.join(self.interfaces)}"
            )
        contract = interface.__contract__
        if caller.hash != contract.hash:
            lines = differences(caller, contract.describe())
            if lines:
                raise ContractError(
                    f"{caller.name}: the caller's contract and {self.blueprint.name}'s don't fit", lines
                )
        return contract

    def attach(self, channel: int, wire: Wire, caller: Description, granted: Granted | None = None) -> None:
        """Serve the calls of one channel, from the moment that the instance is active. `granted`: what its methods are
        told of the caller."""
        contract = self.contract_for(caller)
        methods = methods_for(caller, contract, self.served[contract.name])
        if granted is not None:
            methods = [restricted(method, self.plugin, granted) for method in methods]
        self.server.attach(wire, methods)
        self.wires[channel] = wire

    # -- hooks ------------------------------------------------------------------------------------------------

    async def hook(self, name: str, doing: str, seconds: float | None = None) -> None:
        """Run an optional hook, `def` or `async def`. Raises TookTooLong after `seconds`, and what `outcome` does."""
        function = getattr(self.plugin, name, None)
        if function is not None:
            context = self.server.context  # what it sets there its methods have, as what its constructor has set
            await outcome(context.run(function), self.blueprint.name, doing, seconds, context)

    def plugin_is_draining(self) -> None:
        """Ask a plug-in that streams without end to end its streams: they are waited for."""
        draining = getattr(self.plugin, "draining", None)
        if draining is not None:
            try:
                draining()
            except Exception:
                log.exception("%s: its draining failed; its streams are waited for all the same", self.blueprint.key)

    async def drained(self, limit: float, gated: Callable[[], int] = lambda: 0) -> None:
        """Start nothing more and wait until nothing runs, no thread of a call that was cancelled either. Raises
        SwapFailed after `limit` seconds. `gated`: how many calls wait at the gates of this process."""
        done: asyncio.Future[None] = self.loop.create_future()

        def check() -> None:
            if not done.done():
                if self.in_flight.running:
                    self.in_flight.when_idle = check
                elif self.server.pool.busy:  # an inline call has left its thread behind
                    self.server.pause(check)
                else:
                    done.set_result(None)

        self.server.pause(check)
        if done.done():
            return
        self.plugin_is_draining()
        await asyncio.wait((done,), timeout=limit)
        if not done.done():
            raise SwapFailed(f"after {limit:g} s {self.still_busy()}; nothing was cut off{self.held_back(gated())}")

    def still_busy(self) -> str:
        """What has not ended yet, for people."""
        count = len(self.server.running) + self.in_flight.running
        if count:
            running = ", ".join(sorted({call.method.name for call in self.server.running.values()}))
            return f"{count} calls were still running{': ' + running if running else ''}"
        if self.server.pool.busy:
            return f"{self.server.pool.busy} threads were still running"
        return "callers had not read what they were answered"

    def held_back(self, gated: int) -> str:
        """What may keep calls from ending while nothing is started, for people."""
        count = gated + self.server.backlog.waiting
        if not count:
            return ""
        return (
            f". {count} calls waited meanwhile to be begun: what ran may be waiting for one of them, by way of a "
            f"plug-in that calls {self.blueprint.name!r} back"
        )

    async def stop(self, drain: float, reason: str) -> None:
        """Start nothing more, wait up to `drain` seconds for what runs, end the rest with `reason`; run the stop hook
        and let go of everything."""
        try:
            await self.drained(drain)
        except SwapFailed:
            log.warning("%s is stopped while calls are running", self.blueprint.key)
            self.server.cut_off(reason)
            self.in_flight.waiting.end(reason)
            self.end_background()
            with contextlib.suppress(SwapFailed):  # they clean up before the stop hook takes away what they use
                await self.drained(CLEAN_UP)
        try:
            await self.hook("stop", "being stopped", hooks.PATIENCE)
        except TookTooLong:
            log.warning("%s: its stop did not return within %g s, and is given up", self.blueprint.key, hooks.PATIENCE)
        finally:
            self.server.close()
            self.end_background()
            for wire in list(self.wires.values()):
                wire.close()
            self.wires.clear()

    def end_background(self) -> None:
        """Cancel the one-way calls and checkpoints, for which nobody waits."""
        for task in list(self.background):
            task.cancel()


def checked_grant_rights(kind: type) -> list[str]:
    """The rights in grants that a class tells apart. Raises ContractError for what are no names of rights."""
    rights = getattr(kind, "grant_rights", ())
    if not isinstance(rights, tuple | list) or not all(isinstance(r, str) and RIGHT.fullmatch(r) for r in rights):
        raise ContractError(
            f"{kind.__qualname__}.grant_rights: got {rights!r}, wanted a tuple of lower-case words, such as ('read',)"
        )
    return list(rights)


def checked_grant_scopes(kind: type) -> str:
    """What the scopes in grants of a class are. Raises ContractError for what nobody knows."""
    scopes = getattr(kind, "grant_scopes", "")
    if scopes not in ("", PATHS):
        raise ContractError(f"{kind.__qualname__}.grant_scopes: got {scopes!r}, wanted {PATHS!r}, or '' for any text")
    return str(scopes)


def one_replica(kind: type) -> bool:
    """Does a class have what several instances can't share?"""
    return bool(getattr(kind, "one_replica", False))


def checked_interfaces(kind: type) -> list[type[Interface]]:
    """The interfaces that a class serves. Raises ContractError that lists what it does not implement, or names a hook
    of which nothing would run."""
    for name in HOOKS:
        hook = getattr(kind, name, None)
        if inspect.isgeneratorfunction(hook) or inspect.isasyncgenfunction(hook):
            raise ContractError(
                f"{kind.__qualname__}.{name}: got a generator, which the kernel would call and never run; wanted `def` "
                "or `async def` without `yield`"
            )
    found = list(interfaces_of(kind))
    if not found:
        raise ContractError(
            f"{kind.__qualname__} implements no interface: derive it from Plugin and an Interface, "
            f"`class {kind.__name__}(Plugin, SomeInterface)`"
        )
    lines = [line for interface in found for line in check_implements(kind, interface)]
    if lines and kind in found:
        raise ContractError(
            f"{kind.__qualname__} is an interface itself: wanted a class that derives from Plugin and from it, "
            f"`class My{kind.__name__}(Plugin, {kind.__name__})`"
        )
    if lines:
        raise ContractError(f"{kind.__qualname__} does not implement {found[0].__contract__.name}", lines)
    return found
