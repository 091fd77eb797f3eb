"""Plan: in which order requests are done, and which of them together. Knows neither files nor time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Kind = Literal["read", "write", "discard", "flush"]
Content = TypeVar("Content")
MOST_BLOCKS = 4096  # in one transfer
MOST_REQUESTS = 256  # merged into one transfer: the system takes 1,024 pieces at most


@dataclass(eq=False, slots=True)
class Request(Generic[Content]):
    """Blocks from `block` to before `end`; of a flush none. `content` is its owner's."""

    kind: Kind
    block: int
    end: int
    content: Content


def ready(waiting: Sequence[Request[Content]]) -> list[Request[Content]]:
    """Those of `waiting`, which stand in the order of their arrival, that may be done in any order now: none beyond a
    flush, and none that touches what an earlier one changes, or changes what an earlier one touches."""
    if waiting and waiting[0].kind == "flush":
        return [waiting[0]]
    found: list[Request[Content]] = []
    for number, each in enumerate(waiting[:MOST_REQUESTS]):
        if each.kind == "flush":
            break
        if not any(conflict(each, earlier) for earlier in waiting[:number]):
            found.append(each)
    return found


def conflict(one: Request[Content], other: Request[Content]) -> bool:
    """Must the two keep their order?"""
    overlap = one.block < other.end and other.block < one.end
    return overlap and not (one.kind == other.kind == "read")


def transfers(requests: Sequence[Request[Content]], head: int) -> list[list[Request[Content]]]:
    """The requests as an elevator does them: upwards from block `head`, then from the lowest on (so that none waits for
    ever); neighbours of one kind together."""
    ordered = sorted(requests, key=lambda each: (each.block < head, each.block, each.kind))
    found: list[list[Request[Content]]] = []
    for each in ordered:
        last = found[-1] if found else None
        if (
            last is not None and last[-1].kind == each.kind != "flush" and last[-1].end == each.block
            and each.end - last[0].block <= MOST_BLOCKS
        ):  # fmt: skip
            last.append(each)
        else:
            found.append([each])
    return found
