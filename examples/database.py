"""A database behind an interface: bound parameters, a transaction, and a driver that is killed in the middle."""

import asyncio
import os
import signal
import tempfile
from uuid import uuid4

from mukernel import Kernel
from mukernel.drivers.sql import ConstraintViolated, Sql, SqlDriver, transaction


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Kernel() as kernel:
            config = {"url": f"sqlite:///{folder}/shop.db"}  # or "postgresql://user@host/shop": nothing else changes
            await kernel.load(SqlDriver, name="sql", placement="process", config=config)
            sql = kernel.get(Sql)
            await sql.execute("create table stock (article text primary key, count integer check (count >= 0))")
            await sql.execute_many(
                "insert into stock values (:article, :count)",
                [{"article": "tea", "count": 3}, {"article": "ink", "count": 8}],
            )

            async with transaction(sql) as changes:
                await changes.execute("update stock set count = count - 2 where article = 'tea'")
                await changes.execute("update stock set count = count + 2 where article = 'ink'")
            try:
                async with transaction(sql) as changes:
                    await changes.execute("update stock set count = count + 2 where article = 'ink'")
                    await changes.execute("update stock set count = count - 2 where article = 'tea'")
            except ConstraintViolated:
                print("rolled back: there is not that much tea")
            found = await sql.query("select article, count from stock where count > :least order by 1", {"least": 0})
            print(found.records())

            driver = kernel.registry.entry("sql").replicas[0].instance
            if driver is not None and driver.place.pid is not None:
                os.kill(driver.place.pid, signal.SIGKILL)
            key = str(uuid4())
            for _ in range(2):  # as one does who was not told whether it was run
                outcome = await sql.execute_once(key, "update stock set count = count - 1 where article = 'tea'")
            print("changed", outcome.count, "row, once:", (await sql.query("select count from stock order by 1")).rows)


if __name__ == "__main__":
    asyncio.run(main())
