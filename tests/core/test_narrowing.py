"""A plug-in passes on a part of what it was granted: never more, as text that nobody can guess, and as long as it holds
it itself."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from core_granted import CellarKeeper, Keeper
from core_passed_on import Giver, Hand, Master, Worker
from killing import pid_of
from waiting import until, until_event

from mukernel import Capability, ContractError, Kernel, RestartPolicy, narrow, redeem
from mukernel.cli.caps import channel_text
from mukernel.core.held import held_by
from mukernel.core.narrowing import Narrowed

GRANTS = ["Shelf:read,write:/data", "Worker"]


async def loaded(kernel: Kernel, keeper: str = "process") -> tuple[Giver, Worker]:
    await kernel.load(Keeper, placement=keeper)
    await kernel.load(Hand, placement="process", grants=[])
    await kernel.load(Master, placement="process", grants=GRANTS)
    return kernel.get(Giver), kernel.get(Worker)


@pytest.mark.parametrize("keeper", ["inline", "process"])
async def test_who_is_granted_nothing_uses_what_it_is_given_and_no_more(kernel: Kernel, keeper: str) -> None:
    giver, _ = await loaded(kernel, keeper)
    for method in ("read", "read_now"):
        assert (await giver.delegate("read:/data/shop", method, "/data/shop/a")).answer == "read /data/shop/a"
        said = await giver.delegate("read:/data/shop", method, "/data/else")
        assert said.error == "PermissionDenied: read '/data/else': the caller was granted only: Shelf:read:/data/shop"
    assert (await giver.delegate("read:/data", "walk", "/data/shop")).answer == "['a', 'b']"
    assert (await giver.delegate("read:/data/shop", "write", "/data/shop/a")).error.startswith("PermissionDenied")
    assert (await giver.delegate("write:/data", "write", "/data/a")).answer == "wrote /data/a"


async def test_who_has_redeemed_a_token_is_restarted_with_the_server(kernel: Kernel) -> None:
    await kernel.load(Keeper, placement="process", restart=RestartPolicy(strategy="rest-for-one"))
    await kernel.load(Hand, placement="process", grants=[])
    await kernel.load(Master, placement="process", grants=GRANTS)
    assert (await kernel.get(Giver).delegate("read:/data", "read", "/data/a")).answer
    os.kill(pid_of(kernel, "keeper"), signal.SIGKILL)
    await until_event(kernel, "hand", "restart")


@pytest.mark.parametrize("part", ["read", "read:/", "read:/home", "", "*:/data/..", "remove:/data", "read:/data:"])
async def test_nobody_passes_on_more_than_it_holds(kernel: Kernel, part: str) -> None:
    giver, _ = await loaded(kernel)
    said = await giver.give(part)
    if part == "read:/data:":  # a colon is as good as any other character of a scope, which is not within "/data"
        assert said.error.startswith("PermissionDenied")
    assert not said.answer and said.error.startswith(("PermissionDenied", "ContractError"))


async def test_no_token_can_be_forged(kernel: Kernel) -> None:
    giver, worker = await loaded(kernel)
    token = (await giver.give("read:/data")).answer
    assert (await giver.give("read:/data")).answer == token  # the same part
    number, _, secret = token.partition(".")
    assert len(secret) == 32
    wrong = [
        "", ".", number, f"{number}.", f"{number}.{'0' * 32}", f"{number}.{secret[:-1]}", f"{number}.{secret}0",
        f"{int(number) + 1}.{secret}", f"-1.{secret}", f"{'9' * 30}.{secret}", f"²{number}.{secret}", "\0", "ü" * 40,
        f"{number}.{secret.upper()}x",
    ]  # fmt: skip
    for each in wrong:
        said = await worker.use(each, "read", "/data/a")
        assert said.error.startswith("PermissionDenied"), each
    assert (await worker.use(token, "read", "/data/a")).answer
    assert (await worker.keep(token, wrong=True)).error.startswith("PermissionDenied: the token is for Shelf, not for")
    await kernel.load(CellarKeeper)
    assert (await worker.keep(token, wrong=True)).error.startswith("PermissionDenied: the token is for Shelf, not for")


async def test_no_token_is_none_for_what_is_held_anyway(kernel: Kernel) -> None:
    giver, _ = await loaded(kernel)
    assert (await giver.redeem("")).error.startswith("PermissionDenied: redeem: token: got ''")


async def test_it_dies_with_what_its_giver_holds(kernel: Kernel, whistle: Any) -> None:
    giver, worker = await loaded(kernel)
    token = (await giver.give("read:/data/shop")).answer
    await worker.keep(token)
    assert (await worker.use_kept("read", "/data/shop/a")).answer
    holding = asyncio.create_task(worker.use_kept("hold", whistle.path))
    await whistle.heard()
    await kernel.revoke("master", "Shelf")
    assert "'master', which had passed on Shelf:read:/data/shop, does not hold that any more" in (await holding).error
    for said in (await worker.use_kept("read", "/data/shop/a"), await worker.use(token, "read", "/data/shop/a")):
        assert said.error.startswith("PermissionDenied")
    await kernel.grant("master", "Shelf:read")  # what it is a part of is held again
    assert (await worker.use(token, "read", "/data/shop/a")).error.startswith("PermissionDenied")
    again = (await giver.give("read:/data/shop")).answer
    assert again != token
    assert (await worker.use(again, "read", "/data/shop/a")).answer
    await kernel.grant("master", "Shelf:read:/data")
    await kernel.revoke("master", "Shelf:read:/data")  # the wider one is held throughout
    assert (await worker.use(again, "read", "/data/shop/a")).answer


async def test_it_dies_with_its_giver_and_not_at_its_swap_or_crash(kernel: Kernel) -> None:
    giver, worker = await loaded(kernel)
    token = (await giver.give("read:/data")).answer
    await worker.keep(token)
    await kernel.swap("master", Master)
    assert (await worker.use_kept("read", "/data/a")).answer
    instance = kernel.registry.entry("master").replicas[0].instance
    assert instance is not None
    os.kill(instance.place.pid, signal.SIGKILL)
    assert (await giver.give("read:/data")).answer == token
    assert (await worker.use_kept("read", "/data/a")).answer
    await kernel.unload("master")
    assert (await worker.use_kept("read", "/data/a")).error.startswith("PermissionDenied")
    await kernel.load(Master, placement="process", grants=GRANTS)
    assert (await worker.use(token, "read", "/data/a")).error.startswith("PermissionDenied")


async def test_it_follows_its_server_through_a_crash_and_a_swap(kernel: Kernel) -> None:
    giver, worker = await loaded(kernel)
    await worker.keep((await giver.give("read:/data")).answer)
    await kernel.swap("keeper", Keeper)
    assert (await worker.use_kept("read", "/data/a")).answer
    await kernel.scale("keeper", 2)
    assert (await worker.use_kept("read", "/data/a")).answer
    for replica in kernel.registry.entry("keeper").replicas:
        assert replica.instance is not None
        os.kill(replica.instance.place.pid, signal.SIGKILL)
    assert (await worker.use_kept("read_now", "/data/a")).answer
    assert (await worker.use_kept("write", "/data/a")).error.startswith("PermissionDenied")


async def test_what_was_passed_on_is_passed_on_in_part(kernel: Kernel) -> None:
    giver, worker = await loaded(kernel)
    await kernel.load(Hand, name="second", placement="process", grants=[])
    second = kernel.get(Worker, plugin="second")
    worker = kernel.get(Worker, plugin="hand")
    await worker.keep((await giver.give("read:/data/shop")).answer)
    assert (await worker.narrower("write:/data/shop")).error.startswith("PermissionDenied: 'hand' can't pass on")
    assert (await worker.narrower("read:/data")).error.startswith("PermissionDenied: 'hand' can't pass on")
    token = (await worker.narrower("read:/data/shop/new")).answer
    assert (await second.use(token, "read", "/data/shop/new/a")).answer
    assert (await second.use(token, "read", "/data/shop/a")).error.startswith("PermissionDenied")
    await kernel.revoke("master", "Shelf")
    assert (await second.use(token, "read", "/data/shop/new/a")).error.startswith("PermissionDenied")


async def test_a_chain_as_long_as_its_givers_like_is_forgotten_as_any_other(kernel: Kernel) -> None:
    """Longer than Python's stack is deep: whoever passes on to itself has broken nothing but its own."""
    giver, worker = await loaded(kernel)
    token = (await giver.give("read:/data")).answer
    narrowings = kernel.switchboard.narrowings
    hand, last, part = kernel.registry.entry("hand"), narrowings.found(token), Capability("Shelf", ("read",), "/data")
    for number in range(100, 2100):  # as `narrow` makes them, which looks at the whole chain each time
        last = Narrowed(number, hand, "keeper", part, last, last.origin, "secret")
        narrowings.made[number] = narrowings.parts[hand, "keeper", part, last.parent] = last
    chain = last.token
    assert narrowings.found(chain) is last
    await kernel.grant("hand", "Worker")
    await kernel.revoke("hand", "Worker")  # everything is looked at
    assert narrowings.found(chain) is last
    await kernel.revoke("master", "Shelf")
    assert narrowings.made == narrowings.parts == {}
    assert (await worker.use(chain, "read", "/data/a")).error.startswith("PermissionDenied")


async def test_whoever_holds_a_part_is_listed_with_its_giver_and_whose_it_is(kernel: Kernel) -> None:
    giver, worker = await loaded(kernel)
    await kernel.load(Hand, name="other", placement="process", grants=[])
    await worker.keep((await giver.give("read:/data")).answer)
    part = (await worker.narrower("read:/data/shop")).answer
    await kernel.get(Worker, plugin="other").keep(part)

    def passed_on(plugin: str) -> list[tuple[str, str, list[str], str, str]]:
        channels = held_by(kernel, kernel.registry.entry(plugin)).channels
        return [(c.interface, c.plugin, c.grants, c.giver, c.origin) for c in channels if c.giver]

    assert passed_on("hand") == [("Shelf", "keeper", ["Shelf:read:/data"], "master", "master")]
    assert passed_on("other") == [("Shelf", "keeper", ["Shelf:read:/data/shop"], "hand", "master")]
    assert passed_on("master") == []
    held = held_by(kernel, kernel.registry.entry("other"))
    assert held.grants == []
    text = channel_text(held.channels[0])
    assert text == "Shelf:read:/data/shop of keeper, passed on by hand (of the grant of master)"
    await kernel.revoke("master", "Shelf:read,write:/data")
    assert passed_on("hand") == passed_on("other") == []


async def test_a_channel_ends_with_the_last_proxy(kernel: Kernel) -> None:
    giver, worker = await loaded(kernel)
    await worker.keep((await giver.give("read:/data")).answer)
    passed_on = kernel.switchboard.narrowings.channels
    assert len(passed_on) == 1
    await worker.let_go()
    await until(lambda: not passed_on)
    for number in range(30):
        assert (await giver.delegate(f"read:/data/{number}", "read", f"/data/{number}/a")).answer
    await until(lambda: not passed_on)
    assert len(kernel.registry.entry("keeper").replicas[0].port.channels) <= 4  # of the giver


async def test_what_is_no_plugin_proxy_or_part_is_refused(kernel: Kernel) -> None:
    await kernel.load(Keeper)
    with pytest.raises(ContractError, match=r"wanted the plug-in itself \(self\)"):
        await narrow(object(), object(), "read")  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=r"wanted the plug-in itself \(self\)"):
        await redeem(object(), "1.2", Giver)
