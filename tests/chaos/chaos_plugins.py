"""Plug-ins for scenarios that no benchmark has. Imported by other processes by name."""

from benchmarks.load import Caller, Counting, Load
from mukernel import Interface, Plugin


class Relaying(Interface):
    """Calls a tally from a process of its own. `end` tells how many calls each caller made."""

    async def begin(self, first: int, callers: int) -> None: ...
    async def end(self) -> dict[int, int]: ...


class Relay(Plugin, Relaying):
    def __init__(self, counting: Counting) -> None:
        self.counting = counting

    async def begin(self, first: int, callers: int) -> None:
        numbers = range(first, first + callers)
        self.load = Load([Caller(number, self.counting.count) for number in numbers])
        await self.load.__aenter__()

    async def end(self) -> dict[int, int]:
        await self.load.__aexit__(None, None, None)
        failed = {how for caller in self.load for how in caller.ended.values()}
        if failed or self.load.hanging:
            raise RuntimeError(f"{self.load.hanging} calls hang, others ended in {failed}")
        return {caller.number: caller.issued for caller in self.load}
