"""What a hostile process says to the kernel takes neither its memory nor its descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from sandbox_flooding import Beside, Flooder, Flooding, Neighbour

from mukernel import Kernel, PluginCrashed
from mukernel.core import allowance, bounds, conversation
from mukernel.core.place import RemotePlace
from mukernel.kernel.process import Limits


@pytest_asyncio.fixture
async def kernel() -> AsyncIterator[Kernel]:
    async with Kernel() as made:
        await made.load(Beside, name="beside", placement="process")
        await made.load(Flooder, name="flooder", placement="sandbox", grants=["Neighbour"])
        yield made


async def assert_unharmed(kernel: Kernel) -> None:
    assert await kernel.get(Neighbour).there()
    await kernel.load(Beside, name="another", placement="process")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_descriptors_beside_what_can_not_be_read(kernel: Kernel) -> None:
    await kernel.get(Neighbour).there()
    before = open_files()
    with pytest.raises(PluginCrashed, match="told the kernel what no plug-in's process may say"):
        await kernel.get(Flooding).nest()
    assert open_files() <= before + 20
    await assert_unharmed(kernel)


async def test_a_state_that_has_cost_nothing(kernel: Kernel) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    with contextlib.suppress(PluginCrashed):
        await kernel.get(Flooding).hollow(200 << 20)
    while ("flooder", "restart") not in [(each.plugin, each.what) for each in kernel.events]:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (100 << 10)
    await assert_unharmed(kernel)


async def test_steps_of_instances_that_there_are_not(kernel: Kernel) -> None:
    await kernel.get(Flooding).step(2000)
    instance = kernel.registry.entry("flooder").replicas[0].instance
    assert instance is not None
    doing = instance.place.doing  # type: ignore[attr-defined]
    assert list(doing) == ["flooder#0.1"]
    assert doing["flooder#0.1"].startswith("?[2Jlong long") and len(doing["flooder#0.1"]) == 200
    await assert_unharmed(kernel)


async def test_channels_that_nobody_lets_go_of(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_CHANNELS", 50)
    answer = await kernel.get(Flooding).connect(100)
    assert answer.startswith("Overloaded: process ") and "would have 51 channels, wanted at most 50" in answer
    await assert_unharmed(kernel)


async def test_what_each_channel_is_asked_for_with_is_not_kept(kernel: Kernel) -> None:
    assert await kernel.get(Flooding).connect(10, 100_000) == "all"
    assert await kernel.get(Flooding).connect(10, 100_000, "another") == "all"  # compatible, and not the same
    entry = kernel.registry.entry("beside")
    kept = {id(each): each for each in entry.replicas[0].callers.values()}
    assert len(entry.replicas[0].callers) >= 20 and len(kept) == 2 and id(entry.interfaces[0]) in kept
    assert [each.documentation for each in kept.values() if each is not entry.interfaces[0]] == [""]


async def test_contracts_that_nobody_serves_are_bounded(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(msgspec.msgpack.encode(Neighbour.__contract__.describe()))
    monkeypatch.setattr(bounds, "LARGEST_TOTAL", 3 * size)
    answers = [await kernel.get(Flooding).connect(1, version=f"version {number}") for number in range(6)]
    assert answers[0] == "all" and answers[-1].startswith("Overloaded: process ")
    assert "contracts that nobody serves as it has them" in answers[-1]
    await assert_unharmed(kernel)


async def test_a_sandbox_takes_half_of_what_its_server_may_open_and_no_more(kernel: Kernel) -> None:
    await kernel.unload("beside")
    await kernel.load(Beside, name="beside", placement="process", limits=Limits(files=80))
    answer = await kernel.get(Flooding).connect(100)
    assert "holds 10 channels to one that may open 80 files, half of which are for others" in answer
    await assert_unharmed(kernel)


async def test_several_leave_the_kernel_the_files_that_it_needs(kernel: Kernel) -> None:
    names = [f"flooder-{number}" for number in range(4)]
    for name in names:
        await kernel.load(Flooder, name=name, placement="sandbox", grants=["Neighbour"])
    flooders = [kernel.get(Flooding, plugin=name) for name in names]  # now: these are the kernel's own channels
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # One may have half of it; and too few of them are left for all. The tests before have left some open, perhaps.
    soon = open_files() + min(open_files(), 1000) + 400
    resource.setrlimit(resource.RLIMIT_NOFILE, (soon, hard))
    try:
        answers = [await flooder.connect(300) for flooder in flooders]
        most = min(soon // 10, 128)
        assert f"would have {most + 1} channels, wanted at most {most}" in answers[0]
        assert "for a channel from process" in answers[-1] and "beside those that it keeps for itself" in answers[-1]
        await assert_unharmed(kernel)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_who_takes_up_the_kernels_time_is_heard_less(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbours are served meanwhile, and what it leaves behind in its link holds up nobody, either."""
    monkeypatch.setattr(allowance, "SHARE", 0.1)  # which it comes to on a machine with much else to do, too
    monkeypatch.setattr(allowance, "AT_ONCE", 0.02)
    monkeypatch.setattr(conversation, "AT_ONCE", 0.1)
    place = kernel.registry.entry("flooder").replicas[0].instance.place  # type: ignore[union-attr]
    assert isinstance(place, RemotePlace)
    flood = asyncio.ensure_future(kernel.get(Flooding).at_length(20 << 20))
    paused = 0
    while paused < 3:
        assert await kernel.get(Neighbour).there()
        paused += place.conversation.pause is not None
    place.kill()
    with pytest.raises(PluginCrashed):
        await flood
    await assert_unharmed(kernel)
