"""A bound method that is kept leads to what its plug-in is replaced by, and stays of its kind."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mukernel.transports.replaceable import lead_elsewhere, replaceable


class One:
    def plain(self, text: str) -> str:
        return f"one {text}"

    async def awaited(self, text: str) -> str:
        return f"one {text}"

    def generated(self, text: str) -> Iterator[str]:
        yield f"one {text}"

    async def streamed(self, text: str) -> AsyncIterator[str]:
        yield f"one {text}"


KINDS: dict[str, Callable[[Any], bool]] = {
    "awaited": inspect.iscoroutinefunction,
    "generated": inspect.isgeneratorfunction,
    "streamed": inspect.isasyncgenfunction,
}


@pytest.mark.parametrize("name", ["plain", *KINDS])
def test_one_of_each_kind_leads_elsewhere_without_a_warning(name: str) -> None:
    kept = replaceable(getattr(One(), name))
    assert kept is not None
    with warnings.catch_warnings():  # Python 3.13 warns of code of another kind, and may refuse it one day
        warnings.simplefilter("error")
        lead_elsewhere(kept, lambda *arguments, **named: ("elsewhere", arguments, named))
    assert kept("a", text="b") == ("elsewhere", ("a",), {"text": "b"})
    assert {kind for kind, holds in KINDS.items() if holds(kept)} == ({name} & KINDS.keys())


async def test_what_was_made_before_goes_on_where_it_was() -> None:
    plugin = One()
    awaited, streamed = replaceable(plugin.awaited), replaceable(plugin.streamed)
    assert awaited is not None and streamed is not None
    reply, stream = awaited("a"), streamed("b")
    for each in (awaited, streamed):
        lead_elsewhere(each, lambda text: f"two {text}")
    assert await reply == "one a"
    assert [item async for item in stream] == ["one b"]
    assert awaited("a") == streamed("a") == "two a"
