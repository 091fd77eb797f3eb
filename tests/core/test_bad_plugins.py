"""Bad input: each gives an error that names the place and what was wanted, and the rest goes on unharmed."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import core_faulty as faulty
import pytest
from core_samples import Arithmetic, Counter, Plain, Refused, Sum, Summing, Tally
from waiting import until_event

from mukernel import (
    ContractError,
    Interface,
    Kernel,
    NotFound,
    Overloaded,
    Plugin,
    PluginCrashed,
    RemoteError,
    Unavailable,
)

PLACEMENTS = ("inline", "process")


@pytest.fixture
async def neighbour(kernel: Kernel) -> AsyncIterator[Plain]:
    """A plug-in that must not notice anything of what the others do."""
    await kernel.load(Arithmetic, name="neighbour", placement="process")
    plain = kernel.get(Plain)
    yield plain
    assert plain.plus(1) == 2
    assert [event.what for event in kernel.events if event.plugin == "neighbour"] == ["load"]


def test_a_folder_for_logs_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"log_folder: got .*nowhere.*, which is no folder"):
        Kernel(log_folder=str(tmp_path / "nowhere"))


# -- loading ----------------------------------------------------------------------------------------------------

BROKEN_MODULE = "import no_such_dependency\nfrom core_samples import Tally\nclass Broken(Tally): ...\n"

LOADS: list[tuple[type | str, dict[str, Any], type[Exception], str]] = [
    ("missing.py:Tally", {}, NotFound, "there is no file .*missing.py"),
    ("broken.py:Broken", {}, Exception, "No module named 'no_such_dependency'"),
    ("torn.py:Torn", {}, Exception, "torn.py.*line 1|SyntaxError"),
    ("fine.py:Nothing", {}, NotFound, r"fine:Nothing is not there; wanted a class, or .* \(the module defines: Fine\)"),
    ("fine.py:number", {}, NotFound, "fine:number is a int; wanted a class"),
    ("no_such_module:Tally", {}, NotFound, "there is no module 'no_such_module'"),
    ("core_samples.no_such:Tally", {}, NotFound, "there is no module 'core_samples"),
    ("nothing-installed", {}, NotFound, "no entry point of group 'mukernel.plugins' has that name"),
    ("core_samples:", {}, ContractError, "wanted 'module:Class', 'file.py:Class' or the name of an entry point"),
    (faulty.RaisesInConstructor, {}, Exception, "no such disk"),
    (faulty.RaisesInStart, {}, Exception, "the database does not answer"),
    (faulty.RaisesInHealth, {}, Exception, "the index is empty"),
    (faulty.StartIsAGenerator, {}, ContractError, r"StartIsAGenerator.start: got a generator, which .* never run"),
    (faulty.NoCounter, {}, ContractError, "NoCounter implements no interface: derive it from Plugin and an Interface"),
    (faulty.HalfCounter, {}, ContractError, "HalfCounter does not implement Counter"),
    (Tally, {"start_at": "x"}, ContractError, "plug-in 'bad': config.start_at is 'x': Expected `int`, got `str`"),
    (Tally, {"begin_at": 1}, ContractError, "plug-in 'bad': config.begin_at is unknown to Tally; it takes: start_at"),
    (faulty.WaitsInStart, {}, ContractError, "plug-in 'bad': config.whistle is missing; WaitsInStart wants str"),
    (Sum, {}, NotFound, r"'bad': Sum.__init__ asks for Counter \(parameter 'counter'\): no plug-in serves Counter"),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(
    ("use", "config", "error", "message"), LOADS, ids=[str(getattr(use, "__name__", use)) for use, *_ in LOADS]
)
async def test_what_cannot_be_loaded_says_why_and_leaves_nothing(
    kernel: Kernel, neighbour: Plain, tmp_path: Path, placement: str,
    use: type | str, config: dict[str, Any], error: type[Exception], message: str,
) -> None:  # fmt: skip
    (tmp_path / "broken.py").write_text(BROKEN_MODULE)
    (tmp_path / "torn.py").write_text("class Torn(:\n")
    (tmp_path / "fine.py").write_text("from core_samples import Tally\nnumber = 1\nclass Fine(Tally): ...\n")
    with pytest.raises(error, match=f"(?s){message}"):
        await kernel.load(use, name="bad", placement=placement, config=config, folder=str(tmp_path))
    assert "bad" not in kernel.registry.entries
    assert len(kernel.places) == 1, "the process of a plug-in that was not loaded is still there"
    with pytest.raises(NotFound):
        kernel.get(Counter)
    await kernel.load(Tally, name="bad", placement=placement)
    assert await kernel.get(Counter).add(1) == 1


async def test_names_that_are_unknown_taken_or_ambiguous(kernel: Kernel, neighbour: Plain) -> None:
    await kernel.load(Tally, name="one")
    with pytest.raises(ContractError, match="plug-in 'one' is loaded already; swap it, or unload it first"):
        await kernel.load(Tally, name="one")
    await kernel.load(Tally, name="two")
    with pytest.raises(ContractError, match=r"several plug-ins serve Counter: 'one', 'two'; say which one is meant"):
        kernel.get(Counter)
    assert await kernel.get(Counter, plugin="two").value() == 0
    with pytest.raises(NotFound, match=r"no plug-in is named 'three'; Counter is served by: 'one', 'two'$"):
        kernel.get(Counter, plugin="three")
    with pytest.raises(NotFound, match="plug-in 'one' does not serve Summing; it serves: Counter"):
        kernel.get(Summing, plugin="one")
    with pytest.raises(NotFound, match="no plug-in serves Summing; interfaces that are served: Counter, Plain"):
        kernel.get(Summing)
    with pytest.raises(ContractError, match="wanted an Interface class"):
        kernel.get(int)  # type: ignore[type-var]
    with pytest.raises(ContractError, match="placement: got 'thread', wanted 'inline', 'process'"):
        await kernel.load(Tally, name="three", placement="thread")
    operations = [kernel.unload, kernel.restart, kernel.ledger, lambda name: kernel.scale(name, 1)]
    for operation in operations:
        with pytest.raises(NotFound, match="no plug-in is named 'three'"):
            await operation("three")  # type: ignore[operator]


class Chicken(Interface):
    async def lay(self) -> int: ...


class Egg(Interface):
    async def hatch(self) -> int: ...


class Hen(Plugin, Chicken):
    def __init__(self, egg: Egg) -> None:
        self.egg = egg

    async def lay(self) -> int:
        return 1


class Shell(Plugin, Egg):
    def __init__(self, chicken: Chicken) -> None:
        self.chicken = chicken

    async def hatch(self) -> int:
        return 1


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_dependency_cycle_ends_in_an_error_whichever_comes_first(kernel: Kernel, placement: str) -> None:
    for first, missing in ((Hen, "Egg"), (Shell, "Chicken")):
        with pytest.raises(NotFound, match=f"asks for {missing}"):
            await kernel.load(first, placement=placement)
    assert not kernel.registry.entries


# -- calling ----------------------------------------------------------------------------------------------------


async def test_a_wrong_type_in_a_call_names_the_parameter(kernel: Kernel, neighbour: Plain) -> None:
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    with pytest.raises(ContractError, match=r"(?s)Counter.add.*amount.*expected int, got str"):
        await counter.add("many")  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=r"(?s)Counter.add.*amount"):
        await counter.add()  # type: ignore[call-arg]
    with pytest.raises(ContractError, match=r"(?s)Counter.add.*count"):
        await counter.add(1, count=2)  # type: ignore[call-arg]
    with pytest.raises(ContractError, match=r"(?s)Counter.add.*amount.*object"):
        await counter.add(object())  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="no_such_method"):
        await counter.no_such_method()  # type: ignore[attr-defined]
    assert await counter.add(1) == 1, "a call that did not fit was run"


async def test_a_wrong_result_is_an_error_of_the_plugin(kernel: Kernel, neighbour: Plain) -> None:
    await kernel.load(faulty.WrongResults, name="counter", placement="process")
    counter = kernel.get(Counter)
    wanted = r"(?s)Counter.{}.*expected int, got str.*the plug-in returned what its interface does not declare"
    with pytest.raises(ContractError, match=wanted.format("add")):
        await counter.add(1)
    with pytest.raises(ContractError, match=r"(?s)Counter.value.*object"):
        await counter.value()
    with pytest.raises(ContractError, match=wanted.format("numbers")):
        [number async for number in counter.numbers(2)]
    assert await counter.version() == "one"


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_what_a_plugin_raises_arrives_as_declared_or_with_its_traceback(kernel: Kernel, placement: str) -> None:
    await kernel.load(Tally, name="counter", placement=placement)
    counter = kernel.get(Counter)
    with pytest.raises(Refused, match="too much"):
        await counter.refuse("too much")
    with pytest.raises(RemoteError if placement == "process" else LookupError, match="lost") as caught:
        await counter.fail("lost")
    if isinstance(caught.value, RemoteError):
        assert caught.value.type_name == "LookupError"
        assert "core_samples.py" in caught.value.traceback
        assert "raise LookupError(why)" in caught.value.traceback


async def test_errors_keep_their_types_through_a_chain(kernel: Kernel) -> None:
    """B calls A, which dies: its own caller is told of the crash, not of a RemoteError."""
    await kernel.load(faulty.DiesAtOnce, name="counter", placement="process")
    await kernel.load(Sum, name="sum", placement="process")
    with pytest.raises(PluginCrashed, match=r"Counter.add: its process died"):
        await kernel.get(Summing).add_twice(0)


async def test_a_plugin_that_raises_in_stop_is_unloaded_all_the_same(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    await kernel.load(faulty.RaisesInStop, name="inline")
    await kernel.load(faulty.RaisesInStop, name="process", placement="process")
    for name in ("inline", "process"):
        await kernel.unload(name)
        assert name not in kernel.registry.entries
    assert caplog.text.count("could not flush") >= 2
    assert not kernel.places


async def test_calls_to_what_was_unloaded_say_so(kernel: Kernel) -> None:
    for placement in PLACEMENTS:
        await kernel.load(Tally, name="counter", placement=placement)
        counter, blocking = kernel.get(Counter), kernel.get(Counter, blocking=True)
        await kernel.unload("counter")
        with pytest.raises(Unavailable, match="plug-in 'counter' was unloaded"):
            await counter.add(1)
        with pytest.raises(Unavailable, match="plug-in 'counter' was unloaded"):
            await asyncio.to_thread(blocking.add, 1)  # type: ignore[arg-type]
        await kernel.load(Tally, name="counter", placement=placement)
        assert await kernel.get(Counter).add(1) == 1
        await kernel.unload("counter")


# -- flooding and garbage -----------------------------------------------------------------------------------------


async def test_a_flood_of_oneway_calls_is_refused_at_the_bound(kernel: Kernel, neighbour: Plain, whistle: Any) -> None:
    """The mailbox holds what it holds; beyond it the caller is told at once, and loses nothing that was accepted."""
    await kernel.load(Tally, name="counter", placement="process", concurrency=1)
    counter = kernel.get(Counter)
    held = asyncio.create_task(counter.hold(whistle.path))
    await whistle.heard()
    accepted = 0
    with pytest.raises(Overloaded, match=r"Counter.note: the mailbox is full"):
        while accepted < 1_000_000:
            await counter.note(1)
            accepted += 1
    assert neighbour.plus(1) == 2
    held.cancel()
    while (value := await when_there_is_room(counter)) < accepted:
        assert value <= accepted
    assert value == accepted


async def when_there_is_room(counter: Counter) -> int:
    while True:
        try:
            return await counter.value()
        except Overloaded:
            await asyncio.sleep(0)


async def test_a_stream_never_runs_ahead_of_its_reader(kernel: Kernel) -> None:
    """It stops when its credit is used up, however fast it could go: what its caller keeps stays small."""
    await kernel.load(Tally, name="counter", placement="process")
    counter = kernel.get(Counter)
    stream = counter.numbers(10_000_000)
    assert await anext(stream) == 0
    for _ in range(50):
        await counter.where()
    (caller,) = next(iter(kernel.space.routes.values())).callers
    (incoming,) = caller.streams.values()
    assert 0 < len(incoming.items) <= 64
    await stream.aclose()  # type: ignore[attr-defined]
    assert await counter.add(1) == 1


async def test_a_flood_of_replies_that_nobody_asked_for_breaks_that_channel_only(
    kernel: Kernel, neighbour: Plain
) -> None:
    await kernel.load(faulty.Vandal, name="counter", placement="process")
    counter = kernel.get(Counter)
    with pytest.raises(PluginCrashed, match="an answer came to a call that was never made"):
        await counter.add(-1)
    assert neighbour.plus(2) == 3
    assert await answers_again(counter) == 0


async def test_garbage_in_a_ring_breaks_that_channel_only(kernel: Kernel, neighbour: Plain) -> None:
    """The caller is told, and calls again by a new channel; nobody else notices."""
    await kernel.load(faulty.Vandal, name="counter", placement="process")
    await kernel.load(Sum, name="sum", placement="process")
    counter, summing = kernel.get(Counter), kernel.get(Summing)
    assert await summing.add_twice(2) == 4
    with pytest.raises((PluginCrashed, Unavailable), match=r"ring|record|garbage|channel|connection"):
        await counter.add(0)
    assert neighbour.plus(2) == 3
    assert await answers_again(counter) >= 4
    assert await answers_again_in_a_chain(summing) >= 4


async def test_a_process_that_spoils_its_channels_and_dies_is_restarted(kernel: Kernel, neighbour: Plain) -> None:
    """What the kernel knows of a channel it does not read from memory that others can write."""
    await kernel.load(faulty.Scribbler, name="counter", placement="process")
    await kernel.load(Sum, name="sum", placement="process")
    counter, summing = kernel.get(Counter), kernel.get(Summing)
    assert (await counter.add(1), await summing.add_twice(1)) == (1, 3)
    async with asyncio.timeout(20):
        with pytest.raises(PluginCrashed):
            await counter.add(0)
        await until_event(kernel, "counter", "restart")
        assert await summing.add_twice(1) >= 2
        assert await answers_again(counter) >= 2
        await kernel.unload("counter")
    happened = [event.what for event in kernel.events if event.plugin == "counter"]
    assert happened == ["load", "crash", "restart", "unload"]


async def test_a_process_that_can_not_be_given_a_channel_leaves_nobody_waiting(
    kernel: Kernel, neighbour: Plain
) -> None:
    """It has no file descriptors left: a new caller is told, those that it has are served, and a restart mends it."""
    await kernel.load(faulty.Scribbler, name="counter", placement="process")
    counter = kernel.get(Counter)
    await counter.add(-1)
    another = kernel.get(Counter, when_full="wait")
    async with asyncio.timeout(20):
        with pytest.raises(Overloaded, match="counter: its process serves no more callers: it may open no more files"):
            await another.add(1)
        await counter.value()
        await kernel.restart("counter")
        assert await another.add(1) == 0  # its state is carried over
    assert [event.what for event in kernel.events if event.plugin == "counter"] == ["load", "restart"]


async def answers_again(counter: Counter) -> int:
    """Calls end in an error until the channel is replaced; they must not hang."""
    while True:
        try:
            return await counter.value()
        except (PluginCrashed, Unavailable):
            await asyncio.sleep(0)


async def answers_again_in_a_chain(summing: Summing) -> int:
    while True:
        try:
            return await summing.add_twice(1)
        except (PluginCrashed, Unavailable):
            await asyncio.sleep(0)


async def test_garbage_from_a_caller_harms_only_that_caller(kernel: Kernel, neighbour: Plain) -> None:
    """The kernel's own end of one channel is spoilt: another caller's calls, on other channels, go on."""
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(Sum, name="sum", placement="process")
    counter, summing = kernel.get(Counter), kernel.get(Summing)
    assert (await counter.add(1), await summing.add_twice(1)) == (1, 3)
    channels = kernel.registry.entry("counter").replicas[0].port.channels.values()
    ours = next(channel for channel in channels if channel.caller == "kernel")
    faulty.spoil(ours.caller_rights[0])
    os.write(kernel.registry.entry("counter").replicas[0].port.bell[1], b"!")
    with contextlib.suppress(PluginCrashed, Unavailable):  # it may have been served before anybody looked
        await counter.add(1)
    assert await summing.add_twice(1) >= 5
    assert await answers_again(counter) >= 5
    assert [event.what for event in kernel.events if event.plugin == "counter"] == ["load"], "its process died of it"


async def test_a_reply_that_breaks_when_it_is_taken(kernel: Kernel, neighbour: Plain) -> None:
    """In the kernel's own process, and in that of a plug-in."""
    await kernel.load(faulty.Vandal, name="counter", placement="process")
    await kernel.load(Sum, name="sum", placement="process")
    counter, summing = kernel.get(Counter), kernel.get(Summing)
    with pytest.raises(PluginCrashed, match="the connection broke: a large body lies outside its region"):
        await counter.add(-2)
    assert await answers_again_in_a_chain(summing) == 2
    assert await answers_again(counter) == 2
    with contextlib.suppress(PluginCrashed, Unavailable):
        await summing.add_twice(-2)
    assert await answers_again_in_a_chain(summing) == 4
    assert [event.what for event in kernel.events if event.plugin == "sum"] == ["load"], "its process died of it"


@pytest.mark.parametrize("victim", [Tally, Arithmetic], ids=["async", "def"])
@pytest.mark.parametrize("method", [0, 1, 999])
async def test_a_call_that_breaks_when_it_is_taken(kernel: Kernel, neighbour: Plain, victim: type, method: int) -> None:
    """It says that its body lies outside of everything: its channel is closed, and the process of the plug-in lives."""
    await kernel.load(victim, name="victim", placement="process")
    if victim is Tally:
        await kernel.load(Sum, name="sum", placement="process")
    proxy: Any = kernel.get(Counter if victim is Tally else Plain, plugin="victim")
    (caller,) = proxy._mukernel_route.callers
    assert caller.wire.send(0, 1 << 40, b"\xff" * 16, method, 0, 0, 0, 0, 0x80, None)
    call = proxy.value if victim is Tally else lambda: asyncio.to_thread(proxy.plus, 1)
    while True:
        try:
            assert await call() in (0, 2)
            break
        except (PluginCrashed, Unavailable):  # the channel was closed; the next one is on its way
            await asyncio.sleep(0)
    if victim is Tally:
        assert await kernel.get(Summing).add_twice(1) == 2
    assert [event.what for event in kernel.events if event.plugin == "victim"] == ["load"], "its process died of it"
