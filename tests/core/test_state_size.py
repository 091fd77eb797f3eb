"""The state that a process saves is held by the kernel: so it has a bound, which its operator sets."""

from __future__ import annotations

import os
import signal

import pytest
from waiting import until, until_event

from mukernel import Interface, Kernel, Plugin, RemoteError, SwapFailed
from mukernel.core import instances


class Hoarding(Interface, version="1.0"):
    """Keeps bytes."""

    async def hoard(self, size: int) -> None: ...
    async def held(self) -> int: ...
    async def where(self) -> int: ...
    async def save_now(self) -> None: ...


class Hoarder(Plugin, Hoarding):
    def __init__(self) -> None:
        self.bytes = b""

    async def hoard(self, size: int) -> None:
        self.bytes = b"x" * size

    async def held(self) -> int:
        return len(self.bytes)

    async def where(self) -> int:
        return os.getpid()

    async def save_now(self) -> None:
        await self.checkpoint()

    def save(self) -> bytes:
        return self.bytes

    def restore(self, state: bytes) -> None:
        self.bytes = state


async def test_a_state_as_large_as_allowed_is_handed_over_and_kept(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "LARGEST_STATE", 16 << 20)
    await kernel.load(Hoarder, name="hoarder", placement="process")
    hoarder, size = kernel.get(Hoarding), (16 << 20) - 5  # a head of five bytes says how many there are
    await hoarder.hoard(size)
    await kernel.restart("hoarder")
    assert await hoarder.held() == size
    await hoarder.save_now()
    replica = kernel.registry.entry("hoarder").replicas[0]
    await until(lambda: replica.checkpoint is not None)
    os.kill(await hoarder.where(), signal.SIGKILL)
    await until_event(kernel, "hoarder", "restart", 2)
    assert await hoarder.held() == size


@pytest.mark.parametrize("memory", [None, 1 << 30])
async def test_a_larger_one_is_refused_where_it_is_saved_and_harms_nobody(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, memory: int | None
) -> None:
    monkeypatch.setattr(instances, "LARGEST_STATE", 1 << 20)
    await kernel.load(Hoarder, name="hoarder", placement="process", memory=memory)
    hoarder = kernel.get(Hoarding)
    pid = await hoarder.where()
    await hoarder.hoard(1 << 20)
    if memory is not None:  # what the operator allows
        await kernel.restart("hoarder")
        return
    with pytest.raises(SwapFailed, match="a state of 1,048,581 bytes, wanted at most 1,048,576: the `memory` of its"):
        await kernel.restart("hoarder")
    with pytest.raises((SwapFailed, RemoteError), match="wanted at most 1,048,576"):
        await hoarder.save_now()
    assert await hoarder.where() == pid and await hoarder.held() == 1 << 20
