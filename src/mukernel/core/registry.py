"""Registry: which plug-ins there are, what they serve, and which instance of each runs where."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ..contract import Capability, ContractError, Description, Granted, NotFound, Unavailable
from ..kernel.ipc import Port
from ..kernel.process import Limits
from ..sandbox.policy import Sandbox
from .ledger import Ledger
from .lifecycle import Lifecycle, State
from .messages import Blueprint, Built, Source
from .place import Place

LONGEST_HISTORY = 10  # versions
DEFAULT_LOG = 64 << 20  # bytes
MOST_DOUBLINGS = 60  # of the back-off: that is longer than any, and still a float
History = deque[tuple[Source, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What the supervisor does about crashes.

    More than `intensity` restarts within `period` seconds: it gives up. Before the n-th restart in a row it waits
    `backoff * 2**(n-2)` seconds (the first is immediate), at most `longest_backoff`. `strategy`: "one-for-one", or
    "rest-for-one": what was loaded later and was given it is restarted, too. `hang`: seconds without a heartbeat after
    which an instance counts as hanging; 0: never.
    """

    intensity: int = 5
    period: float = 10.0
    backoff: float = 0.1
    longest_backoff: float = 10.0
    strategy: str = "one-for-one"
    hang: float = 30.0

    def back_off(self, restarts: int) -> float:
        """Seconds to wait after so many restarts in a row, at least 1, before the next."""
        return min(self.backoff * 2.0 ** min(restarts - 1, MOST_DOUBLINGS), self.longest_backoff)


@dataclass(frozen=True, slots=True)
class Options:
    """How a plug-in is to run.

    `drain`: seconds that a swap waits for calls that are being run. `bind`: which plug-in is meant, by interface.
    `sandbox`: what it may touch where its placement is a sandbox; None: nothing but what is always there.
    `grants`: what it may call; None: nothing was said.
    `shared_memory`: bytes of segments that its process may hold; None: half of the machine's memory.
    `log_size`: bytes that are kept of what its process prints.
    """

    placement: str = "inline"
    replicas: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    concurrency: int | None = None
    threads: int = 0
    checkpoint: float | None = None
    drain: float = 30.0
    limits: Limits = Limits()
    restart: RestartPolicy = RestartPolicy()
    bind: dict[str, str] = field(default_factory=dict)
    sandbox: Sandbox | None = None
    grants: tuple[Capability, ...] | None = None
    shared_memory: int | None = None
    log_size: int = DEFAULT_LOG


@dataclass(slots=True, eq=False)
class Instance:
    """The kernel's record of one instance: what it was built from, where it is, and how far in its life. `checkpoint`:
    the last that it made before it was its replica's; where it never is, nobody's. `unattached`: the channels that its
    process may open no more files for."""

    blueprint: Blueprint
    place: Place
    built: Built
    life: Lifecycle = field(default_factory=Lifecycle)
    checkpoint: tuple[bytes, int] | None = None
    unattached: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Replica:
    """A port and the instance that receives from it. `successor` is warm while a replacement is under way.

    `callers`: for each channel number of the port, the contract that its caller calls. `granted`: what its caller may
    do there, for those that don't give everything. `abandoned`: those that hold one-way calls of a caller who
    is gone. `coming`: it may yet come to nothing; `leaving`: it serves what it was sent. Nobody is led to either.
    """

    number: int
    port: Port
    instance: Instance | None = None
    successor: Instance | None = None
    callers: dict[int, Description] = field(default_factory=dict)
    granted: dict[int, Granted] = field(default_factory=dict)
    abandoned: set[int] = field(default_factory=set)
    restarts: list[float] = field(default_factory=list)
    checkpoint: tuple[bytes, int] | None = None
    restarting: asyncio.Task[None] | None = None
    back_off: asyncio.Task[None] | None = None  # what that waits for, between two restarts
    coming: bool = False
    leaving: bool = False
    failure: str | None = None  # why it is given up
    ended: str = ""  # how its last instance's process did that nobody asked to, as in "it ..."
    settled: Ledger = Ledger()  # the account of channels that are closed

    @property
    def serves(self) -> bool:
        return self.instance is not None and self.instance.life.state is State.SERVING


@dataclass(slots=True, eq=False)
class Entry:
    """One plug-in. `lock` serialises what replaces its instances; `version` counts its builds.

    `grants`: what it may call at present; None: nothing was said. Apart from `options`, which a replacement that is
    under way puts back: what was revoked stays so. `history`: the versions before, each with its configuration, the
    last one last; where that is the present one, the last swap loaded its files again.
    """

    name: str
    source: Source
    options: Options
    order: int
    replicas: list[Replica] = field(default_factory=list)
    grants: tuple[Capability, ...] | None = None
    interfaces: list[Description] = field(default_factory=list)
    declared: Sequence[Description] = ()  # what it is known to serve, before it does
    rights: list[str] = field(default_factory=list)  # those in grants that it tells apart
    scopes: str = ""  # what scopes there are
    asks: tuple[str, ...] = ()  # the interfaces that the constructor of its last instance asks for
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    builds: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    history: History = field(default_factory=lambda: deque(maxlen=LONGEST_HISTORY))
    bindings: dict[str, str] = field(default_factory=dict)  # the plug-in that was injected for each interface
    preparing: asyncio.Timeout | None = None  # a replacement, until it hands over: a crash ends that at once
    restarts: int = 0
    restarting_dependants: asyncio.Task[None] | None = None
    hang: str | None = None  # when it was found hanging the last time: where it stood
    settled: Ledger = Ledger()  # the account of replicas that are gone

    @property
    def staying(self) -> list[Replica]:
        """The replicas that callers are led to."""
        return [replica for replica in self.replicas if not (replica.coming or replica.leaving)]

    @property
    def failure(self) -> str | None:
        """Why it is given up; None as long as some replica is not."""
        reasons = [replica.failure for replica in self.staying]
        return None if None in reasons or not reasons else reasons[0]

    @property
    def reloaded(self) -> bool:
        """Did the last swap load the same files again, with the same configuration? What they held before is gone."""
        return bool(self.history) and self.history[-1] == (self.source, self.options.config)

    def before(self) -> tuple[Source, dict[str, Any]]:
        """The version before the last swap, and its configuration. Raises ContractError where it can't be had."""
        if not self.history:
            raise ContractError(
                f"plug-in {self.name!r} was not swapped since it was loaded, or all swaps were taken back: there is no "
                "version to go back to"
            )
        if self.reloaded:
            raise ContractError(
                f"the last swap of plug-in {self.name!r} loaded {self.source.title} again, and what its files held "
                f"before is gone: put that back and load it again (`mukernel swap {self.name}`), or swap to another "
                "version"
            )
        return self.history[-1]

    def served_by(self, instance: Instance) -> None:
        """An instance has begun to serve: what it serves, and whom it calls, is so for the plug-in from now on."""
        self.interfaces, self.bindings = instance.built.interfaces, instance.built.bindings
        self.rights, self.scopes = instance.built.rights, instance.built.scopes

    @property
    def state(self) -> State:
        """The state of its worst replica."""
        order = [State.FAILED, State.CRASHED, State.BUILDING, State.QUIESCING, State.QUIET, State.WARM, State.SERVING]
        states = [r.instance.life.state for r in self.replicas if r.instance is not None]
        return next((state for state in order if state in states), State.STOPPED)


class Registry:
    """All plug-ins by name."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.brokers: dict[tuple[str, str], str] = {}  # by interface and plug-in: who keeps its calls
        self.order = itertools.count()

    def add(self, name: str, source: Source, options: Options) -> Entry:
        """Register a plug-in. Raises ContractError for a name that is taken."""
        self.check_free(name)
        entry = self.entries[name] = Entry(name, source, options, next(self.order), grants=options.grants)
        return entry

    def check_free(self, name: str) -> None:
        """Raises ContractError for a name that is taken."""
        if name in self.entries:
            raise ContractError(f"plug-in {name!r} is loaded already; swap it, or unload it first")

    def entry(self, name: str) -> Entry:
        """Raises NotFound with the names there are."""
        found = self.entries.get(name)
        if found is None:
            raise NotFound(f"no plug-in is named {name!r}; there are: {', '.join(self.entries) or 'none'}")
        return found

    @asynccontextmanager
    async def changing(self, name: str) -> AsyncIterator[Entry]:
        """A plug-in, when it is our turn to change it. Raises NotFound; Unavailable where it was unloaded meanwhile."""
        entry = self.entry(name)
        async with entry.lock:
            if self.entries.get(name) is not entry:
                raise Unavailable(f"plug-in {name!r} was unloaded while this waited for its turn")
            yield entry

    def kept_for(self, name: str) -> str:
        """The plug-in whose calls a broker keeps; "" for what is no broker."""
        return next((plugin for (_, plugin), broker in self.brokers.items() if broker == name), "")

    def answering(self, interface: str, plugin: str | None, direct: bool = False) -> Entry:
        """The plug-in that takes the calls of an interface: its broker, where the route is brokered and the caller is
        no broker itself (`direct`). Raises as `serving`, and Unavailable where the broker is not there."""
        found = [] if direct else [
            broker for (name, kept_for), broker in self.brokers.items()
            if name == interface and plugin in (None, kept_for)
        ]  # fmt: skip
        if not found:
            return self.serving(interface, plugin)
        if found[0] not in self.entries:
            raise Unavailable(f"{interface}: its calls are kept by {found[0]!r}, which is not there; start that again")
        return self.entries[found[0]]

    def serving(self, interface: str, plugin: str | None = None) -> Entry:
        """The plug-in that serves an interface. Raises NotFound, or ContractError where several do and none was
        named."""
        found = [
            e for e in self.entries.values()
            if any(each.name == interface for each in e.interfaces) and not self.kept_for(e.name)
        ]  # fmt: skip
        names = ", ".join(repr(e.name) for e in found)
        if plugin is not None:
            entry = self.entries.get(plugin)
            if entry is None:
                raise NotFound(f"no plug-in is named {plugin!r}; {interface} is served by: {names or 'none'}")
            if not any(each.name == interface for each in entry.interfaces):
                served = ", ".join(each.name for each in entry.interfaces)
                raise NotFound(f"plug-in {plugin!r} does not serve {interface}; it serves: {served or 'nothing yet'}")
            return entry
        if not found:
            known = sorted({each.name for e in self.entries.values() for each in e.interfaces})
            raise NotFound(f"no plug-in serves {interface}; interfaces that are served: {', '.join(known) or 'none'}")
        if len(found) > 1:
            hint = f"say which one is meant (plugin=...; in a command --plugin; in load bind={{{interface!r}: ...}})"
            raise ContractError(f"several plug-ins serve {interface}: {names}; {hint}")
        return found[0]

    def replicas(self) -> Iterator[tuple[Entry, Replica]]:
        for entry in self.entries.values():
            for replica in entry.replicas:
                yield entry, replica

    def checkpointed(self, key: str, state: bytes, version: int) -> None:
        """Keep the state that an instance has saved, for a restart; that of a successor once it serves."""
        for _, replica in self.replicas():
            for instance in (replica.instance, replica.successor):
                if instance is not None and instance.blueprint.key == key:
                    keeper = replica if instance is replica.instance else instance
                    keeper.checkpoint = state, version
