"""The registry by itself: names, interfaces, and the state of a plug-in with several replicas."""

import pytest
from core_samples import Counter, Summing

from mukernel import ContractError, NotFound
from mukernel.core.lifecycle import Event, State
from mukernel.core.messages import Blueprint, Built, Source
from mukernel.core.registry import Entry, Instance, Options, Registry, Replica

SOURCE = Source("core_samples", "Tally")


def entry(registry: Registry, name: str, *interfaces: type) -> Entry:
    made = registry.add(name, SOURCE, Options())
    made.interfaces = [each.__contract__.describe() for each in interfaces]
    return made


def instance(key: str, *events: Event) -> Instance:
    made = Instance(Blueprint(key, "name", SOURCE), None, Built([], False))  # type: ignore[arg-type]
    for event in events:
        made.life.on(event)
    return made


def test_names_are_taken_once_and_order_is_kept() -> None:
    registry = Registry()
    one, two = entry(registry, "one"), entry(registry, "two")
    assert (one.order, two.order) == (0, 1)
    assert registry.entry("one") is one
    with pytest.raises(ContractError, match="plug-in 'one' is loaded already"):
        entry(registry, "one")
    with pytest.raises(NotFound, match="no plug-in is named 'three'; there are: one, two"):
        registry.entry("three")


def test_an_empty_registry_says_that_it_is_empty() -> None:
    registry = Registry()
    with pytest.raises(NotFound, match="there are: none"):
        registry.entry("one")
    with pytest.raises(NotFound, match="no plug-in serves Counter; interfaces that are served: none"):
        registry.serving("Counter")


def test_interfaces_lead_to_the_plugin_that_serves_them() -> None:
    registry = Registry()
    counter, both = entry(registry, "counter", Counter), entry(registry, "both", Counter, Summing)
    assert registry.serving("Summing") is both
    assert registry.serving("Counter", "counter") is counter
    with pytest.raises(ContractError, match="several plug-ins serve Counter: 'counter', 'both'"):
        registry.serving("Counter")
    with pytest.raises(NotFound, match="plug-in 'counter' does not serve Summing; it serves: Counter"):
        registry.serving("Summing", "counter")
    counter.interfaces = []
    with pytest.raises(NotFound, match="it serves: nothing yet"):
        registry.serving("Counter", "counter")


def test_a_checkpoint_of_a_successor_is_not_yet_its_replicas() -> None:
    registry = Registry()
    made = entry(registry, "one")
    replica = Replica(0, None, instance("one#0.1"), instance("one#0.2"))  # type: ignore[arg-type]
    made.replicas.append(replica)
    registry.checkpointed("one#0.2", b"two", 2)
    registry.checkpointed("one#0.3", b"three", 3)
    assert replica.checkpoint is None
    registry.checkpointed("one#0.1", b"one", 1)
    assert replica.checkpoint == (b"one", 1)
    assert replica.successor is not None and replica.successor.checkpoint == (b"two", 2)


def test_the_state_of_a_plugin_is_that_of_its_worst_replica() -> None:
    made = entry(Registry(), "one")
    assert made.state is State.STOPPED
    serving = (Event.BUILD, Event.BUILT, Event.ACTIVATE)
    made.replicas.append(Replica(0, None, instance("a", *serving)))  # type: ignore[arg-type]
    assert made.state is State.SERVING
    made.replicas.append(Replica(1, None, instance("b", *serving, Event.CRASH)))  # type: ignore[arg-type]
    assert made.state is State.CRASHED
    made.replicas.append(Replica(2, None, instance("c", Event.BUILD, Event.BROKEN)))  # type: ignore[arg-type]
    assert made.state is State.FAILED
