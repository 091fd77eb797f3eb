"""The life of an instance is a table: only what it lists may happen, and nothing in it is a dead end."""

import pytest

from mukernel.core.lifecycle import TRANSITIONS, Event, Lifecycle, State, diagram

FINAL = {State.STOPPED, State.FAILED}


def at(state: State) -> Lifecycle:
    life = Lifecycle()
    life.state = state
    return life


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_each_event_in_each_state(state: State, event: Event) -> None:
    life, after = at(state), TRANSITIONS.get((state, event))
    assert life.may(event) == (after is not None)
    if after is not None:
        assert life.on(event) is after
        assert life.state is after
        return
    with pytest.raises(ValueError, match=f"an instance that is {state.value} can't {event.value}; possible: "):
        life.on(event)
    assert life.state is state


def test_every_state_is_reached_and_left() -> None:
    reached, edge = {State.DECLARED}, {State.DECLARED}
    while edge:
        edge = {after for (before, _), after in TRANSITIONS.items() if before in edge} - reached
        reached |= edge
    assert reached == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State), "a state that can't be left, not even by a restart"


def test_what_the_promises_need_of_the_table() -> None:
    assert {before for (before, event) in TRANSITIONS if event is Event.RESUME} == {State.QUIESCING, State.QUIET}
    alive = {State.BUILDING, State.WARM, State.SERVING, State.QUIESCING, State.QUIET}
    assert {before for (before, event) in TRANSITIONS if event is Event.CRASH} == alive, "a process may die at any time"
    assert {before for (before, _), after in TRANSITIONS.items() if after is State.SERVING} == {
        State.WARM, State.QUIESCING, State.QUIET
    }, "only what is warm, or was serving, serves"  # fmt: skip


def test_the_diagram_has_every_transition_and_ends() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    [*] --> declared" in lines
    for (before, event), after in TRANSITIONS.items():
        assert f"    {before.value} --> {after.value}: {event.value}" in lines
    assert sum(line.endswith("--> [*]") for line in lines) == len(FINAL)
    assert len(lines) == 2 + len(TRANSITIONS) + len(FINAL)
