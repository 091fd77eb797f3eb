"""What nobody can settle becomes a dead letter, however large it is: stored once, and never configured away."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from brokered_samples import Billing, Bills
from events_collecting import Listening, take

from mukernel import ContractError, Kernel, Unavailable
from mukernel.servers.events import EventClient, Events, EventServer, Subscription
from mukernel.servers.events.log import Log
from mukernel.servers.events.server import LARGEST_BODY, LONGEST_REASON
from mukernel.testing import TestKernel


async def client_of(kernel: Kernel, config: dict[str, Any], placement: str = "process") -> EventClient:
    await kernel.load(EventServer, name="events", placement=placement, config=config)
    return EventClient(kernel.get(Events))


@pytest.mark.parametrize("how", ["terminated", "never settled"])
async def test_the_largest_event_becomes_a_dead_letter_once(
    kernel: TestKernel, config: dict[str, Any], how: str
) -> None:
    client = await client_of(kernel, config | {"max_body": 1000})
    body, headers = b"x" * 990, {"trace": "12345"}
    await client.publish("orders.new", body, headers=headers)
    await client.publish("orders.new", b"after")
    events = client.subscribe("orders.>", group="g", start="first", max_deliver=2, ack_wait=60)
    first, after = await take(events, 2)
    if how == "terminated":
        assert await first.term("no use: " + "y" * 1_000_000)
    await after.ack()
    if how == "never settled":
        [again] = await take(events, 1)
        assert (again.offset, again.delivery.deliveries) == (1, 2)
    await kernel.clock.sleep(3600)
    figures = (await client.events.stats()).streams
    assert (figures["orders"].groups["g"].settled, figures["orders"].groups["g"].dead) == (2, 1)
    assert figures["dead-letters"].last == 1
    await client.publish("orders.new", b"later")
    assert (await anext(events)).body == b"later"
    [dead] = await take(client.subscribe("dead-letters.>", start="first"), 1)
    assert (dead.body, dead.headers["trace"]) == (body, "12345")
    reason = dead.headers["Mukernel-Reason"]
    assert reason.startswith("no use: yy" if how == "terminated" else "delivered 2 times")
    assert len(reason) < LONGEST_REASON + 100
    await events.aclose()


async def test_a_dead_letter_that_can_t_be_stored_yet_holds_up_nobody(
    kernel: TestKernel, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(kernel, config, "inline")
    await client.publish("orders.new", b"poison")
    write = Log.write

    def full(log: Log, records: Any, sync: bool) -> None:
        if log.name == "dead-letters":
            raise OSError(28, "No space left on device")
        write(log, records, sync)

    async with Listening(client, "orders.>", group="g", start="first", max_deliver=1, ack_wait=60) as member:
        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, "mukernel.events"):
            patched.setattr(Log, "write", full)
            await kernel.clock.sleep(70)
            assert "offset 1 waits" in caplog.text and "No space left" in caplog.text
            await client.publish("orders.new", b"fine")
            await kernel.clock.sleep(1)
            assert member.bodies == [b"poison", b"fine"]
            with pytest.raises(Unavailable, match="No space left"):
                await member.events[0].term("told")
            assert await member.events[1].ack()
        await kernel.clock.sleep(70)
        figures = (await client.events.stats()).streams
        assert (figures["orders"].groups["g"].settled, figures["dead-letters"].last) == (2, 1)


async def test_what_is_gone_from_the_log_is_settled_when_it_is_terminated(
    kernel: TestKernel, config: dict[str, Any]
) -> None:
    config["streams"]["orders"] |= {"max_count": 4}
    client = await client_of(kernel, config)
    await client.publish("orders.new", b"old")
    events = client.subscribe("orders.>", group="g", start="first")
    event = await anext(events)
    for _ in range(20):
        await client.publish("orders.new", b"new")
    assert await event.term("no use")
    assert not await event.term("no use")
    figures = (await client.events.stats()).streams
    assert (figures["orders"].groups["g"].dead, figures["dead-letters"].last) == (0, 0)
    await events.aclose()


@pytest.mark.parametrize("topics", [["dead-letter.>"], ["dead-letters.orders.>"], ["dead-letters.*"]])
async def test_dead_letters_are_not_configured_away(
    kernel: TestKernel, config: dict[str, Any], topics: list[str]
) -> None:
    config["streams"]["dead-letters"] = {"topics": topics}
    with pytest.raises(ContractError, match=r"config\.streams\.dead-letters\.topics: got .*wanted 'dead-letters\.>'"):
        await client_of(kernel, config)


@pytest.mark.parametrize("topics", [["dead-letters.>"], ["news.>", "dead-letters.*.*"]])
async def test_dead_letters_may_be_configured(kernel: TestKernel, config: dict[str, Any], topics: list[str]) -> None:
    config["streams"]["dead-letters"] = {"topics": topics, "max_count": 5}
    client = await client_of(kernel, config)
    await client.publish("orders.new", b"body")
    [event] = await take(client.subscribe("orders.>", group="g", start="first"), 1)
    assert await event.term("no use")
    [dead] = await take(client.subscribe("dead-letters.orders.g", start="first"), 1)
    assert dead.body == b"body"


# -- what is accepted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"body": "a text"},
        {"headers": {"number": 5}},
        {"headers": ["a", "list"]},
        {"headers": {"lone": "\ud800"}},
        {"identity": "\ud800"},
        {"identity": 5},
        {"topic": "orders.\ud800"},
    ],
)
async def test_what_can_t_be_written_is_refused_and_breaks_nothing(
    process_kernel: Kernel, config: dict[str, Any], bad: dict[str, Any]
) -> None:
    """Inline, where nobody looks at types on the way."""
    client = await client_of(process_kernel, config, "inline")
    given = {"topic": "orders.new", "body": b"body", "headers": {"fine": "1"}, "identity": "one"} | bad
    with pytest.raises(ContractError, match=r"lone surrogates|topic: got"):
        await client.events.publish(given.pop("topic"), given.pop("body"), **given)
    assert (await client.publish("orders.new", b"body")).offset == 1


async def test_headers_count_as_what_they_are_on_the_disk(kernel: TestKernel, config: dict[str, Any]) -> None:
    client = await client_of(kernel, config | {"max_body": 100})
    with pytest.raises(ContractError, match="got 102 bytes, wanted at most 100"):
        await client.publish("orders.new", b"", headers={"ab": "\U0001f600" * 25})
    await client.publish("orders.new", b"", headers={"": "\U0001f600" * 25})


async def test_an_event_with_all_around_it_fits_into_a_message(kernel: TestKernel, config: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match=r"config\.max_body: got '1G', wanted at most '1023M'"):
        await client_of(kernel, config | {"max_body": "1G"})
    await client_of(kernel, config | {"max_body": LARGEST_BODY})


async def test_a_batch_is_bounded_by_bytes_headers_included(kernel: TestKernel, config: dict[str, Any]) -> None:
    """It has to fit into a message."""
    client = await client_of(kernel, config)
    for _ in range(40):
        await client.publish("orders.new", b"", headers={"large": "x" * 100_000})
    sizes: list[int] = []
    batches = client.events.subscribe(Subscription("orders.>", "member", "g", "first", prefetch=1000))
    async for batch in batches:
        sizes.append(sum(len(event.headers["large"]) for event in batch.events))
        if sum(sizes) == 4_000_000:
            break
    await batches.aclose()  # type: ignore[attr-defined]
    assert max(sizes) <= 600_000


# -- brokered calls ---------------------------------------------------------------------------------------------


async def test_a_brokered_call_of_the_largest_size_that_fails_is_run_once(tmp_path: Any) -> None:
    (tmp_path / "billed").touch()
    async with Kernel() as kernel:
        events = {"folder": str(tmp_path / "events"), "calls": ["Bills"], "max_body": 4096}
        await kernel.load(EventServer, name="events", placement="process", config=events)
        await kernel.load(Billing, name="billing", placement="process", config={"file": str(tmp_path / "billed")})
        await kernel.route(Bills, brokered=True)
        bills = kernel.get(Bills)
        length = 4096
        while True:  # the largest that is accepted
            try:
                await bills.note("fail " + "x" * length)
                break
            except ContractError:
                length -= 1
        letters = EventClient(kernel.get(Events)).subscribe("dead-letters.>", start="first")
        [letter] = await take(letters, 1)
        await letters.aclose()
        assert letter.headers["Mukernel-Reason"].startswith("RemoteError: ValueError: it can't be noted")
        assert (await kernel.get(Events).stats()).streams["dead-letters"].last == 1
        assert len((tmp_path / "billed").read_text().split("\n")) == 2
