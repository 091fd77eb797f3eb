"""Way: what the methods of proxies see of the route that binds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..contract import Contract
from ..transports.blocking import BlockingCaller
from ..transports.calling import IncomingStream
from ..transports.remote import RemoteMethod


class Sender(Protocol):
    """What sends the calls of a route: one caller, or a balance over several."""

    async def call(self, method: RemoteMethod, body: bytes, wait_for_room: bool, /) -> bytes: ...
    async def oneway(self, method: RemoteMethod, body: bytes, wait_for_room: bool, /) -> None: ...
    def stream(self, method: RemoteMethod, body: bytes, inputs: Any, wait_for_room: bool, /) -> IncomingStream: ...


class ThreadSender(Protocol):
    """What sends the blocking calls of the present thread. AttributeError: there is nothing yet."""

    @property
    def caller(self) -> BlockingCaller: ...


class Way(Protocol):
    """A route, whose state the methods read at each call and never change.

    `caller` is None while nothing can be sent: then `elsewhere` and its like wait until it is known where the plug-in
    is, and call it there; they raise what the call raises, NotFound, or Unavailable where it is gone.
    """

    loop: asyncio.AbstractEventLoop
    now_ns: Callable[[], int]  # the clock of deadlines
    wait_for_room: bool

    @property
    def contract(self) -> Contract: ...
    @property
    def remotes(self) -> Mapping[str, RemoteMethod]: ...
    @property
    def bound(self) -> Mapping[str, Callable[..., Any]]: ...
    @property
    def target(self) -> object:
        """The instance, while it is in this process."""

    @property
    def last_plugin(self) -> Any:
        """The plug-in whose methods callers may have kept."""

    @property
    def caller(self) -> Sender | None: ...
    @property
    def thread(self) -> ThreadSender: ...
    def with_caller(self) -> AbstractContextManager[None]:
        """Within it `thread` has a caller."""

    def stream_to_thread(self, method: RemoteMethod, body: bytes, inputs: Iterable[Any] | None) -> Iterator[Any]: ...

    async def elsewhere(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
    async def elsewhere_stream(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]: ...
    def elsewhere_blocking(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
