"""What a plug-in may call: what it was granted, decided when its channel is minted; and taken back while it runs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from core_granted import Bouncer, Careless, CellarKeeper, Guest, Keeper, Reader, Shelf, ThreadVisitor, Visitor
from waiting import until

from mukernel import ContractError, Kernel, NotFound, PermissionDenied, SwapFailed
from mukernel.testing import TestKernel

CHANNELS = 4  # of one proxy of each kind: of the loop, of a thread, of the stream that it may read, and one to spare


async def loaded(kernel: Kernel, grants: Sequence[str] | None, use: type = Visitor, **options: object) -> Reader:
    """A keeper and a visitor, each in a process; the visitor's proxy."""
    await kernel.load(Keeper, placement="process")
    await kernel.load(use, name="visitor", placement="process", grants=grants, **options)  # type: ignore[arg-type]
    return kernel.get(Reader)


async def test_by_default_a_plug_in_may_call_what_its_constructor_asks_for_and_nothing_else(kernel: Kernel) -> None:
    visitor = await loaded(kernel, None)
    await kernel.load(CellarKeeper, placement="process")
    assert (await visitor.call("read", "/a")).answer == "read /a"
    assert (await visitor.call("held", "")).answer == "everything"
    assert (await visitor.reach("Cellar")).error.startswith("PermissionDenied: Cellar was not granted to 'visitor'")
    assert (await visitor.reach("Shelf")).answer  # of the same process, asked anew


async def test_what_was_not_granted_is_refused_whatever_it_is_called(kernel: Kernel) -> None:
    """Nobody learns whether there is such a plug-in, either."""
    visitor = await loaded(kernel, ["Shelf"])
    for plugin in (None, "cellar-keeper", "nobody"):
        assert (await visitor.reach("Cellar", plugin)).error.startswith("PermissionDenied: Cellar was not granted")
    await kernel.load(CellarKeeper)
    assert (await visitor.reach("Cellar")).error.startswith("PermissionDenied: Cellar was not granted")


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_constructor_that_asks_for_what_was_not_granted_says_which_grant_to_write(
    kernel: Kernel, placement: str
) -> None:
    await kernel.load(Keeper)
    with pytest.raises(
        PermissionDenied, match=r"'visitor': Visitor\.__init__ asks for Shelf .* add 'Shelf' to its"
    ) as no:
        await kernel.load(Visitor, placement=placement, grants=[])
    assert told(no.value).count("Traceback") == told(no.value).count("asks for Shelf") == 1
    assert list(kernel.registry.entries) == ["keeper"]
    await kernel.load(Guest, placement=placement, grants=[])
    assert (await kernel.get(Reader).call("read", "/a")).error == "no shelf"


def told(error: BaseException) -> str:
    """As Python shows it to who did not expect it."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_a_grant_that_nobody_would_hold_it_to_is_refused_in_one_sentence(kernel: Kernel, placement: str) -> None:
    """The kernel refuses it to the process, and that to the kernel: two ways, and no traceback of either."""
    await kernel.load(CellarKeeper)
    await kernel.load(Keeper)
    with pytest.raises(ContractError, match=r"grant 'Shelf:fly': 'keeper', which serves Shelf, knows no") as no:
        await kernel.load(Visitor, placement=placement, grants=["Shelf:fly"])
    assert not hasattr(no.value, "__notes__")
    assert told(no.value).count("knows no right") == 1


async def test_what_code_of_a_plug_in_raises_is_told_with_where(kernel: Kernel) -> None:
    with pytest.raises(PermissionDenied) as no:
        await kernel.load(Bouncer, placement="process")
    assert "core_granted.py" in told(no.value).partition("The other side's traceback")[2]


@pytest.mark.parametrize("method", ["read", "read_now", "walk", "walk_now"])
async def test_rights_and_scope_reach_the_server(kernel: Kernel, method: str) -> None:
    visitor = await loaded(kernel, ["Shelf:read:/data"])
    assert (await visitor.call(method, "/data/a")).answer
    for path in ("/database", "/etc/passwd", "/data/../etc/passwd", ""):
        assert "the caller was granted only: Shelf:read:/data" in (await visitor.call(method, path)).error
    assert (await visitor.call("write", "/data/a")).error.startswith("PermissionDenied: write '/data/a'")
    assert (await visitor.call("held", "")).answer == "Shelf:read:/data"
    assert await kernel.get(Shelf).write("/anywhere") == "wrote /anywhere"  # the kernel's own process holds everything
    assert await kernel.get(Shelf).held() == "everything"


@pytest.mark.parametrize(("method", "answer"), [("read_now", "read {}"), ("walk_now", "['a', 'b']")])
async def test_rights_reach_methods_in_threads(kernel: Kernel, method: str, answer: str) -> None:
    await kernel.load(Keeper, placement="process", threads=1)
    await kernel.load(Visitor, name="visitor", placement="process", grants=["Shelf:read:/data"])
    await kernel.load(Visitor, name="other", placement="process")
    restricted, other = kernel.get(Reader, plugin="visitor"), kernel.get(Reader, plugin="other")
    assert (await restricted.call(method, "/data/a")).answer == answer.format("/data/a")
    assert (await restricted.call(method, "/etc")).error.startswith("PermissionDenied")
    assert (await other.call(method, "/etc")).answer == answer.format("/etc")


@pytest.mark.parametrize("concurrency", [1, 2, None])
async def test_no_call_is_taken_for_one_of_another_caller(kernel: Kernel, concurrency: int | None) -> None:
    """Not when it waited, and is started as another one ends, either."""
    await kernel.load(Keeper, placement="process", concurrency=concurrency)
    await kernel.load(Visitor, name="visitor", placement="process", grants=["Shelf:read:/data"])
    visitor, shelf = kernel.get(Reader), kernel.get(Shelf)
    restricted = [visitor.call(method, "/data/a") for _ in range(30) for method in ("read", "walk", "held")]
    free = [shelf.write("/etc") for _ in range(60)]
    held = [shelf.held() for _ in range(30)]
    said, wrote, everything = await asyncio.gather(
        asyncio.gather(*restricted), asyncio.gather(*free), asyncio.gather(*held)
    )
    assert {each.answer for each in said} == {"read /data/a", "['a', 'b']", "Shelf:read:/data"}
    assert set(wrote) == {"wrote /etc"} and set(everything) == {"everything"}


def test_grants_hold_in_simulated_processes() -> None:
    async def main(kernel: TestKernel) -> None:
        visitor = await loaded(kernel, ["Shelf:read:/data"])
        assert (await visitor.call("read", "/data/a")).answer == "read /data/a"
        assert (await visitor.call("read", "/etc")).error.startswith("PermissionDenied")
        assert (await visitor.call("walk", "/data")).answer == "['a', 'b']"
        assert await kernel.revoke("visitor", "Shelf") >= 1
        assert (await visitor.call("read", "/data/a")).error.startswith("PermissionDenied")
        await kernel.grant("visitor", "Shelf")
        assert (await visitor.call("read", "/etc")).answer

    TestKernel().run(main)


async def test_a_caller_that_stands_still_keeps_nothing(kernel: Kernel) -> None:
    """It has stopped, and can't be told: its channel is gone all the same, and others are told meanwhile."""
    visitor = await loaded(kernel, None)
    assert (await visitor.call("read", "/a")).answer
    (place,) = [each for each in kernel.places.values() if any(key.startswith("visitor#") for key in each.keys)]
    os.kill(place.pid, signal.SIGSTOP)
    try:
        assert await kernel.revoke("visitor", "Shelf") == CHANNELS
        assert not kernel.registry.entry("keeper").replicas[0].port.channels
    finally:
        os.kill(place.pid, signal.SIGCONT)
    while (said := await visitor.call("read", "/a")).error == "Unavailable: Shelf.read: the grant was revoked":
        pass  # until it has asked for another channel
    assert said.error.startswith("PermissionDenied"), said


async def test_revoking_with_a_full_mailbox_answers_every_call(kernel: Kernel, whistle: Any) -> None:
    await kernel.load(Keeper, placement="process", concurrency=1)
    await kernel.load(Visitor, name="visitor", placement="process")
    visitor = kernel.get(Reader)
    holding = asyncio.create_task(visitor.hold(whistle.path))
    await whistle.heard()
    calls = [asyncio.create_task(visitor.call("read", "/a")) for _ in range(900)]
    while (await kernel.ledger("keeper")).accepted < 500:  # noqa: ASYNC110 - nothing tells when they have arrived
        await asyncio.sleep(0)
    await kernel.revoke("visitor", "Shelf")
    answers = await asyncio.gather(holding, *calls)
    assert all(each.error.startswith("PermissionDenied") for each in answers), {each.error for each in answers}
    account = await kernel.ledger("keeper")
    assert account.lost == account.running == account.waiting == 0, account


async def test_a_process_that_is_shared_reaches_the_union(kernel: Kernel) -> None:
    await kernel.load(Keeper, placement="process")
    for name, grant in (("one", "Shelf:read:/data"), ("two", "Shelf:write:/out")):
        await kernel.load(Visitor, name=name, placement="process:shared", grants=[grant])
    two = kernel.get(Reader, plugin="two")
    assert (await two.call("write", "/out/a")).answer == "wrote /out/a"
    await kernel.revoke("one", "Shelf:read")
    assert (await two.call("write", "/out/a")).answer == "wrote /out/a"
    assert (await two.call("held", "")).answer == "Shelf:write:/out"


async def test_a_grant_that_its_server_would_not_look_at_is_refused(kernel: Kernel) -> None:
    await kernel.load(Careless, name="keeper")
    with pytest.raises(ContractError, match=r"'Shelf:read': 'keeper', .* tells no rights or scopes apart"):
        await kernel.load(Visitor, placement="process", grants=["Shelf:read"])
    await kernel.unload("keeper")
    await kernel.load(Keeper)
    with pytest.raises(ContractError, match=r"'Shelf:reed': 'keeper', .* knows no right 'reed'; it knows: read, write"):
        await kernel.load(Visitor, placement="process", grants=["Shelf:reed"])
    assert list(kernel.registry.entries) == ["keeper"]


@pytest.mark.parametrize("keeper", ["inline", "process"])
async def test_no_version_takes_over_that_would_not_look_at_what_is_kept_back(kernel: Kernel, keeper: str) -> None:
    await kernel.load(Keeper, placement=keeper)
    await kernel.load(Visitor, placement="process", grants=["Shelf:read"])
    with pytest.raises(SwapFailed, match="tells no rights or scopes apart"):
        await kernel.swap("keeper", Careless)
    assert (await kernel.get(Reader).call("write", "/a")).error.startswith("PermissionDenied")
    await kernel.swap("keeper", Keeper)
    assert (await kernel.get(Reader).call("write", "/a")).error.startswith("PermissionDenied")


async def test_a_grant_of_an_interface_that_there_is_not_is_refused(kernel: Kernel) -> None:
    await kernel.load(Keeper)
    with pytest.raises(ContractError, match=r"grants: 'Shelv': no plug-in serves .* did you mean 'Shelf'\?"):
        await kernel.load(Visitor, grants=["Shelf", "Shelv"])
    assert list(kernel.registry.entries) == ["keeper"]
    await kernel.load(Visitor, grants=["Shelf", "Clock"])
    with pytest.raises(ContractError, match="no plug-in serves or asks for Nothing"):
        await kernel.grant("visitor", "Nothing")


@pytest.mark.parametrize("use", [Visitor, ThreadVisitor])
@pytest.mark.parametrize("keeper", ["inline", "process"])
async def test_what_is_revoked_is_cut_in_the_middle_of_a_call(
    kernel: Kernel, whistle: Any, keeper: str, use: type
) -> None:
    await kernel.load(Keeper, placement=keeper)
    await kernel.load(use, name="visitor", placement="process", threads=2 if use is ThreadVisitor else 0)
    visitor = kernel.get(Reader)
    call = asyncio.create_task(visitor.hold(whistle.path))
    assert (await whistle.heard())[1] == "holding"
    assert await kernel.revoke("visitor", "Shelf") >= 1
    assert (await call).error.startswith("PermissionDenied: the grant was revoked: Shelf was not granted to 'visitor'")
    assert (await whistle.heard())[1] == "cut"
    assert (await visitor.call("read", "/a")).error.startswith("PermissionDenied: Shelf")
    assert (await visitor.call("read", "/a")).error.startswith("PermissionDenied: Shelf")
    assert await kernel.get(Shelf).interrupted() == 1
    account = await kernel.ledger("keeper")
    assert account.lost == 0 and account.running == 0, account

    await kernel.grant("visitor", "Shelf")
    assert (await visitor.call("read", "/a")).answer == "read /a"


async def test_what_is_revoked_stays_so_after_a_crash_a_swap_and_a_stop(kernel: Kernel) -> None:
    visitor = await loaded(kernel, None, Guest)
    assert (await visitor.call("read", "/a")).answer
    await kernel.revoke("visitor", "Shelf")
    await kernel.swap("visitor", Guest)
    assert (await visitor.call("read", "/a")).error == "no shelf"
    await kernel.restart("visitor")
    assert (await visitor.call("read", "/a")).error == "no shelf"
    with pytest.raises(SwapFailed, match=r"asks for Shelf .* which it was not granted"):
        await kernel.swap("visitor", Visitor)
    await kernel.grant("visitor", "Shelf:read")
    await kernel.restart("visitor")
    assert (await visitor.call("read", "/a")).answer == "read /a"
    assert (await visitor.call("write", "/a")).error.startswith("PermissionDenied")


async def test_a_revocation_during_a_swap_is_not_undone_by_it(kernel: Kernel, whistle: Any) -> None:
    visitor = await loaded(kernel, None, Guest)
    holding = asyncio.create_task(visitor.hold(whistle.path))
    await whistle.heard()
    swap = asyncio.create_task(kernel.swap("visitor", Guest))
    await asyncio.sleep(0)
    await kernel.revoke("visitor", "Shelf")
    assert (await holding).error.startswith("PermissionDenied")
    await swap
    assert kernel.registry.entry("visitor").grants == ()
    assert (await visitor.reach("Shelf")).error.startswith("PermissionDenied")


async def test_revoking_takes_all_that_lies_within_and_nothing_else(kernel: Kernel) -> None:
    visitor = await loaded(kernel, ["Shelf:read:/data", "Shelf:read,write:/data/out", "Shelf:read:/home"])
    await kernel.load(CellarKeeper)
    with pytest.raises(NotFound, match=r"it holds Shelf:read,write:/data/out: revoke that, and grant what is to stay"):
        await kernel.revoke("visitor", "Shelf:write:/data/out")
    with pytest.raises(NotFound, match="was not granted Cellar; it holds: Shelf:read:/data, "):
        await kernel.revoke("visitor", "Cellar")
    assert (await visitor.call("write", "/data/out/a")).answer
    assert await kernel.revoke("visitor", "Shelf:*:/data") == CHANNELS
    assert (await visitor.call("held", "")).answer == "Shelf:read:/home"
    assert (await visitor.call("write", "/data/out/a")).error.startswith("PermissionDenied")
    with pytest.raises(NotFound, match="no plug-in is named 'nobody'"):
        await kernel.revoke("nobody", "Shelf")


async def test_others_keep_their_channels_when_one_loses_its_own(kernel: Kernel) -> None:
    visitor = await loaded(kernel, None)
    await kernel.load(Visitor, name="other", placement="process")
    other = kernel.get(Reader, plugin="other")
    visitor = kernel.get(Reader, plugin="visitor")
    await asyncio.gather(visitor.call("read", "/a"), other.call("read", "/a"))
    before = set(kernel.registry.entry("keeper").replicas[0].port.channels)
    assert await kernel.revoke("visitor", "Shelf") == CHANNELS
    assert len(before - set(kernel.registry.entry("keeper").replicas[0].port.channels)) == CHANNELS
    assert (await other.call("read", "/a")).answer == "read /a"


async def test_a_channel_that_is_revoked_leaves_nothing_behind(kernel: Kernel) -> None:
    visitor = await loaded(kernel, None)

    async def rounds(count: int) -> int:
        """How many descriptors the kernel has after so many revocations."""
        for _ in range(count):
            await kernel.revoke("visitor", "Shelf")
            await kernel.grant("visitor", "Shelf")
            assert (await visitor.call("read", "/a")).answer
            assert (await visitor.call("read_now", "/a")).answer
        port = kernel.registry.entry("keeper").replicas[0].port
        await until(lambda: len(port.channels) == CHANNELS)
        gc.collect()  # a wire and its ring hold each other
        return len(os.listdir("/proc/self/fd"))

    few = await rounds(2)
    assert await rounds(20) <= few  # fewer: what tests before this one left may be gone by now


async def test_a_server_that_dies_comes_back_and_still_asks(kernel: Kernel) -> None:
    visitor = await loaded(kernel, ["Shelf:read:/data"])
    assert (await visitor.call("read", "/data")).answer
    instance = kernel.registry.entry("keeper").replicas[0].instance
    assert instance is not None
    os.kill(instance.place.pid, signal.SIGKILL)
    assert (await visitor.call("read", "/data")).answer == "read /data"
    assert (await visitor.call("read", "/etc")).error.startswith("PermissionDenied")
