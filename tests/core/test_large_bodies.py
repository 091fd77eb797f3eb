"""Bodies too large for the ring: who reads them may die of it, and may have no memory for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mukernel import Interface, Kernel, Overloaded, Plugin, RestartPolicy, idempotent
from mukernel.kernel import ipc

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


# -- bodies that do not fit into the process that is to read them ------------------------------------------------

POOR, TOO_MUCH = 100 * MEBIBYTE, 120 * MEBIBYTE


class Bytes(Interface):
    """The methods of a plug-in that is run in each of the ways that there are."""

    async def size(self, body: bytes) -> int: ...
    async def size_here(self, body: bytes) -> int: ...
    def sizes(self, bodies: AsyncIterator[bytes]) -> AsyncIterator[int]: ...
    async def make(self, size: int) -> bytes: ...


class Ways(Plugin, Bytes):
    async def size(self, body: bytes) -> int:
        return len(body)

    def size_here(self, body: bytes) -> int:  # type: ignore[override]
        return len(body)

    async def sizes(self, bodies: AsyncIterator[bytes]) -> AsyncIterator[int]:
        async for body in bodies:
            yield len(body)

    async def make(self, size: int) -> bytes:
        return bytes(size)


class Asking(Interface):
    async def ask(self, size: int) -> int: ...


class Asker(Plugin, Asking):
    def __init__(self, ways: Bytes) -> None:
        self.ways = ways

    async def ask(self, size: int) -> int:
        return len(await self.ways.make(size))


class BlockingSource(Interface):
    def make(self, size: int) -> bytes: ...


class Source(Plugin, BlockingSource):
    def make(self, size: int) -> bytes:
        return bytes(size)


class BlockingAsking(Interface):
    def ask(self, size: int) -> int: ...


class BlockingAsker(Plugin, BlockingAsking):
    def __init__(self, source: BlockingSource) -> None:
        self.source = source

    def ask(self, size: int) -> int:
        try:
            return len(self.source.make(size))
        except Overloaded:
            return -1


@pytest.fixture(params=["socket"] if ipc.ring is None else ["ring", "socket"])
async def wired(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kernel]:
    """A kernel of each transport."""
    monkeypatch.setenv("MUKERNEL_TRANSPORT", request.param)
    async with Kernel() as kernel:
        yield kernel


@pytest.mark.parametrize("method", ["size", "size_here"])
async def test_arguments_that_do_not_fit_end_their_call_and_no_other(wired: Kernel, method: str) -> None:
    await wired.load(Ways, name="ways", placement="process", memory=POOR)
    call = getattr(wired.get(Bytes), method)
    assert await call(b"small") == 5
    async with asyncio.timeout(30):
        large, small = await asyncio.gather(call(bytes(TOO_MUCH)), call(b"small"), return_exceptions=True)
    assert isinstance(large, Overloaded) and "no memory for a body of 1258291" in str(large)
    assert small == 5 and await call(b"small") == 5
    assert [each.what for each in wired.events] == ["load"], "its process died of it"
    ledger = await wired.ledger("ways")
    assert (ledger.accepted, ledger.refused, ledger.lost) == (4, 1, 0)


async def test_an_item_that_does_not_fit_ends_its_stream(wired: Kernel) -> None:
    async def bodies() -> AsyncIterator[bytes]:
        yield b"small"
        yield bytes(TOO_MUCH)

    await wired.load(Ways, name="ways", placement="process", memory=POOR)
    ways, got = wired.get(Bytes), list[int]()
    async with asyncio.timeout(30):
        with pytest.raises(Overloaded, match="no memory for an item"):
            async for size in ways.sizes(bodies()):
                got.append(size)
    assert got == [5]
    assert await ways.size(b"small") == 5


async def test_a_reply_that_does_not_fit_ends_its_call_and_no_other(wired: Kernel) -> None:
    await wired.load(Ways, name="ways", placement="process")
    await wired.load(Asker, name="asker", placement="process", memory=POOR)
    asking = wired.get(Asking)
    async with asyncio.timeout(30):
        with pytest.raises(Overloaded, match=r"its reply could not be received: .* 1258291\d\d bytes"):
            await asking.ask(TOO_MUCH)
        assert await asking.ask(5) == 5
    assert [each.what for each in wired.events] == ["load", "load"], "its process died of it"


async def test_a_reply_that_does_not_fit_ends_a_blocking_call(wired: Kernel) -> None:
    await wired.load(Source, name="source", placement="process")
    await wired.load(BlockingAsker, name="asker", placement="process", memory=POOR)
    asking = wired.get(BlockingAsking)
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(asking.ask, TOO_MUCH) == -1
        assert await asyncio.to_thread(asking.ask, 5) == 5
