"""The same echo over what else a Python program might call another process with.

A peer is one module of this package. It offers `connect()`, a context manager that starts the peer's server
in a process of its own, yields a client, and on the way out leaves neither process nor file behind. A
blocking peer yields a `Client`, one for event loops an `AsyncClient`, from an async context manager.

Every peer is set up as its documentation advises and as fast as that allows: one connection, kept; a Unix
socket; raw bytes where it lets us; its own call handed to the timing loop, not wrapped in another.

`python -m benchmarks.peers` measures them all in one run.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal


@dataclass(frozen=True, slots=True)
class Client:
    """A connected client: `call(data)` returns when the server's echo is there."""

    call: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class AsyncClient:
    """A connected client: `await call(data)` gives the server's echo. It stays on the loop it was made on."""

    call: Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer: its module here, how its call waits, the distribution it needs (None: it needs none)."""

    module: str
    waits: Literal["blocking", "asyncio"]
    distribution: str | None


PEERS = {
    "pipe+pickle": Peer("pipe_pickle", "blocking", None),
    "RPyC": Peer("rpyc_peer", "blocking", "rpyc"),
    "Pyro5": Peer("pyro", "blocking", "Pyro5"),
    "grpcio sync": Peer("grpc_sync", "blocking", "grpcio"),
    "grpcio aio": Peer("grpc_aio", "asyncio", "grpcio"),
}
"""All peers by the name that tables print."""


class PeerMissing(ImportError):
    """A peer's package is not installed."""


def require(module: str, distribution: str) -> ModuleType:
    """Import `module` of a peer's package. Raises PeerMissing, which says what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise PeerMissing(
            f"module {module!r} is not installed; wanted the distribution {distribution}: "
            "pip install 'mukernel[benchmark]'",
            name=module,
        ) from None


def versions(names: Sequence[str]) -> dict[str, str]:
    """The installed version of each distribution that the peers `names` need.

    Raises KeyError for a name not in `PEERS`, PeerMissing that lists all that are not installed and how to get them.
    """
    needed = sorted({each for name in names if (each := PEERS[name].distribution) is not None})
    found, missing = {}, []
    for each in needed:
        try:
            found[each] = importlib.metadata.version(each)
        except importlib.metadata.PackageNotFoundError:
            missing.append(each)
    if missing:
        raise PeerMissing(
            f"not installed: {', '.join(missing)}, which peers need that are measured; "
            "install them with: pip install 'mukernel[benchmark]' (in a checkout `make bench` does)"
        )
    return found


def load(name: str) -> ModuleType:
    """The module of the peer called `name` in `PEERS`, which has `connect()`.

    Raises KeyError for a name not in `PEERS`, PeerMissing if its package is not installed.
    """
    if name not in PEERS:
        raise KeyError(f"peer: got {name!r}, wanted one of {', '.join(PEERS)}")
    return importlib.import_module(f"{__name__}.{PEERS[name].module}")
