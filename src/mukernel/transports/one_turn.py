"""One turn of the event loop, before a call is refused that may not have waited for anything: a caller that tries again
at once, until it succeeds, would keep the loop from whatever that depends on."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine


@coroutine
def one_turn() -> Generator[None, None, None]:
    """Let everything run that can run now."""
    yield


__all__ = ["one_turn"]
