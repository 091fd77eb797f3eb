"""Block: the interface by which plug-ins reach a disk."""

from __future__ import annotations

import msgspec

from ...contract import Buffer, Interface, idempotent


class BlockInfo(msgspec.Struct):
    """What the disk is. `block_size`: bytes; `blocks`: how many it has, numbered from 0."""

    block_size: int
    blocks: int
    read_only: bool


class BlockStatistics(msgspec.Struct):
    """Since the driver started. `requests`: reads, writes and discards that were asked for; `transfers`: what they were
    merged into; `flushes`: how often the disk was told to make all of it last."""

    requests: int
    transfers: int
    flushes: int


class Block(Interface, version="1.0", raises=(PermissionError, OSError, ValueError)):
    """Reads and writes whole blocks. Requests that wait are merged and put in order; those that touch the same block
    keep theirs. ValueError for what does not lie within the disk, or is not whole blocks."""

    @idempotent
    async def info(self) -> BlockInfo:
        """Size and kind of the disk."""
        raise NotImplementedError

    @idempotent
    async def read(self, block: int, count: int = 1) -> Buffer:
        """`count` blocks from number `block` on."""
        raise NotImplementedError

    @idempotent
    async def write(self, block: int, data: Buffer) -> None:
        """Write whole blocks from number `block` on: seen by every read from now on, and lasting after a `flush`."""
        raise NotImplementedError

    @idempotent
    async def discard(self, block: int, count: int = 1) -> None:
        """Give the blocks back: they read as zeros, and an image needs no room for them."""
        raise NotImplementedError

    @idempotent
    async def flush(self) -> None:
        """A barrier: when it returns, all that was answered before it was asked for lasts, whatever loses its power or
        its life. As long as the driver lives it is done after all that was asked for before it, and before the rest."""
        raise NotImplementedError

    @idempotent
    async def statistics(self) -> BlockStatistics:
        """What the queue has done."""
        raise NotImplementedError
