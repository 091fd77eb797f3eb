"""A disk: requests that wait are merged; what was flushed is there after the driver was killed."""

import asyncio
import os
import signal
import tempfile

from mukernel import Buffer, Kernel
from mukernel.drivers.block import Block, BlockDriver


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Kernel() as kernel:
            config = {"path": f"{folder}/disk.img", "size": 1 << 20}
            await kernel.load(BlockDriver, name="disk", placement="process", config=config)
            disk = kernel.get(Block, when_full="wait")  # more requests than its mailbox has room for
            info = await disk.info()
            print(info.blocks, "blocks of", info.block_size, "bytes")

            await asyncio.gather(*[disk.write(block, Buffer(bytes([block]) * 4096)) for block in range(100)])
            await disk.flush()
            counts = await disk.statistics()
            print("merged:", counts.transfers < counts.requests == 100)

            driver = kernel.registry.entry("disk").replicas[0].instance
            if driver is not None and driver.place.pid is not None:
                os.kill(driver.place.pid, signal.SIGKILL)
            print("still there:", await disk.read(99) == bytes([99]) * 4096)
            try:
                await disk.read(info.blocks)
            except ValueError as error:
                print("refused:", error)


if __name__ == "__main__":
    asyncio.run(main())
