"""Narrowing: a plug-in passes on a part of what it was granted, as a token that another one redeems for a channel."""

from __future__ import annotations

import hmac
import secrets
from collections import Counter
from dataclasses import dataclass

from ..contract import Capability, Granted, Overloaded, PermissionDenied, read_capability
from .capabilities import Capabilities
from .registry import Entry, Registry

MOST = 10_000  # different narrowings of one plug-in


@dataclass(frozen=True, slots=True, eq=False)
class Narrowed:
    """What was passed on: `capability` for `server`, by the plug-in `giver`, of what it holds itself or was passed
    (`parent`). `origin`: whose own grant all of it is a part of. `secret`: what the token shows."""

    number: int
    giver: Entry
    server: str
    capability: Capability
    parent: Narrowed | None
    origin: Entry
    secret: str

    def granted(self, interface: str) -> Granted | None:
        """What the caller of a channel may do who has redeemed it; None: everything. Raises PermissionDenied."""
        if self.capability.interface != interface:
            raise PermissionDenied(f"the token is for {self.capability.interface}, not for {interface}")
        return None if self.capability.whole else Granted((self.capability,))

    @property
    def token(self) -> str:
        return f"{self.number}.{self.secret}"


class Narrowings:
    """All that was passed on, by number and by what it is. It is as good as what its giver holds now."""

    def __init__(self, registry: Registry, capabilities: Capabilities) -> None:
        self.registry, self.capabilities = registry, capabilities
        self.made: dict[int, Narrowed] = {}
        self.parts: dict[tuple[Entry, str, Capability, Narrowed | None], Narrowed] = {}  # the same
        self.channels: dict[int, Narrowed] = {}  # those that tokens opened, by number
        self.counts: Counter[Entry] = Counter()  # parts, by their giver
        self.full: dict[Entry, tuple[Capability, ...]] = {}  # what those held who had too many
        self.last, self.swept = 0, MOST

    def narrow(self, giver: Entry, server: str, capability: Capability, token: str) -> str:
        """A token for a part of what `giver` holds, by itself or by another `token`; the same for the same part. Raises
        PermissionDenied where that is no part of it, and Overloaded where it has too many."""
        parent = self.found(token) if token else None
        if parent is not None and parent.server != server:
            raise PermissionDenied(f"the token is for {parent.server!r}, not for {server!r}")
        holding = self.capabilities.holding(giver)
        held = (parent.capability,) if parent is not None else holding
        if not any(each.covers(capability) for each in held):
            names = ", ".join(map(str, held)) or "nothing"
            raise PermissionDenied(f"{giver.name!r} can't pass on {capability}: it holds {names}")
        part = giver, server, capability, parent
        if part in self.parts:
            return self.parts[part].token
        if (
            self.counts[giver] >= MOST and self.full.get(giver) != holding
        ):  # what it holds has changed: some may be dead
            self.sweep()
            self.full[giver] = holding
        if self.counts[giver] >= MOST:
            raise Overloaded(f"{giver.name!r} has passed on {MOST:,} different parts of what it holds, wanted no more")
        if len(self.parts) >= self.swept:
            self.sweep()
        self.counts[giver] += 1
        self.last += 1
        origin = giver if parent is None else parent.origin
        made = Narrowed(self.last, giver, server, capability, parent, origin, secrets.token_hex(16))
        self.made[made.number] = self.parts[part] = made
        return made.token

    def sweep(self) -> None:
        """Forget what is dead. The next time is when there are twice as many, or a giver has too many and holds others
        than the last time: so it costs little, whatever a giver does."""
        alive: dict[int, Narrowed] = {}
        for made in self.made.values():  # each after what it is a part of
            if (made.parent is None or made.parent.number in alive) and self.holds(made):
                alive[made.number] = made
        self.parts = {each: made for each, made in self.parts.items() if made.number in alive}
        self.made = alive
        self.counts = Counter(each[0] for each in self.parts)
        self.swept = max(MOST, 2 * len(self.parts))
        self.full = {giver: held for giver, held in self.full.items() if giver in self.counts}

    def found(self, token: str) -> Narrowed:
        """Raises PermissionDenied for a token that nobody was given, and for one that is not good any more."""
        number, _, secret = token.partition(".")
        made = self.made.get(int(number)) if number.isascii() and number.isdecimal() and len(number) < 20 else None
        # Compared in a time that does not tell how much of a guess was right.
        known = hmac.compare_digest(secret.encode(), (made.secret if made is not None else "").encode())
        if made is None or not known or not self.lives(made):
            raise PermissionDenied("the token is of no grant: it was forged, or what it is a part of was revoked")
        return made

    def lives(self, made: Narrowed) -> bool:
        """Do its giver, and those before, still hold what it is a part of? A chain is as long as its givers like."""
        part: Narrowed | None = made
        while part is not None and self.holds(part):
            part = part.parent
        return part is None

    def holds(self, part: Narrowed) -> bool:
        """Does its giver, by what it holds itself or was passed?"""
        if self.registry.entries.get(part.giver.name) is not part.giver:
            return False
        held = (part.parent.capability,) if part.parent is not None else self.capabilities.holding(part.giver)
        return any(each.covers(part.capability) for each in held)


def part_of(interface: str, text: str) -> Capability:
    """The capability of "right,right:scope" in an interface; "": the whole of it. Raises ContractError."""
    return read_capability(f"{interface}:{text}" if text else interface)
