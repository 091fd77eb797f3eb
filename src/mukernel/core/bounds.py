"""Bounds: what one process may have the kernel keep for it, so that there is enough for the others."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from ..contract import Description, Overloaded
from ..kernel.ipc import Channel
from ..transports.descriptors import close_all, duplicated, enough_for, kept_of
from .registry import Registry, Replica
from .sandboxed import FILES

MOST_CHANNELS = 4096  # of one process
# Descriptors that each channel takes, by rings; by sockets there are some more:
OF_KERNEL = 5
OF_CALLER = 4
OF_SERVER = 4
LARGEST_TOTAL = 4 << 20  # bytes of all the contracts that one process calls otherwise than they are served


class Bounds:
    """Those of every process, known by its space. `files`: how many files some may open; others as many as the
    kernel. `sandboxed`: which are sandboxes."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.files: dict[str, int] = {}
        self.sandboxed: set[str] = set()
        self.minted: Counter[str] = Counter()  # channels of each space since they were counted the last time
        self.contracts: dict[str, dict[bytes, Description]] = {}  # of each space, those that nobody serves so

    def begun(self, space: str, files: int | None, sandboxed: bool) -> None:
        """A process has begun. `files`: how many it may open; None: nothing was said."""
        if files or sandboxed:
            self.files[space] = files or FILES
        if sandboxed:
            self.sandboxed.add(space)

    def forget(self, space: str) -> None:
        self.files.pop(space, None)
        self.sandboxed.discard(space)
        self.minted.pop(space, None)
        self.contracts.pop(space, None)

    def sandbox(self, space: str) -> str:
        """A process's name, if it is a sandbox: by that its servers bound what they hold of it."""
        return space if space in self.sandboxed else ""

    # -- channels ---------------------------------------------------------------------------------------------

    def check_channels(self, space: str, replicas: Sequence[Replica]) -> None:
        """Raises Overloaded for a process that would have more channels to replicas than it may have.

        Who closes its own ends of a channel, and does not say so, costs the kernel and its server as much as before: so
        nobody has more than half of what the kernel may open, and no sandbox more than its own limit of files has room
        for, or half of what its server may open.
        """
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        own = self.files.get(space, files) if space in self.sandboxed else files
        most = min(MOST_CHANNELS, own // OF_CALLER, files // 2 // OF_KERNEL)
        rooms = [self.room_of(replica, files) for replica in replicas] if space in self.sandboxed else []
        self.minted[space] += len(replicas)
        if self.minted[space] > min([most, *rooms]):
            held = len(replicas) + self.channels_of(space, (each for _, each in self.registry.replicas()))
            self.minted[space] = held
            if held > most:
                raise Overloaded(
                    f"{space} would have {held:,} channels, wanted at most {most:,}: close what is not used, or let it "
                    f"open more files than {own:,} (limits.files), and the kernel more than {files:,} (ulimit -Hn)"
                )
            for replica, room in zip(replicas, rooms, strict=False):
                if self.channels_of(space, [replica]) >= room:
                    raise Overloaded(
                        f"{space} holds {room:,} channels to one that may open {2 * OF_SERVER * room:,} files, half of "
                        "which are for others: close what is not used, or give that more (limits.files)"
                    )
        with enough_for(f"a channel from {space}, beside those that it keeps for itself"):
            close_all(duplicated([replicas[0].port.bell[0]] * kept_of(files)))

    def channels_of(self, space: str, replicas: Iterable[Replica]) -> int:
        """Those of one process; what it has let go of is not among them."""
        channels: Iterable[Channel] = (channel for each in replicas for channel in each.port.channels.values())
        return sum(channel.caller == space for channel in channels)

    def room_of(self, replica: Replica, files: int) -> int:
        """How many channels one sandbox may have to a replica. `files`: how many most processes may open."""
        space = replica.instance.place.space if replica.instance is not None else ""
        return self.files.get(space, files) // 2 // OF_SERVER

    # -- contracts --------------------------------------------------------------------------------------------

    def kept(self, space: str, called: Description, served: Description) -> Description:
        """What is kept of the contract that a caller says it calls: what is served, where that is the same, else the
        contract once for each process, without its documentation. Raises Overloaded for too many."""
        if called.hash == served.hash:
            return served
        methods = tuple(msgspec.structs.replace(each, documentation="") for each in called.methods)
        called = msgspec.structs.replace(called, methods=methods, documentation="")
        contracts, encoded = self.contracts.setdefault(space, {}), msgspec.msgpack.encode(called)
        if encoded not in contracts and sum(map(len, contracts)) + len(encoded) > LARGEST_TOTAL:
            used = {id(each) for _, replica in self.registry.replicas() for each in replica.callers.values()}
            contracts = {key: each for key, each in contracts.items() if id(each) in used}
            self.contracts[space] = contracts
            if sum(map(len, contracts)) + len(encoded) > LARGEST_TOTAL:
                raise Overloaded(
                    f"{space} calls {len(contracts)} contracts that nobody serves as it has them, of more than "
                    f"{LARGEST_TOTAL:,} bytes in all: let it call the versions that are served"
                )
        return contracts.setdefault(encoded, called)
