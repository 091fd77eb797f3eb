"""The life of an instance, as a table of states and events. The diagram in the docs is made from this table."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where an instance is in its life."""

    DECLARED = "declared"  # known, not built
    BUILDING = "building"  # being constructed, started and checked
    WARM = "warm"  # ready, receives nothing yet
    SERVING = "serving"  # holds the receive right
    QUIESCING = "quiescing"  # starts nothing more, finishes what it took
    QUIET = "quiet"  # nothing runs; its state is saved
    CRASHED = "crashed"  # its process died, or it was found hanging
    STOPPED = "stopped"  # ended as asked
    FAILED = "failed"  # given up: it could not be built, or crashed too often


class Event(Enum):
    """What happens to an instance."""

    BUILD = "build"
    BUILT = "built"
    BROKEN = "broken"  # building, checking or restoring raised
    ACTIVATE = "activate"
    QUIESCE = "quiesce"
    DRAINED = "drained"
    RESUME = "resume"  # a replacement was rolled back
    CRASH = "crash"
    RESTART = "restart"
    GIVE_UP = "give up"
    STOP = "stop"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.DECLARED, Event.BUILD): State.BUILDING,
    (State.BUILDING, Event.BUILT): State.WARM,
    (State.BUILDING, Event.BROKEN): State.FAILED,
    (State.BUILDING, Event.CRASH): State.CRASHED,
    (State.WARM, Event.ACTIVATE): State.SERVING,
    (State.WARM, Event.BROKEN): State.FAILED,
    (State.WARM, Event.STOP): State.STOPPED,
    (State.WARM, Event.CRASH): State.CRASHED,
    (State.SERVING, Event.QUIESCE): State.QUIESCING,
    (State.SERVING, Event.STOP): State.STOPPED,
    (State.SERVING, Event.CRASH): State.CRASHED,
    (State.QUIESCING, Event.DRAINED): State.QUIET,
    (State.QUIESCING, Event.RESUME): State.SERVING,
    (State.QUIESCING, Event.CRASH): State.CRASHED,
    (State.QUIET, Event.RESUME): State.SERVING,
    (State.QUIET, Event.STOP): State.STOPPED,
    (State.QUIET, Event.CRASH): State.CRASHED,
    (State.CRASHED, Event.RESTART): State.BUILDING,
    (State.CRASHED, Event.GIVE_UP): State.FAILED,
    (State.CRASHED, Event.STOP): State.STOPPED,
    (State.FAILED, Event.RESTART): State.BUILDING,
    (State.FAILED, Event.STOP): State.STOPPED,
    (State.STOPPED, Event.RESTART): State.BUILDING,
}


class Lifecycle:
    """The present state of one instance; only events that the table knows move it."""

    def __init__(self) -> None:
        self.state = State.DECLARED

    def on(self, event: Event) -> State:
        """Move by `event`. Raises ValueError where the table has no such move."""
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            possible = ", ".join(e.value for s, e in TRANSITIONS if s is self.state) or "nothing"
            raise ValueError(f"an instance that is {self.state.value} can't {event.value}; possible: {possible}")
        self.state = after
        return after

    def may(self, event: Event) -> bool:
        return (self.state, event) in TRANSITIONS


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.DECLARED.value}"]
    lines += [f"    {before.value} --> {after.value}: {event.value}" for (before, event), after in TRANSITIONS.items()]
    lines += [f"    {state.value} --> [*]" for state in (State.STOPPED, State.FAILED)]
    return "\n".join(lines) + "\n"
