"""Who may publish and subscribe to what: what the event server makes of its callers' grants."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from brokered_samples import Billing, Bills, Order
from events_granted import Member, Members

from mukernel import ContractError, Kernel, PermissionDenied
from mukernel.servers.events import EventClient, Events, EventServer
from mukernel.servers.events.settings import StreamSettings
from mukernel.servers.events.topics import scope_of


async def member(kernel: Kernel, config: dict[str, Any], *grants: str) -> Members:
    await kernel.load(EventServer, name="events", placement="process", config=config)
    await kernel.load(Member, name="member", placement="process", grants=grants)
    return kernel.get(Members)


async def test_who_may_only_publish_some_topics(config: dict[str, Any]) -> None:
    async with Kernel() as kernel:
        some = await member(kernel, config, "Events:publish:orders/*")
        assert await some.publish("orders.eu.created") == 1
        for topic in ("orders", "invoices.eu", "orders/x.y", "dead-letters.orders.a"):
            with pytest.raises(PermissionDenied, match=r"the caller was granted only: Events:publish:orders/\*"):
                await some.publish(topic)
        for attempt in (some.first("orders.>"), some.stats(), some.settle("orders", "group"), some.forget("group")):
            with pytest.raises(PermissionDenied):
                await attempt


async def test_who_may_only_subscribe_to_some_topics(config: dict[str, Any]) -> None:
    async with Kernel() as kernel:
        some = await member(kernel, config, "Events:subscribe:orders/eu")
        client = EventClient(kernel.get(Events))
        for topic in ("orders.us.created", "orders.eu.created"):
            await client.publish(topic, topic.encode())
        for pattern in ("orders.eu.>", "orders.eu.*", "orders.eu.created"):
            assert await some.first(pattern) == "orders.eu.created"
        for pattern in ("orders.>", "orders.*", "orders.*.created", ">", "orders.us.created"):
            with pytest.raises(PermissionDenied, match=r"subscribe '.*': the caller was granted only"):
                await some.first(pattern)
        with pytest.raises(PermissionDenied):
            await some.publish("orders.eu.created")

        assert await some.grouped("orders.eu.>", "mine") == "orders.eu.created"  # and it is settled
        async for event in client.subscribe("orders.>", group="theirs", start="first"):
            assert event.offset == 1
            break
        with pytest.raises(PermissionDenied, match="subscribe 'orders/>'"):
            await some.settle("orders", "theirs")
        with pytest.raises(PermissionDenied, match="manage"):
            await some.forget("mine")


async def test_a_dead_letter_is_the_servers_own_affair(config: dict[str, Any]) -> None:
    """Who gives an event up has it buried, and need not be allowed to publish there."""
    async with Kernel() as kernel:
        some = await member(kernel, config, "Events:subscribe:orders", "Events:manage")
        await EventClient(kernel.get(Events)).publish("orders.new", b"")
        assert await some.given_up("orders.>", "mine") is True
        assert await some.stats() == ["dead-letters", "orders"]
        await some.forget("mine")


def test_no_topic_lies_where_it_does_not_belong() -> None:
    assert scope_of("orders.eu.>") == "orders/eu/>"
    assert scope_of("orders/eu.new") == "orders%2Feu/new" != scope_of("orders%2Feu.new")


async def test_an_identity_is_one_of_its_topic(config: dict[str, Any]) -> None:
    """Who may publish in one scope can't make an event of another one a duplicate; nor after a restart."""
    async with Kernel() as kernel:
        await kernel.load(EventServer, name="events", placement="process", config=config)
        client = EventClient(kernel.get(Events))
        assert not (await client.publish("orders.eu.junk", b"", identity="order-1001")).duplicate
        assert not (await client.publish("orders.us.created", b"pay", identity="order-1001")).duplicate
        await kernel.restart("events")
        assert (await client.publish("orders.us.created", b"pay", identity="order-1001")).duplicate
        assert not (await client.publish("orders.us.paid", b"pay", identity="order-1001")).duplicate


@pytest.mark.parametrize("grant", ["Events", "Events:*:calls", "Events:publish,subscribe,manage"])
async def test_brokered_calls_are_for_their_broker_alone(config: dict[str, Any], tmp_path: Path, grant: str) -> None:
    (tmp_path / "billed").touch()
    async with Kernel() as kernel:
        some = await member(kernel, {**config, "calls": ["Bills"]}, grant)
        await kernel.load(Billing, name="billing", placement="process", config={"file": str(tmp_path / "billed")})
        await kernel.route(Bills, brokered=True)
        await kernel.get(Bills).note("mine")
        attempts = [some.publish("calls.Bills"), kernel.get(Events).publish("calls.Bills", b"")]
        attempts += [some.publish("calls.Other"), some.settle("calls-Bills", "broker"), some.settle("calls-Bills", "x")]
        attempts += [some.first(pattern) for pattern in ("calls.Bills", "calls.>", "calls.*")]
        attempts += [some.grouped("calls.Bills", "broker"), kernel.get(Events).remove_group("calls-Bills", "broker")]
        for attempt in attempts:
            with pytest.raises(PermissionDenied, match="for the broker of the route alone"):
                await attempt
        with pytest.raises(PermissionDenied if grant == "Events:*:calls" else ContractError):
            await some.first("*.Bills")


async def test_the_right_of_a_broker_is_granted_to_nobody_else(config: dict[str, Any]) -> None:
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match="knows no right 'broker'"):
            await member(kernel, config, "Events:broker:calls/Bills")
        await kernel.load(Member, name="member", placement="process", grants=["Events:publish"])
        with pytest.raises(ContractError, match="knows no right 'broker'"):
            await kernel.grant("member", "Events:broker:calls/Bills")


async def test_a_wildcard_is_given_no_brokered_calls(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "billed").touch()
    async with Kernel() as kernel:
        await kernel.load(EventServer, name="events", placement="process", config={**config, "calls": ["Bills"]})
        await kernel.load(Billing, name="billing", placement="process", config={"file": str(tmp_path / "billed")})
        await kernel.route(Bills, brokered=True)
        client = EventClient(kernel.get(Events))
        for pattern in (">", "*.Bills"):
            ready = asyncio.Event()
            async with aclosing(client.subscribe(pattern, start="live", ready=ready)) as events:
                first = asyncio.ensure_future(anext(events))
                await ready.wait()
                await kernel.get(Bills).bill(Order("tea", datetime(2026, 11, 25, 12, tzinfo=UTC)))
                await client.publish("own.Bills", b"")
                assert (await first).topic == "own.Bills"


async def test_a_swap_of_the_server_keeps_the_broker(config: dict[str, Any], tmp_path: Path) -> None:
    """Its version after that knows who the broker is, and holds the others off as before."""
    (tmp_path / "billed").touch()
    async with Kernel() as kernel:
        some = await member(kernel, {**config, "calls": ["Bills"]}, "Events")
        await kernel.load(Billing, name="billing", placement="process", config={"file": str(tmp_path / "billed")})
        await kernel.route(Bills, brokered=True)
        await kernel.swap("events", EventServer)
        assert await kernel.get(Bills).bill(Order("tea", datetime(2026, 11, 25, 12, tzinfo=UTC))) == "tea: 1"
        with pytest.raises(PermissionDenied, match="for the broker of the route alone"):
            await some.first("calls.Bills")


def test_a_stream_of_brokered_calls_has_no_other_topics() -> None:
    with pytest.raises(ContractError, match=r"config\.streams\.mixed\.topics: got .*wanted those of brokered calls"):
        EventServer(None, streams={"mixed": StreamSettings(["calls.Bills", ">"])})  # type: ignore[arg-type]
