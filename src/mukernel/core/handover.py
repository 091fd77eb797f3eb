"""State that one instance hands to the next: what `save` returns and `restore` takes, with its version.

The hooks are read when the instance is built, not when callers wait for the hand-over.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from ..contract import SwapFailed, type_hints
from . import hooks
from .hooks import TookTooLong, outcome


class Handover:
    """The `save` and `restore` of one plug-in object; `named`: as its users call it.

    `stateful`: it has a `save`. `version`: its class's `state_version`, 1 if it names none. `largest`: bytes of a state
    that it may save; None: any number.
    """

    def __init__(self, kind: type, plugin: Any, named: str, largest: int | None = None) -> None:
        self.name, self.named, self.largest = kind.__qualname__, named, largest
        self.plugin = plugin
        self.stateful = hasattr(kind, "save")
        self.version = int(getattr(kind, "state_version", 1))
        self.knows_version = False
        restore = getattr(kind, "restore", None)
        if restore is not None:
            function = inspect.unwrap(restore)
            parameters = function.__code__.co_varnames[1 : function.__code__.co_argcount]
            self.knows_version = len(parameters) > 1
            wanted = function.__annotations__.get(parameters[0], Any) if parameters else Any
            if isinstance(wanted, str):
                wanted = type_hints(function, {}).get(parameters[0], Any)
            self.decode = msgspec.msgpack.Decoder(wanted).decode

    async def save(self) -> bytes | None:
        """The encoded state; None if there is none. Raises SwapFailed for what can't be encoded."""
        if not self.stateful:
            return None
        state = await self.in_time("save", "saving its state", self.plugin.save())
        try:
            encoded = msgspec.msgpack.encode(state)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SwapFailed(f"{self.name}.save returned what can't be handed over: {error}") from None
        if self.largest is not None and len(encoded) > self.largest:
            raise SwapFailed(
                f"{self.name}.save returned a state of {len(encoded):,} bytes, wanted at most {self.largest:,}: the "
                "`memory` of its process, or 256M where it has none"
            )
        return encoded

    async def restore(self, state: bytes, version: int) -> None:
        """Take over a state that some version of this plug-in saved. Raises SwapFailed where it can't be read."""
        if not hasattr(self.plugin, "restore"):
            return
        other = version != self.version
        if other and not self.knows_version:
            raise SwapFailed(
                f"the state is of version {version}, {self.name} has version {self.version}: give its restore a second "
                "parameter, the version of the state, and let it convert"
            )
        try:
            value = msgspec.msgpack.decode(state) if other else self.decode(state)
        except Exception as error:  # of another form, or none at all, or nested too deep
            raise SwapFailed(f"{self.name}.restore can't read the state: {error}") from None
        more = (version,) if self.knows_version else ()
        await self.in_time("restore", "restoring its state", self.plugin.restore(value, *more))

    async def in_time(self, hook: str, doing: str, result: Any) -> Any:
        """What a hook returned, or what came of awaiting that. Raises SwapFailed after PATIENCE: callers wait."""
        try:
            return await outcome(result, self.named, doing, hooks.PATIENCE)
        except TookTooLong:
            raise SwapFailed(f"{self.name}.{hook} did not return within {hooks.PATIENCE:g} s") from None
