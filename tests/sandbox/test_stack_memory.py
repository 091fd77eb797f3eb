"""Stacks are memory that the limit of a process does not count: a sandbox has one, of a bounded size."""

from __future__ import annotations

import mmap
import resource

import pytest

from mukernel import Interface, Kernel, Plugin, RemoteError
from mukernel.sandbox.enclosure import STACK

GROWING = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100  # MAP_GROWSDOWN


class Stacks(Interface, version="1.0"):
    async def most(self) -> tuple[int, int]: ...
    async def another(self) -> None: ...


class Stacking(Plugin, Stacks):
    async def most(self) -> tuple[int, int]:
        return resource.getrlimit(resource.RLIMIT_STACK)

    async def another(self) -> None:
        mmap.mmap(-1, 1 << 20, flags=GROWING).close()


async def test_a_sandbox_has_one_stack_of_a_bounded_size() -> None:
    async with Kernel() as kernel:
        await kernel.load(Stacking, placement="sandbox")
        stacks = kernel.get(Stacks)
        soft, hard = await stacks.most()
        assert 0 < soft <= hard <= STACK
        with pytest.raises(RemoteError, match="PermissionError"):
            await stacks.another()
