"""A method that a caller has kept leads to the plug-in, wherever that went meanwhile; inline, where it cost nothing."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from waiting import until_state

from mukernel import Interface, Kernel, Plugin, SwapFailed
from mukernel.core.lifecycle import State


class Till(Interface, version="1.0"):
    """Takes money, for code without an event loop and for code with one."""

    def take(self, amount: int, *, tip: int = 0) -> int: ...
    def named(self, amount: int = 1) -> str: ...
    def counted(self, amount: int) -> int: ...
    def all(self) -> Iterator[int]: ...
    def each(self) -> AsyncIterator[int]: ...
    async def later(self, amount: int, *, tip: int = 0) -> int: ...
    async def wait(self) -> str: ...


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Named:
    def named(self, amount: int = 1) -> str:
        return f"{type(self).__name__} {amount}"


class First(Named, Plugin, Till):
    """Its state is what it took."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.open = asyncio.Event()

    def save(self) -> list[int]:
        return self.taken

    def restore(self, state: list[int]) -> None:
        self.taken = state

    def take(self, amount: int, *, tip: int = 0) -> int:
        self.taken.append(amount + tip)
        return sum(self.taken)

    def named(self, amount: int = 1) -> str:
        return super().named(amount)  # closes over its class

    @traced
    def counted(self, amount: int) -> int:
        return self.take(amount)

    def all(self) -> Iterator[int]:
        yield from self.taken

    async def each(self) -> AsyncIterator[int]:
        for amount in self.taken:
            yield amount

    async def later(self, amount: int, *, tip: int = 0) -> int:
        return self.take(amount, tip=tip)

    async def wait(self) -> str:
        await self.open.wait()
        return type(self).__name__


class Second(First):
    """The next version, which takes double."""

    def take(self, amount: int, *, tip: int = 0) -> int:
        return super().take(2 * amount, tip=tip)


async def test_a_kept_method_that_blocks_leads_to_the_next_version(kernel: Kernel) -> None:
    await kernel.load(First, name="till")
    till = kernel.get(Till)
    take, named, counted = till.take, till.named, till.counted
    assert (take(1), named(), counted(2)) == (1, "First 1", 3)
    await kernel.swap("till", Second)
    assert (take(3, tip=1), named(amount=4), counted(1)) == (10, "Second 4", 12)
    await kernel.move("till", "process")
    assert await asyncio.to_thread(take, 1) == 14
    assert await asyncio.to_thread(till.take, 1) == 16
    assert await asyncio.to_thread(take, tip=1, amount=0) == 17


class Motto(Interface, version="1.0"):
    """Says who it is."""

    def say(self) -> str: ...
    async def say_later(self, *, prefix: str = "") -> str: ...
    def words(self) -> AsyncIterator[str]: ...


class Quiet(Plugin, Motto):
    """Has no state and nothing to stop: its own methods, and nothing around them, are what callers call."""

    def say(self) -> str:
        return type(self).__name__

    async def say_later(self, *, prefix: str = "") -> str:
        return prefix + type(self).__name__

    async def words(self) -> AsyncIterator[str]:
        yield type(self).__name__


class Loud(Quiet):
    """The next version."""


async def test_kept_methods_of_a_plugin_without_state_lead_to_the_next_version(kernel: Kernel) -> None:
    await kernel.load(Quiet, name="motto")
    motto = kernel.get(Motto)
    say, say_later, words = motto.say, motto.say_later, motto.words
    assert (say(), await say_later(prefix="> "), [word async for word in words()]) == ("Quiet", "> Quiet", ["Quiet"])
    await kernel.swap("motto", Loud)
    assert (say(), await say_later(prefix="> "), [word async for word in words()]) == ("Loud", "> Loud", ["Loud"])
    await kernel.move("motto", "process")
    assert await say_later(prefix="> ") == "> Loud"
    assert [word async for word in words()] == ["Loud"]
    assert Quiet().say() == "Quiet"


async def test_streams_that_were_kept_or_not_begun_lead_to_the_next_version(kernel: Kernel) -> None:
    await kernel.load(First, name="till")
    till = kernel.get(Till)
    kept, kept_blocking, not_begun = till.each, till.all, till.each()
    till.take(1)
    await kernel.swap("till", Second)
    till.take(1)
    assert [amount async for amount in not_begun] == [1, 2]
    assert [amount async for amount in kept()] == [1, 2]
    assert list(kept_blocking()) == [1, 2]


async def test_other_instances_of_the_class_keep_their_methods(kernel: Kernel) -> None:
    """What is replaced is the code of one instance, not of its class."""
    await kernel.load(First, name="one")
    await kernel.load(First, name="other")
    one, other = kernel.get(Till, plugin="one"), kernel.get(Till, plugin="other")
    kept_one, kept_other = one.take, other.take
    await kernel.swap("one", Second)
    await kernel.unload("one")
    assert First().take(1) == 1
    assert kept_other(5) == 5
    assert list(other.all()) == [5]
    with pytest.raises(Exception, match="unloaded"):
        kept_one(1)


async def test_a_coroutine_that_was_not_begun_leads_to_the_next_version(kernel: Kernel) -> None:
    await kernel.load(First, name="till")
    till = kernel.get(Till)
    waiting = [till.later(1), till.later(amount=2, tip=3)]
    await kernel.swap("till", Second)
    assert [await each for each in waiting] == [2, 9]


async def test_what_was_begun_is_waited_for_however_it_ends(kernel: Kernel) -> None:
    await kernel.load(First, name="till")
    till = kernel.get(Till)
    instance = next(iter(kernel.space.instances.values()))
    calls = [asyncio.ensure_future(till.wait()) for _ in range(3)]
    thrown_away: Any = till.wait()
    thrown_away.send(None)
    await asyncio.sleep(0)
    assert instance.in_flight.running == 4
    replacing = asyncio.create_task(kernel.swap("till", Second))
    await until_state(kernel, "till", State.QUIESCING)
    calls[0].cancel()
    del thrown_away
    await asyncio.wait(calls[:1])
    assert instance.in_flight.running == 2
    assert not replacing.done()
    instance.plugin.open.set()
    assert await asyncio.gather(*calls[1:]) == ["First", "First"]
    assert not (await replacing).rolled_back
    assert instance.in_flight.running == 0


async def test_def_methods_are_answered_while_an_inline_plugin_is_drained(kernel: Kernel) -> None:
    """The loop's own thread can't wait for its loop, so such a call must not be told to."""
    await kernel.load(First, name="till")
    till = kernel.get(Till)
    kept, instance = till.take, next(iter(kernel.space.instances.values()))
    running = asyncio.create_task(till.wait())
    await asyncio.sleep(0)
    replacing = asyncio.create_task(kernel.swap("till", Second))
    await until_state(kernel, "till", State.QUIESCING)
    assert (till.take(1), kept(1)) == (1, 2)
    assert await asyncio.to_thread(lambda: list(instance.plugin.taken)) == [1, 1]
    instance.plugin.open.set()
    seen = 2
    while not replacing.done():
        before, seen = seen, till.take(1)
        assert seen - before in (1, 2), "a call was lost, or run twice"
        await asyncio.sleep(0)
    assert not (await replacing).rolled_back
    assert await running == "First"
    assert till.take(0) == kept(0) == seen


async def test_a_drain_that_fails_leaves_def_methods_as_they_were(kernel: Kernel) -> None:
    await kernel.load(First, name="till")
    till = kernel.get(Till)
    kept, instance = till.take, next(iter(kernel.space.instances.values()))
    running = asyncio.create_task(till.wait())
    await asyncio.sleep(0)
    with pytest.raises(SwapFailed, match="still running"):
        await kernel.swap("till", Second, drain=0)
    assert (till.take(1), kept(1)) == (1, 2)
    instance.plugin.open.set()
    assert await running == "First"
    await kernel.swap("till", Second)
    assert (till.take(1), kept(1)) == (4, 6)


async def test_a_call_that_nobody_waits_for_any_more_is_collected_and_counts_no_more(kernel: Kernel) -> None:
    """A task, its call and the future that it waits for hold each other: the collector must see all of them."""
    await kernel.load(First, name="till")
    instance = next(iter(kernel.space.instances.values()))
    task = asyncio.ensure_future(kernel.get(Till).wait())
    await asyncio.sleep(0)
    assert instance.in_flight.running == 1
    task.get_loop().set_exception_handler(lambda loop, context: None)  # "Task was destroyed but it is pending!"
    gone = weakref.ref(task)
    instance.plugin.open = asyncio.Event()  # what it waited for
    del task
    gc.collect()
    assert gone() is None
    assert instance.in_flight.running == 0
