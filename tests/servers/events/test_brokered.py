"""Brokered routes: what was accepted is run at least once, whoever dies, and its caller need not know of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brokered_samples import Billing, Bills, Order, Refused, Seller, Shop, Unfit, UnfitPlugin
from events_collecting import take, until
from killing import kill

from mukernel import (
    Buffer,
    ContractError,
    Kernel,
    MukernelError,
    NotFound,
    Overloaded,
    PluginCrashed,
    RemoteError,
    RestartPolicy,
    SwapFailed,
    Unavailable,
    deadline,
)
from mukernel.core.application import read_application
from mukernel.servers.events import EventClient, Events, EventServer

PATIENT = RestartPolicy(intensity=1000, backoff=0.0)
AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
BROKER = "Bills.broker"


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    async with Kernel() as running:
        yield running


@pytest.fixture
def billed(tmp_path: Path) -> Path:
    """What the calls leave behind."""
    path = tmp_path / "billed"
    path.touch()
    return path


async def load_billing(kernel: Kernel, billed: Path, **more: Any) -> None:
    config = {"file": str(billed), "hold": str(billed.with_name("hold"))}
    await kernel.load(Billing, name="billing", placement="process", config=config, restart=PATIENT, **more)


async def load_all(kernel: Kernel, billed: Path, **more: Any) -> Bills:
    config = {"folder": str(billed.with_name("events")), "calls": ["Bills"]}
    await kernel.load(EventServer, name="events", placement="process", config=config, restart=PATIENT)
    await load_billing(kernel, billed)
    await kernel.route(Bills, brokered=True, **more)
    return kernel.get(Bills)


def lines(billed: Path) -> list[str]:
    return billed.read_text().split("\n")[:-1]


async def call_for(bills: Bills, article: str) -> str:
    return await bills.bill(Order(article, AT))


async def left(kernel: Kernel) -> int:
    """Calls that wait or run, as the event server has it."""
    kept = (await kernel.get(Events).stats()).streams["calls-Bills"]
    return kept.groups["broker"].outstanding + kept.groups["broker"].behind


async def until_made(kernel: Kernel) -> None:
    while await left(kernel):  # noqa: ASYNC110 - nothing tells when
        await asyncio.sleep(0)


async def test_calls_mean_what_they_meant(kernel: Kernel, billed: Path) -> None:
    bills = await load_all(kernel, billed)
    assert "brokered" in repr(bills)
    await bills.note("one")
    await bills.note("two", loud=True)
    assert await bills.bill(Order("tea", AT, 3)) == "tea: 3"
    assert await bills.bill(Order("ink", AT), discount=1) == "ink: 0"
    assert await bills.size(Buffer(bytes(1 << 20))) == 1 << 20  # it travels as a handle, and is kept whole
    for length in (3, 100_000):
        values = np.arange(length, dtype=np.float64)
        assert np.array_equal(await bills.scaled(values), 2 * values)
        assert np.array_equal(await bills.scaled(values, 3.0), 3 * values)
    await until_made(kernel)
    stamp = AT.isoformat()
    assert lines(billed) == ["one", "two!", f"billed tea 3 {stamp} 0", f"billed ink 1 {stamp} 1"]


@pytest.mark.parametrize("cut", [1, 300, None])
async def test_calls_are_made_though_the_disk_lost_the_end_of_their_queue(billed: Path, cut: int | None) -> None:
    async with Kernel() as kernel:
        bills = await load_all(kernel, billed)
        for number in range(5):
            await call_for(bills, f"old {number}")
        await until_made(kernel)
    [path] = billed.with_name("events").glob("streams/calls-Bills/*.log")
    os.truncate(path, 0 if cut is None else path.stat().st_size - cut)
    async with Kernel() as kernel:
        bills = await load_all(kernel, billed)
        assert [await call_for(bills, f"new {number}") for number in range(3)] == [f"new {n}: 1" for n in range(3)]
        await until_made(kernel)
    assert [line.split()[1:3] for line in lines(billed)[5:]] == [["new", str(number)] for number in range(3)]


async def test_errors_reach_the_caller_as_themselves(kernel: Kernel, billed: Path) -> None:
    bills = await load_all(kernel, billed)
    with pytest.raises(Refused) as refused:
        await bills.bill(Order("nothing", AT))
    assert refused.value.article == "nothing"
    with pytest.raises(RemoteError, match="ValueError: no such article"):
        await bills.bill(Order("error", AT))
    with pytest.raises(ContractError, match=r"Bills.bill: parameter 'order'.*got `int`|got int"):
        await bills.bill(3)  # type: ignore[arg-type]
    await until_made(kernel)


async def test_a_plugin_s_calls_and_those_of_threads_go_the_same_way(kernel: Kernel, billed: Path) -> None:
    config = {"folder": str(billed.with_name("events")), "calls": ["Bills"]}
    await kernel.load(EventServer, name="events", config=config)
    await load_billing(kernel, billed)
    await kernel.load(Seller, placement="process")
    assert "remote" in await kernel.get(Shop).sell("direct")
    await kernel.route(Bills, brokered=True)  # who calls already is led there
    assert "brokered" in await kernel.get(Shop).sell("kept")
    blocking: Any = kernel.get(Bills, blocking=True)
    assert await asyncio.to_thread(blocking.bill, Order("tea", AT)) == "tea: 1"
    await asyncio.to_thread(blocking.note, "from a thread")
    await until_made(kernel)
    assert [line for line in lines(billed) if "tea" not in line] == ["direct", "kept", "from a thread"]
    await kernel.route(Bills, brokered=False)
    assert BROKER not in kernel.registry.entries
    assert "remote" in await kernel.get(Shop).sell("direct again")
    assert (await kernel.get(Bills).bill(Order("ink", AT))) == "ink: 1"


async def test_it_waits_for_a_plugin_that_is_not_there(kernel: Kernel, billed: Path) -> None:
    bills = await load_all(kernel, billed)
    await kernel.unload("billing")
    for number in range(20):
        await bills.note(str(number))
    waiting = asyncio.create_task(call_for(bills, "tea"))
    while await left(kernel) < 21:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(MukernelError):
        async with deadline(0.01):
            await bills.bill(Order("late", AT))  # it is made all the same
    assert lines(billed) == [] and not waiting.done()
    await load_billing(kernel, billed)
    assert await waiting == "tea: 1"
    await until_made(kernel)
    stamp = AT.isoformat()
    wanted = [*map(str, range(20)), f"billed tea 1 {stamp} 0", f"billed late 1 {stamp} 0"]
    assert lines(billed) == wanted  # in order


async def test_a_plugin_that_dies_over_a_call_is_asked_again(kernel: Kernel, billed: Path) -> None:
    bills = await load_all(kernel, billed)
    await bills.note("die 2")
    await until_made(kernel)
    assert lines(billed) == ["die 2"] * 3
    assert (await kernel.get(Events).stats()).streams["dead-letters"].last == 0


async def test_what_can_t_be_done_goes_to_the_dead_letters(kernel: Kernel, billed: Path) -> None:
    bills = await load_all(kernel, billed)
    await bills.note("fail")
    await bills.note("die 1000")
    await bills.note("after")
    await until_made(kernel)
    assert lines(billed).count("die 1000") == 5
    assert "after" in lines(billed)
    letters = await take(EventClient(kernel.get(Events)).subscribe("dead-letters.>", start="first"), 2)
    assert [letter.headers["Mukernel-Method"] for letter in letters] == ["note", "note"]
    assert letters[0].headers["Mukernel-Reason"].startswith("RemoteError: ValueError: it can't be noted")
    assert (
        letters[1].headers["Mukernel-Reason"].startswith("PluginCrashed: Bills.note: its plug-in died over this call 5")
    )


@pytest.mark.parametrize("victim", ["events", BROKER, "billing"])
async def test_what_was_accepted_survives_the_death_of(kernel: Kernel, billed: Path, victim: str) -> None:
    bills = await load_all(kernel, billed)
    accepted: list[str] = []
    crashed = answered = 0
    stop = False

    async def call(caller: int) -> None:
        nonlocal crashed, answered
        number = 0
        while not stop:
            text = f"{caller} {number}"
            try:
                await bills.note(text)
                accepted.append(text)
                assert await bills.bill(Order(text.replace(" ", "."), AT)) == f"{caller}.{number}: 1"
                answered += 1
            except PluginCrashed:
                crashed += 1
            number += 1

    callers = [asyncio.create_task(call(caller)) for caller in range(4)]
    for _ in range(10):
        before = len(accepted)
        await kill(kernel, victim)
        await until(lambda before=before: len(accepted) >= before + 10)  # type: ignore[misc]
    stop = True
    await asyncio.gather(*callers)
    assert crashed == 0 and answered > 0
    await until_made(kernel)
    assert set(accepted) <= set(lines(billed))
    assert (await kernel.get(Events).stats()).streams["dead-letters"].last == 0


async def test_restarts_of_everybody_lose_nothing(kernel: Kernel, billed: Path) -> None:
    bills = await load_all(kernel, billed)
    answered = 0
    stop = False

    async def call() -> None:
        nonlocal answered
        while not stop:
            assert await bills.bill(Order("tea", AT)) == "tea: 1"
            answered += 1

    callers = [asyncio.create_task(call()) for _ in range(8)]
    for victim in ["billing", BROKER, "events"] * 3:
        before = answered
        await kernel.restart(victim)
        await until(lambda before=before: answered >= before + 10)  # type: ignore[misc]
    stop = True
    await asyncio.gather(*callers)
    await until_made(kernel)
    assert len(lines(billed)) >= answered


async def test_a_restart_tells_who_waits_for_a_plugin_that_is_not_there(kernel: Kernel, billed: Path) -> None:
    bills = await load_all(kernel, billed)
    await kernel.unload("billing")
    waiting = asyncio.create_task(call_for(bills, "tea"))
    while await left(kernel) < 1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await kernel.restart(BROKER)
    with pytest.raises(Unavailable, match="the call is kept, and made later"):
        await waiting
    await load_billing(kernel, billed)
    await until_made(kernel)
    assert len(lines(billed)) == 1


async def test_a_broker_stays_as_it_is(kernel: Kernel, billed: Path) -> None:
    await load_all(kernel, billed)
    with pytest.raises(ContractError, match="can't be moved"):
        await kernel.move(BROKER, "inline")
    with pytest.raises(ContractError, match="can't be scaled"):
        await kernel.scale(BROKER, 2)
    with pytest.raises(ContractError, match="is the brokers' own"):
        await kernel.load(Seller, placement="process:call-brokers")
    await kernel.load(Seller, name="seller")
    with pytest.raises(SwapFailed, match="is the brokers' own"):
        await kernel.move("seller", "process:call-brokers")
    await kernel.unload("seller")
    with pytest.raises(ContractError, match="is brokered already"):
        await kernel.route(Bills, brokered=True)


async def test_full_is_an_answer_and_room_comes_back(kernel: Kernel, billed: Path) -> None:
    hold = billed.with_name("hold")
    hold.touch()
    bills = await load_all(kernel, billed, queue=8)
    for number in range(8):
        await bills.note(str(number))
    with pytest.raises(Overloaded, match="8 calls wait in the queue of this route"):
        await bills.note("too many")
    hold.unlink()
    await until_made(kernel)
    while True:  # the event server knows before the broker does
        with contextlib.suppress(Overloaded):
            await bills.note("again")
            break
    await until_made(kernel)
    assert sorted(lines(billed)) == sorted([*map(str, range(8)), "again"])


async def test_a_call_that_runs_is_settled_only_when_it_has_ended(kernel: Kernel, billed: Path) -> None:
    hold = billed.with_name("hold")
    hold.touch()
    bills = await load_all(kernel, billed)
    await bills.note("long")
    await until(lambda: lines(billed) == ["long"])
    assert await left(kernel) == 1
    hold.unlink()
    await until_made(kernel)


async def test_what_was_made_leaves_the_disk(kernel: Kernel, billed: Path) -> None:
    config = {
        "folder": str(billed.with_name("events")),
        "streams": {"calls-Bills": {"topics": ["calls.Bills"], "retention": "workqueue", "segment": "4K"}},
    }
    await kernel.load(EventServer, name="events", placement="process", config=config)
    await load_billing(kernel, billed)
    await kernel.route(Bills, brokered=True)
    bills = kernel.get(Bills)
    for number in range(200):
        await bills.note(f"{number:0100}")
    await until_made(kernel)
    await bills.note("the last")
    await until_made(kernel)
    kept = (await kernel.get(Events).stats()).streams["calls-Bills"]
    assert kept.last == 201 and kept.first > 100 and kept.segments <= 2
    assert len(lines(billed)) == 201


async def test_who_may_not_be_called_twice_is_refused(kernel: Kernel, billed: Path) -> None:
    await kernel.load(UnfitPlugin, name="unfit")
    with pytest.raises(ContractError, match=r"(?s)Unfit\.once can't be brokered.*@idempotent"):
        await kernel.route(Unfit, brokered=True)
    await load_billing(kernel, billed)
    with pytest.raises(NotFound, match="takes one event server"):
        await kernel.route(Bills, brokered=True)
    await kernel.load(EventServer, name="events", config={"folder": str(billed.with_name("events"))})
    with pytest.raises(Exception, match=r"wanted calls = \['Bills'\] in the configuration of the event server"):
        await kernel.route(Bills, brokered=True)
    assert await kernel.get(Bills).bill(Order("tea", AT)) == "tea: 1"  # direct, as before


APP = """
    [app]
    name = "shop"
    [plugins.events]
    use = "mukernel.servers.events:EventServer"
    placement = "process"
    config = {{ folder = {folder!r} }}
    [plugins.billing]
    use = "brokered_samples:Billing"
    placement = "process"
    config = {{ file = {file!r} }}
    [plugins.seller]
    use = "brokered_samples:Seller"
    placement = "process"
    [routes.Bills]
    brokered = true
"""
RUN = """
    import asyncio, sys
    from mukernel import Kernel
    from mukernel.core.application import read_application
    from brokered_samples import Shop
    async def main():
        application = await read_application(sys.argv[1])
        async with Kernel() as kernel:
            await application.start(kernel)
            if sys.argv[2] == "stop":
                await kernel.unload("billing")
            for number in range(int(sys.argv[3])):
                await kernel.get(Shop).sell(str(number))
                print(number, flush=True)
            print("ready", flush=True)
            await asyncio.Event().wait()
    asyncio.run(main())
"""


def write_application(folder: Path, billed: Path) -> Path:
    path = folder / "app.toml"
    path.write_text(textwrap.dedent(APP.format(folder=str(folder / "events"), file=str(billed))))
    return path


async def test_what_was_accepted_is_run_after_a_kill_of_everything(tmp_path: Path, billed: Path) -> None:
    application = write_application(tmp_path, billed)
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(application)]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}

    async def run(*arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *command, *arguments, stdout=subprocess.PIPE, env=environment, process_group=0
        )
        assert process.stdout is not None
        while (line := await process.stdout.readline()) != b"ready\n":
            assert line, "it ended"
        return process

    first = await run("stop", "30")
    os.killpg(first.pid, signal.SIGKILL)
    await first.wait()
    assert lines(billed) == []
    second = await run("go", "0")
    await until(lambda: len(lines(billed)) >= 30)
    second.kill()
    await second.wait()
    assert lines(billed)[:30] == [str(number) for number in range(30)]


def test_check_says_what_is_brokered(tmp_path: Path, billed: Path) -> None:
    command = [sys.executable, "-m", "mukernel.cli", "check", str(write_application(tmp_path, billed))]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "brokered, so that its calls wait for a plug-in that is not there: Bills" in said
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["brokered"] == ["Bills"]


async def test_the_application_file_says_what_can_t_be(tmp_path: Path, billed: Path) -> None:
    path = write_application(tmp_path, billed)
    text = path.read_text().replace(
        "[plugins.events]", "[plugins.unfit]\nuse = 'brokered_samples:UnfitPlugin'\n[plugins.events]"
    )
    path.write_text(
        text.replace('use = "mukernel.servers.events:EventServer"', "use = 'brokered_samples:Seller'").replace(
            "config = { folder", "#"
        )
        + "[routes.Unfit]\nbrokered = true\n[routes.Bilz]\nbrokered = 'yes'\n[routes.Shop]\nqueue = 3\ntimeout = 1\n"
    )
    with pytest.raises(ContractError) as found:
        await read_application(str(path))
    text = "\n".join(found.value.differences)
    for wanted in (
        "routes.Bills.brokered: it takes one event server, and there are 0",
        "routes.Unfit.brokered: Unfit.once can't be brokered: a call that is kept is run at least once",
        "routes.Bilz: no plug-in serves Bilz; did you mean 'Bills'?",
        "routes.Bilz.brokered: got 'yes', wanted true or false",
        "routes.Shop.queue: it is that of a brokered route; wanted brokered = true",
        "routes.Shop.timeout is not available in this version",
    ):
        assert wanted in text, text
