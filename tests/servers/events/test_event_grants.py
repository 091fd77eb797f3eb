"""Who may publish and subscribe to what: what the event server makes of its callers' grants."""

from typing import Any

import pytest
from events_granted import Member, Members

from mukernel import Kernel, PermissionDenied
from mukernel.servers.events import EventClient, Events, EventServer
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
