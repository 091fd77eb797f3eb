"""TestKernel: a kernel in one thread, on virtual time, the same from run to run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from ..core.kernel import Kernel
from ..core.place import RemotePlace
from ..kernel.clock import VirtualClock
from ..kernel.ipc import Port
from ..transports.memory import Weather, make_channel
from .processes import MemoryProcesses

T = TypeVar("T")


class TestKernel(Kernel):
    """A kernel for tests. Placements mean what they mean elsewhere, but a process is a space in this thread.

    Time is virtual: it stands still while anything can run and jumps to the next timer else, so that hours pass at
    once and nothing has to be waited for. Every value passes through the codec, inline too (`strict`), so what would
    break between processes breaks here. `weather`: delays and losses of messages, from a seed.

    What it can't show: blocking calls into other processes are answered only by methods that run at once, limits on
    memory and processor time do nothing, a placement of "sandbox" keeps its plug-in from nothing but what it was not
    granted, and a plug-in that blocks its thread blocks them all. Use real processes for those.
    """

    __test__ = False  # pytest: not a class of tests

    clock: VirtualClock

    def __init__(
        self, name: str = "test", *, clock: VirtualClock | None = None, strict: bool = True,
        weather: Weather | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, clock=clock or VirtualClock(), strict=strict)
        self.transport, self.weather = "memory", weather or Weather()

    def run(self, main: Callable[[TestKernel], Awaitable[T]]) -> T:
        """Run `main(kernel)` in virtual time, with the kernel up. Raises DeadlockError when it can never end."""

        async def whole() -> T:
            async with self:
                return await main(self)

        return self.clock.run(whole())

    async def kill(self, plugin: str) -> None:
        """Kill the process of a plug-in, as `kill -9` would. Raises NotFound, ValueError for one that runs inline."""
        for replica in self.registry.entry(plugin).replicas:
            if replica.instance is not None:
                place = replica.instance.place
                if not isinstance(place, RemotePlace):
                    raise ValueError(f"{plugin!r} runs inline: it has no process of its own to be killed")
                place.kill()

    def new_processes(self) -> MemoryProcesses:
        return MemoryProcesses(self.space, self.registry, self.switchboard)

    def new_port(self) -> Port:
        return Port("memory", partial(make_channel, weather=self.weather))
