"""Methods in threads end as others do, whatever they raise: no future may keep an exception for itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from conformance_worlds import World, threaded

from mukernel import Interface, Kernel, Plugin, RemoteError, raises

RAISED: dict[str, type[BaseException]] = {
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": concurrent.futures.CancelledError,
    "GeneratorExit": GeneratorExit,
}
NO_AWAIT = "StopIteration"  # which Python raises through none, wherever the plug-in runs


class Raising(Interface, version="1.0"):
    """The same, awaited, waited for, and as a stream."""

    async def awaited(self, what: str) -> int: ...
    def blocking(self, what: str) -> int: ...
    def items(self, what: str) -> AsyncIterator[int]: ...
    def blocking_items(self, what: str) -> Iterator[int]: ...
    @raises(concurrent.futures.CancelledError)
    async def declared(self) -> int: ...


class Raises(Plugin, Raising):
    def awaited(self, what: str) -> int:  # type: ignore[override]
        return self.blocking(what)

    def blocking(self, what: str) -> int:
        if what:
            raise RAISED[what]
        return 1

    async def items(self, what: str) -> AsyncIterator[int]:
        yield 1
        self.blocking(what)

    def blocking_items(self, what: str) -> Iterator[int]:
        yield 1
        self.blocking(what)

    def declared(self) -> int:  # type: ignore[override]
        raise concurrent.futures.CancelledError


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("what", RAISED)
@threaded
async def test_a_call_ends_whatever_is_raised(world: World, kernel: Kernel, what: str, threads: int) -> None:
    await kernel.load(Raises, name="raises", placement=world.placement, threads=threads)
    raising, blocking = kernel.get(Raising), kernel.get(Raising, blocking=True)

    async def items() -> None:
        async for _ in raising.items(what):
            pass

    async def waiting(method: Callable[[str], object]) -> None:
        """In a thread of its own: asyncio's future of one would not take the error, either."""
        raised = await asyncio.to_thread(raised_by, method)
        if raised is not None:
            raise raised

    def raised_by(method: Callable[[str], object]) -> BaseException | None:
        try:
            method(what)
        except BaseException as error:
            return error
        return None

    ways: list[Callable[[], Awaitable[object]]] = [
        lambda: raising.awaited(what), lambda: waiting(blocking.awaited), lambda: waiting(blocking.blocking),
    ]  # fmt: skip
    for way in ways:
        if world.isolated or what == NO_AWAIT:
            with pytest.raises(RemoteError) as caught:
                await ended(way())
            assert caught.value.type_name == what and "in blocking" in caught.value.traceback
        else:
            with pytest.raises((RAISED[what], RemoteError)):
                await ended(way())
        assert await ended(raising.awaited("")) == 1  # its thread has been given back
    for stream in (
        items,
        lambda: waiting(lambda what: [*blocking.items(what)]),
        lambda: waiting(lambda what: [*blocking.blocking_items(what)]),
    ):
        with pytest.raises((RemoteError, RuntimeError, RAISED[what])):
            await ended(stream())
    report = await kernel.swap("raises", Raises)
    assert report.ledger.running == 0


@threaded
async def test_a_declared_cancellation_arrives_as_itself(world: World, kernel: Kernel) -> None:
    """It cancels nobody: asyncio would make one of its own of it, in a future."""
    await kernel.load(Raises, placement=world.placement, threads=1)
    with pytest.raises(concurrent.futures.CancelledError):
        await ended(kernel.get(Raising).declared())


async def ended(call: Awaitable[object]) -> object:
    """What comes of a call; one that never ends fails the test."""
    async with asyncio.timeout(60):
        return await call
