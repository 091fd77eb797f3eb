"""A process that calls many others holds rights to each: more than one packet carries, and more than it may have."""

from __future__ import annotations

import pytest
from core_samples import Counter, Sum, Summing, Tally

from mukernel import Kernel, Overloaded
from mukernel.kernel.process import Limits


async def test_a_process_calls_more_replicas_than_one_packet_has_rights(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=70)
    await kernel.load(Sum, placement="process")
    reached = {(await kernel.get(Summing).where())[1] for _ in range(140)}
    assert len(reached) == 70
    await kernel.scale("counter", 2)
    assert len({(await kernel.get(Summing).where())[1] for _ in range(140)}) == 2


async def test_who_may_not_have_as_many_files_is_told(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=20)
    with pytest.raises(Overloaded, match=r"counter: .* files for each of 20 channels: this process may have 64 open"):
        await kernel.load(Sum, placement="process", limits=Limits(files=64))
    await kernel.load(Sum, placement="process", limits=Limits(files=512))
    assert await kernel.get(Summing).add_twice(1) > 0
    await kernel.get(Counter).add(1)
