"""BlockDriver: the plug-in that serves Block from a disk, and its request queue."""

from __future__ import annotations

import asyncio
import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ...contract import Buffer, Plugin
from ...core.ending import to_its_end
from ...transports.granted import caller_grant
from .disk import Disk
from .interface import Block, BlockInfo, BlockStatistics
from .plan import MOST_BLOCKS, Kind, Request, ready, transfers

log = logging.getLogger("mukernel.block")
Right = Literal["read", "write"]


class Asked:
    """Who waits for a request, and what is to be written."""

    def __init__(self, answer: asyncio.Future[Any], data: memoryview | None = None) -> None:
        self.answer, self.data = answer, data


class BlockDriver(Plugin, Block):
    """`path`: a disk image or a block device. `block_size`: bytes. `size`: bytes of the image, which is made if it is
    not there. Both may be texts, such as "4K" and "256M". `read_only`: nothing can be changed. The disk is worked on by
    one thread, one transfer at a time; what is asked for meanwhile waits, and is merged."""

    grant_rights = ("read", "write")

    def __init__(
        self, *, path: str, block_size: int | str = 4096, size: int | str | None = None, read_only: bool = False
    ) -> None:  # fmt: skip
        self.disk = Disk(path, block_size, size, read_only)
        self.waiting: list[Request[Asked]] = []
        self.thread = ThreadPoolExecutor(1, "block")
        self.worker: asyncio.Task[None] | None = None
        self.head = 0  # the block after the last transfer
        self.counts = BlockStatistics(0, 0, 0)

    async def stop(self) -> None:
        if cancelled := await to_its_end(self.finish()):
            raise cancelled

    async def finish(self) -> None:
        """Do what waits, and let go of the disk when nothing works on it any more. Raises OSError."""
        try:
            if self.worker is not None:
                await self.worker
            if not self.disk.read_only:
                await asyncio.get_running_loop().run_in_executor(self.thread, self.disk.flush)
        finally:
            self.thread.shutdown()
            self.disk.close()

    # -- what is served -----------------------------------------------------------------------------------------

    async def info(self) -> BlockInfo:
        self.allowed("read")
        return BlockInfo(self.disk.block_size, self.disk.blocks, self.disk.read_only)

    async def read(self, block: int, count: int = 1) -> Buffer:
        self.allowed("read")
        self.check(block, count, changes=False)
        data: Buffer = await self.ask("read", block, count)
        return data

    async def write(self, block: int, data: Buffer) -> None:
        self.allowed("write")
        count, over = divmod(len(data), self.disk.block_size)
        if over or not count:
            raise ValueError(
                f"write: got {len(data)} bytes, wanted a multiple of the block size, {self.disk.block_size}, above 0"
            )
        self.check(block, count, changes=True)
        await self.ask("write", block, count, data.view)

    async def discard(self, block: int, count: int = 1) -> None:
        self.allowed("write")
        self.check(block, count, changes=True, most=self.disk.blocks)
        await self.ask("discard", block, count)

    async def flush(self) -> None:
        self.allowed("write")
        await self.ask("flush", 0, 0)

    async def statistics(self) -> BlockStatistics:
        self.allowed("read")
        return self.counts

    def allowed(self, right: Right) -> None:
        """Raises PermissionDenied for what the caller was not granted."""
        grant = caller_grant(self)
        if grant is not None:
            grant.check(right)

    def check(self, block: int, count: int, changes: bool, most: int = MOST_BLOCKS) -> None:
        if changes and self.disk.read_only:
            raise PermissionError(errno.EROFS, "the disk is read-only")
        if block < 0 or count < 1 or block + count > self.disk.blocks:
            raise ValueError(
                f"got {count} blocks from block {block} on, wanted at least 1, within the disk's {self.disk.blocks}"
            )
        if count > most:
            raise ValueError(f"got {count} blocks, wanted at most {most} in one request")

    # -- the queue ----------------------------------------------------------------------------------------------

    async def ask(self, kind: Kind, block: int, count: int, data: memoryview | None = None) -> Any:
        loop = asyncio.get_running_loop()
        asked = Asked(loop.create_future(), data)
        self.waiting.append(Request(kind, block, block + count, asked))
        if self.worker is None or self.worker.done():
            self.worker = loop.create_task(self.work())
        return await asked.answer

    async def work(self) -> None:
        """Do what waits, until nothing does. A caller that was cancelled has its request done all the same."""
        loop = asyncio.get_running_loop()
        while self.waiting:
            batch = ready(self.waiting)
            taken = set(map(id, batch))
            self.waiting = [each for each in self.waiting if id(each) not in taken]
            for transfer in transfers(batch, self.head):
                first = transfer[0]
                if first.kind == "flush":
                    self.counts.flushes += 1
                else:
                    self.counts.requests += len(transfer)
                    self.counts.transfers += 1
                    self.head = transfer[-1].end
                outcomes = await loop.run_in_executor(self.thread, self.outcomes, transfer)
                for each, outcome in zip(transfer, outcomes, strict=True):
                    if each.content.answer.done():
                        continue
                    if isinstance(outcome, OSError):
                        each.content.answer.set_exception(outcome)
                    else:
                        each.content.answer.set_result(outcome)

    def outcomes(self, transfer: list[Request[Asked]]) -> list[Any]:
        """One transfer, in the disk's thread; for each request its result, or the OSError that it ends in. Where
        several fail together each is done by itself: a bad block is no matter of its neighbours."""
        try:
            return self.perform(transfer)
        except Exception as error:  # whatever it is, callers wait
            if len(transfer) > 1:
                return [self.outcomes([each])[0] for each in transfer]
            return [meaning(error, transfer[0])]

    def perform(self, transfer: list[Request[Asked]]) -> list[Any]:
        """A result for each request. Raises OSError, MemoryError."""
        first, last = transfer[0], transfer[-1]
        if first.kind == "read":
            return self.disk.read(first.block, [each.end - each.block for each in transfer])
        if first.kind == "write":
            self.disk.write(first.block, [each.content.data for each in transfer if each.content.data is not None])
        elif first.kind == "discard":
            self.disk.discard(first.block, last.end - first.block)
        else:
            self.disk.flush()
        return [None] * len(transfer)


def meaning(error: Exception, request: Request[Asked]) -> OSError:
    """What went wrong with a request, as the interface has it."""
    if isinstance(error, OSError):
        return OSError(error.errno or errno.EIO, error.strerror or str(error))
    blocks = request.end - request.block
    if isinstance(error, MemoryError):
        return OSError(errno.ENOMEM, f"there is no memory for {blocks} blocks at once: ask for fewer")
    log.error("a transfer of %d blocks from block %d on failed", blocks, request.block, exc_info=error)
    return OSError(errno.EIO, f"{type(error).__name__}: {error}")
