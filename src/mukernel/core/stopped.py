"""Stopped plug-ins: those that run no more, and whose declaration is kept so that they can be started
again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..contract import Description, NotFound
from .messages import Source
from .registry import Entry, Options

if TYPE_CHECKING:
    from .kernel import Kernel


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a plug-in was when it was stopped, and so what it will be."""

    source: Source
    options: Options
    interfaces: tuple[Description, ...]
    order: int


class StoppedPlugins:
    """Stops plug-ins of one kernel, and starts them again as they were."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.declarations: dict[str, Declaration] = {}

    async def stop(self, name: str) -> None:
        """End a plug-in and keep its declaration. Calls to it fail with Unavailable until it is started.
        Raises NotFound."""
        if name in self.declarations:
            return
        entry = self.entry(name)
        declaration = Declaration(
            entry.source, replace(entry.options, grants=entry.grants), tuple(entry.interfaces), entry.order
        )
        await self.kernel.unload(name, f"plug-in {name!r} is stopped; `mukernel start {name}` starts it again")
        self.declarations[name] = declaration

    def entry(self, name: str) -> Entry:
        """A plug-in that runs. Raises NotFound with those that there are, stopped or not."""
        running = self.kernel.registry.entries
        if name in running:
            return running[name]
        known = [*running, *(f"{each} (stopped)" for each in self.declarations)]
        raise NotFound(f"no plug-in is named {name!r}; there are: {', '.join(known) or 'none'}")

    async def start(self, name: str) -> None:
        """Start a stopped plug-in; whoever held a proxy of it calls it again. Raises NotFound, or why it
        can't start."""
        kernel, declaration = self.kernel, self.declarations.get(name)
        if declaration is None:
            if name in kernel.registry.entries:
                return
            known = ", ".join(self.declarations) or "none"
            raise NotFound(f"no plug-in {name!r} is stopped; stopped are: {known}")
        try:
            async with kernel.deployments.source(declaration.source) as source:
                await kernel.start(name, source, declaration.options, declaration.interfaces)
        finally:
            await kernel.forget_unused()
        del self.declarations[name]
        kernel.registry.entry(name).order = declaration.order  # its callers, who stayed, still come after it
