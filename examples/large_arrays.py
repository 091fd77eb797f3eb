"""Large arrays between processes: as handles to shared memory, not as copies."""

# mypy: disable-error-code="empty-body"
import asyncio
from collections.abc import AsyncIterator

import numpy
from numpy.typing import NDArray

from mukernel import Interface, Kernel, Overloaded, Plugin, shared

Frame = NDArray[numpy.uint8]


class Camera(Interface, version="1.0"):
    def frames(self, count: int) -> AsyncIterator[Frame]: ...


class Filter(Interface, version="1.0"):
    async def brightest(self, frame: Frame) -> Frame: ...


class Grey(Plugin, Camera):
    async def frames(self, count: int) -> AsyncIterator[Frame]:
        for number in range(count):
            frame = shared.empty((1080, 1920), "uint8")  # made where it is to be read: not one copy is needed
            frame[:] = number
            frame[number] = 255
            yield frame  # and not written any more


class Row(Plugin, Filter):
    async def brightest(self, frame: Frame) -> Frame:
        row = int(frame.sum(axis=1, dtype="u8").argmax())
        return frame[row : row + 100]  # a part of what was received: it goes back as a handle, too


async def main() -> None:
    async with Kernel() as kernel:
        await kernel.load(Grey, name="camera", placement="process")
        await kernel.load(Row, name="filter", placement="process", shared_memory=64 << 20)
        camera, filter = kernel.get(Camera), kernel.get(Filter)
        found = []
        async for frame in camera.frames(20):
            part = await filter.brightest(frame)
            found.append(int(part[0, 0]))
            writable = part.flags.writeable
        print("the brightest rows:", set(found), "can be written here:", writable)
        print("held here:", shared.held() > 0)
        del frame, part
        print("and when nobody looks into them:", shared.held(), "bytes")
        try:
            await filter.brightest(numpy.zeros((10_000, 10_000), "uint8"))
        except Overloaded as error:
            print("refused:", error)


if __name__ == "__main__":
    asyncio.run(main())
