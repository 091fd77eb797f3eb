"""A plug-in that takes values of pyarrow, makes them, keeps them and passes them on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa

from mukernel import Interface, Plugin, oneway, shared


class Tables(Interface, version="1.0"):
    async def table(self, table: pa.Table) -> pa.Table: ...
    async def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch: ...
    async def array(self, array: pa.Array) -> pa.Array: ...
    async def integers(self, array: pa.Int64Array) -> pa.Int64Array: ...
    async def chunked(self, array: pa.ChunkedArray) -> pa.ChunkedArray: ...
    async def many(self, tables: list[pa.Table]) -> dict[str, pa.Table]: ...
    async def maybe(self, table: pa.Table | None) -> pa.Table | None: ...
    async def anything(self, value: Any) -> Any: ...
    async def made(self, rows: int) -> pa.Table: ...
    async def widened(self, table: pa.Table) -> pa.Table: ...
    def each(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]: ...
    @oneway
    async def keep(self, table: pa.Table) -> None: ...
    async def kept(self) -> int: ...
    async def held(self) -> int: ...


class Holder(Plugin, Tables):
    def __init__(self) -> None:
        self.kept_table: Any = None

    async def table(self, table: pa.Table) -> pa.Table:
        return table

    async def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch

    async def array(self, array: pa.Array) -> pa.Array:
        return array

    async def integers(self, array: pa.Int64Array) -> pa.Int64Array:
        return array

    async def chunked(self, array: pa.ChunkedArray) -> pa.ChunkedArray:
        return array

    async def many(self, tables: list[pa.Table]) -> dict[str, pa.Table]:
        return {str(number): table for number, table in enumerate(tables)}

    async def maybe(self, table: pa.Table | None) -> pa.Table | None:
        return table

    async def anything(self, value: Any) -> Any:
        return value

    async def made(self, rows: int) -> pa.Table:
        return shared.arrow(pa.table({"number": pa.array(range(rows))}))

    async def widened(self, table: pa.Table) -> pa.Table:
        """With a column more: of this process's ordinary memory."""
        return table.append_column("more", pa.array(range(table.num_rows)))

    async def each(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
        async for batch in batches:
            yield batch

    async def keep(self, table: pa.Table) -> None:
        self.kept_table = table

    async def kept(self) -> int:
        return -1 if self.kept_table is None else int(self.kept_table.num_rows)

    async def held(self) -> int:
        return shared.held()


class Passing(Interface, version="1.0"):
    async def on(self, table: pa.Table) -> pa.Table: ...


class First(Plugin, Passing):
    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    async def on(self, table: pa.Table) -> pa.Table:
        return await self.tables.table(table)
