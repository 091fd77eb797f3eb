"""Arrow tables between processes: written to shared memory once, then passed on by handle, some rows of them, too."""

# mypy: disable-error-code="empty-body"
import asyncio

import pyarrow as pa
import pyarrow.compute as pc

from mukernel import Interface, Kernel, Plugin, shared


class Source(Interface, version="1.0"):
    async def readings(self, rows: int) -> pa.Table: ...


class Analysis(Interface, version="1.0"):
    async def warmest(self, readings: pa.Table, count: int) -> pa.Table: ...


class Thermometer(Plugin, Source):
    async def readings(self, rows: int) -> pa.Table:
        station = pa.array([f"station {number % 10}" for number in range(rows)]).dictionary_encode()
        table = pa.table({"station": station, "degrees": pa.array(range(rows), pa.float64())})
        return shared.arrow(table)  # copied here; sending it, or a part of it, copies nothing any more


class Sorted(Plugin, Analysis):
    async def warmest(self, readings: pa.Table, count: int) -> pa.Table:
        last = pc.max(readings["degrees"]).as_py()
        return readings.slice(int(last) + 1 - count)  # a part of what was received: it goes back as a handle


async def main() -> None:
    async with Kernel() as kernel:
        await kernel.load(Thermometer, name="source", placement="process")
        await kernel.load(Sorted, name="analysis", placement="process")
        table = await kernel.get(Source).readings(1_000_000)
        part = await kernel.get(Analysis).warmest(table, 500_000)
        print("received:", table.num_rows, "rows, passed on, and back come", part.num_rows)
        print("the last:", part.slice(part.num_rows - 1).to_pylist())
        table = part = None
        print("and when nobody looks into them:", shared.held(), "bytes")


if __name__ == "__main__":
    asyncio.run(main())
