"""The broker of a route: whatever methods are named, and whoever is to blame for a crash."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from brokered_samples import Billing, Bills, Jobs, NextRouted, NextRouting, Routed, Routing, UnfitRouting, Worker
from events_collecting import until

from mukernel import (
    Buffer,
    ContractError,
    Interface,
    Kernel,
    Plugin,
    PluginCrashed,
    RestartPolicy,
    SwapFailed,
    Unavailable,
    idempotent,
    oneway,
)
from mukernel.contract.interface import HOOKS
from mukernel.servers.events import Events, EventServer
from mukernel.servers.events.broker import CallBroker, KeptCalls


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    async with Kernel() as running:
        yield running


async def keep_calls_of(kernel: Kernel, interface: str, folder: Path) -> None:
    config = {"folder": str(folder / "events"), "calls": [interface]}
    await kernel.load(EventServer, name="events", placement="process", config=config)


class Post(Interface):
    """Methods that are called as what a broker has within."""

    @oneway
    async def leave(self) -> None: ...
    @oneway
    async def begin(self) -> None: ...
    @oneway
    async def deliver(self, parcel: str) -> None: ...
    @oneway
    async def queue(self, parcel: str) -> None: ...
    @oneway
    async def settle(self) -> None: ...
    @idempotent
    async def name(self) -> str:
        raise NotImplementedError

    @idempotent
    async def count(self, street: str, house: int = 1) -> int:
        raise NotImplementedError

    @idempotent
    async def accept(self, parcel: str) -> str:
        raise NotImplementedError


class Office(Plugin, Post):
    done: list[str]

    def __init__(self) -> None:
        Office.done = self.parcels = []

    async def leave(self) -> None:
        self.parcels.append("leave")

    async def begin(self) -> None:
        self.parcels.append("begin")

    async def deliver(self, parcel: str) -> None:
        self.parcels.append(f"deliver {parcel}")

    async def queue(self, parcel: str) -> None:
        self.parcels.append(f"queue {parcel}")

    async def settle(self) -> None:
        self.parcels.append("settle")

    async def name(self) -> str:
        return "office"

    async def count(self, street: str, house: int = 1) -> int:
        return house

    async def accept(self, parcel: str) -> str:
        return parcel


async def test_methods_may_have_any_name_that_an_interface_allows(kernel: Kernel, tmp_path: Path) -> None:
    await keep_calls_of(kernel, "Post", tmp_path)
    await kernel.load(Office, name="office")
    await kernel.route(Post, brokered=True)
    post = kernel.get(Post)
    await post.leave()
    await post.begin()
    await post.deliver("a")
    await post.queue("b")
    await post.settle()
    assert await post.name() == "office"
    assert (await post.count("Elm"), await post.count("Elm", 7)) == (1, 7)
    assert await post.accept("c") == "c"
    await until(lambda: len(Office.done) == 5)
    assert Office.done == ["leave", "begin", "deliver a", "queue b", "settle"]


def test_a_broker_has_no_name_that_a_method_could_have() -> None:
    public = {name for name in dir(CallBroker) if not name.startswith("_")} - set(dir(Plugin))
    assert public <= set(HOOKS)  # which no interface may declare


async def test_one_call_that_kills_its_plug_in_takes_no_other_to_the_dead_letters(
    kernel: Kernel, tmp_path: Path
) -> None:
    await keep_calls_of(kernel, "Jobs", tmp_path)
    ran = tmp_path / "ran"
    patient = RestartPolicy(intensity=1000, backoff=0.0)
    await kernel.load(Worker, name="worker", placement="process", config={"file": str(ran)}, restart=patient)
    await kernel.route(Jobs, brokered=True)
    jobs, good = kernel.get(Jobs), [str(number) for number in range(60)]
    await asyncio.gather(*(jobs.run(job) for job in ["poison", *good]))
    events = kernel.get(Events)
    while (await events.stats()).streams["calls-Jobs"].groups["broker"].settled < 61:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert (await events.stats()).streams["dead-letters"].last == 1
    assert set(ran.read_text().split()) == set(good)


async def until_dead(kernel: Kernel, letters: int = 1) -> None:
    events = kernel.get(Events)
    while (await events.stats()).streams["dead-letters"].last < letters:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_how_often_a_call_killed_its_plug_in_is_known_after_a_restart_of_everything(tmp_path: Path) -> None:
    file = tmp_path / "file"
    patient = RestartPolicy(intensity=1000, backoff=0.0)
    for life in range(2):
        async with Kernel() as kernel:
            await keep_calls_of(kernel, "Bills", tmp_path)
            config = {"file": str(file)}
            await kernel.load(Billing, name="billing", placement="process", config=config, restart=patient)
            await kernel.route(Bills, brokered=True)
            if life == 0:
                await kernel.get(Bills).note("die 1000")
                await until(lambda: file.exists() and len(file.read_text().splitlines()) >= 3)
            else:
                await until_dead(kernel)
    assert len(file.read_text().splitlines()) in (5, 6)  # the end of the first life may have cut one off


async def test_a_call_that_kills_its_plug_in_does_not_have_it_given_up(kernel: Kernel, tmp_path: Path) -> None:
    await keep_calls_of(kernel, "Bills", tmp_path)
    policy = RestartPolicy(intensity=1, period=0.5, backoff=0.0)
    config = {"file": str(tmp_path / "file")}
    await kernel.load(Billing, name="billing", placement="process", config=config, restart=policy)
    await kernel.route(Bills, brokered=True)
    await kernel.get(Bills).note("die 1000")
    await until_dead(kernel)
    assert await kernel.get(Bills).size(Buffer(b"abc")) == 3
    await until(lambda: kernel.registry.entry("billing").restarts == 5)


async def crash(calls: KeptCalls, count: int = 1) -> None:
    """So many calls end in one crash of the plug-in."""
    for _ in range(count):
        call: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        calls.sent[call] = 1
        call.set_exception(PluginCrashed("its process died"))
        calls.answered(call)


async def test_after_crashes_calls_are_made_as_its_supervisor_puts_up_with() -> None:
    now = 100.0
    clock: Any = SimpleNamespace(now=lambda: now)
    client: Any = None
    calls = KeptCalls(Office(), clock, client, "office", 10, 4, 10.0)

    def left(crashes: int) -> tuple[float, int]:
        return round(calls.rest(crashes), 3), calls.company(crashes)

    assert left(0) == (0, 256)
    await crash(calls, 200)
    assert left(0) == (0, 256) and left(1) == (0, 2) and left(3) == (0, 1)
    now = 101.0
    await crash(calls, 2)
    assert left(0) == (0, 2) and left(1) == (0, 1)
    now = 102.0
    await crash(calls)
    assert left(0) == (0, 1) and left(1)[0] == 8.0
    now = 103.0
    await crash(calls)
    assert left(0)[0] == 7.0 and left(1)[0] == 8.0
    now = 111.0
    assert left(0) == (0, 2) and left(1) == (0, 1)


class FullDisk:
    """An event that can't be settled `refusals` times. It is the clock, too, on which no time passes."""

    offset = 7

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    async def ack(self) -> None:
        self.refusals -= 1
        if self.refusals >= 0:
            raise Unavailable("the disk is full")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize(("refusals", "errors"), [(2, 0), (50, 1)])
async def test_calls_that_can_t_be_settled_for_long_are_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture, refusals: int, errors: int
) -> None:
    event: Any = FullDisk(refusals)
    client: Any = None
    calls = KeptCalls(Office(), event, client, "office", 10, 5, 10.0)
    await calls.settle(event, "ack")
    said = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert said == ["Post: offset 7 is not settled yet: the disk is full"] * errors


@pytest.mark.parametrize("how", ["swap", "load"])
async def test_a_broker_serves_what_the_next_version_of_its_plug_in_adds(
    kernel: Kernel, tmp_path: Path, how: str
) -> None:
    await keep_calls_of(kernel, "Routed", tmp_path)
    await kernel.load(Routing, name="routing")
    await kernel.route(Routed, brokered=True)
    routed = kernel.get(Routed)
    assert await routed.old() == "old"
    if how == "swap":
        await kernel.swap("routing", NextRouting)
    else:
        await kernel.unload("routing")
        await kernel.load(NextRouting, name="routing", restart=RestartPolicy(intensity=7))
        assert kernel.registry.entry("Routed.broker").options.config["intensity"] == 7
    following = kernel.get(NextRouted)
    assert "brokered" in repr(following)
    assert (await following.added(), await following.old(), await routed.old()) == ("added", "older", "older")
    with pytest.raises(SwapFailed, match=r"(?s)brokered, which the new version can't be.*Routed\.once"):
        await kernel.swap("routing", UnfitRouting)
    assert await routed.old() == "older"


async def test_what_can_t_be_brokered_is_not_loaded_behind_a_broker(kernel: Kernel, tmp_path: Path) -> None:
    await keep_calls_of(kernel, "Routed", tmp_path)
    await kernel.load(Routing, name="routing")
    await kernel.route(Routed, brokered=True)
    await kernel.unload("routing")
    with pytest.raises(ContractError, match=r"(?s)brokered, which the new version can't be.*Routed\.once"):
        await kernel.load(UnfitRouting, name="routing")
    assert "routing" not in kernel.registry.entries
    await kernel.load(Routing, name="routing")
    assert await kernel.get(Routed).old() == "old"


async def test_a_broker_follows_to_nothing_that_can_t_be_brokered(
    kernel: Kernel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await keep_calls_of(kernel, "Routed", tmp_path)
    await kernel.load(UnfitRouting, name="routing")
    entry = kernel.registry.entry("routing")
    kernel.registry.brokers["Routed", "routing"] = "Routed.broker"  # as if routed while a swap was being checked
    await kernel.load(Routing, name="Routed.broker")
    await kernel.brokering.follow(entry)
    assert "Routed.once can't be brokered" in caplog.text
    assert not any(each.what == "rolled back" for each in kernel.events)


async def test_the_log_says_how_a_broker_goes_back_to_an_earlier_version(
    kernel: Kernel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await keep_calls_of(kernel, "Routed", tmp_path)
    await kernel.load(NextRouting, name="routing")
    await kernel.route(Routed, brokered=True)
    await kernel.unload("routing")
    await kernel.load(Routing, name="routing")
    assert "kernel.route('Routed', brokered=False), and then brokered=True" in caplog.text
    await kernel.route("Routed", brokered=False)
    await kernel.route("Routed", brokered=True)
    assert await kernel.get(Routed).old() == "old"


async def test_a_route_that_goes_direct_again_says_how_many_calls_it_leaves_behind(tmp_path: Path) -> None:
    async with Kernel(log_folder=str(tmp_path)) as kernel:
        await keep_calls_of(kernel, "Jobs", tmp_path)
        config = {"file": str(tmp_path / "ran")}
        await kernel.load(Worker, name="worker", config=config)
        await kernel.route(Jobs, brokered=True)
        await kernel.unload("worker")
        for number in range(3):
            await kernel.get(Jobs).run(str(number))
        await kernel.restart("Jobs.broker")  # which leaves nothing behind
        await kernel.route(Jobs, brokered=False)
    said = [line for line in (tmp_path / "call-brokers.log").read_text().splitlines() if "accepted" in line]
    assert len(said) == 1
    assert "Jobs: 3 calls that were accepted wait on the disk; they are made when the route is brokered" in said[0]
