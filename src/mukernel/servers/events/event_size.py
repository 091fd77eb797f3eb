"""How large an event is, as every limit counts it."""

from __future__ import annotations

from collections.abc import Mapping

from ...contract import ContractError
from .interface import Delivery
from .segment import Record


def event_size(body: bytes, headers: Mapping[str, str]) -> int:
    """Bytes of a body and its headers."""
    return len(body) + sum(len(key.encode()) + len(value.encode()) for key, value in headers.items())


def size_of(event: Record | Delivery) -> int:
    return event_size(event.body, event.headers)


def checked_size(body: bytes, headers: Mapping[str, str], identity: str) -> int:
    """The size of what somebody publishes. Raises ContractError for what can't be written, which would break the stream
    for everybody: inline nobody has looked at the types, and a text may have lone surrogates."""
    try:
        identity.encode()
        if isinstance(body, bytes | bytearray | memoryview):
            return event_size(body, headers)
    except (AttributeError, TypeError, UnicodeEncodeError):
        pass
    raise ContractError(
        f"body, headers, identity: got {type(body).__name__}, {type(headers).__name__} and {type(identity).__name__}, "
        "wanted bytes, a dictionary of texts and a text, without lone surrogates"
    )
