"""Who pays for the memory of an array that nobody has touched: who made it, and never who was sent it."""

from __future__ import annotations

import platform
import resource

import numpy
import pytest
from sandbox_arrays import Idle, Sink, Source, Stingy, Victim
from test_cgroups import needs_groups

from mukernel import ContractError, Kernel, PluginCrashed
from mukernel.kernel.process import Limits

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there is no sandbox here")
SMALL = Limits(memory=160 << 20)  # numpy alone takes close to 100; and 64 MB for its /tmp


@needs_groups
async def test_who_made_it_is_ended_for_want_of_memory_and_not_who_was_sent_it() -> None:
    async with Kernel() as kernel:
        await kernel.load(Victim, placement="sandbox", limits=SMALL)
        await kernel.load(Idle, placement="sandbox", limits=SMALL, grants=["Sink"])
        source = kernel.get(Source)
        assert await source.push(32) == 0
        with pytest.raises(PluginCrashed, match=r"Source\.push.*its sandbox had used up its memory"):
            await source.push(400)
        with pytest.raises(PluginCrashed, match=r"Source\.get.*its sandbox had used up its memory"):
            await source.get(400)
        assert [entry.name for entry in kernel.registry.entries.values() if entry.restarts] == ["idle"]
        assert await source.push(32) == 0


async def test_what_was_not_paid_for_is_refused() -> None:
    async with Kernel() as kernel:
        await kernel.load(Victim, placement="process")
        await kernel.load(Stingy, placement="sandbox", grants=["Sink"])
        source, before = kernel.get(Source), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for refused in (source.push(400), source.get(400)):
            with pytest.raises(ContractError, match=r"holes: 0 of its 419,430,400 bytes have memory"):
                await refused
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
        assert await kernel.get(Sink).total(numpy.ones(1 << 20, "u1")) == 1 << 20
