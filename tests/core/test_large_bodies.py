"""Bodies too large for the ring survive the death of whoever was reading them."""

from __future__ import annotations

import asyncio

from mukernel import Interface, Kernel, Plugin, RestartPolicy, idempotent

MEBIBYTE = 1 << 20


class Sizes(Interface):
    @idempotent
    async def size(self, body: bytes) -> int: ...


class Measure(Plugin, Sizes):
    async def size(self, body: bytes) -> int:
        return len(body)


async def test_kills_among_large_bodies_lose_none(kernel: Kernel) -> None:
    policy = RestartPolicy(intensity=100, backoff=0.0)
    await kernel.load(Measure, name="measure", placement="process", restart=policy)
    sizes = kernel.get(Sizes)
    for _ in range(6):
        calls = [asyncio.create_task(sizes.size(bytes(mebibytes * MEBIBYTE))) for mebibytes in (8, 12, 16)]
        await asyncio.sleep(0)
        for place in list(kernel.places.values()):
            place.kill()
        assert await asyncio.gather(*calls) == [8 * MEBIBYTE, 12 * MEBIBYTE, 16 * MEBIBYTE]
    assert (await kernel.ledger("measure")).lost == 0
