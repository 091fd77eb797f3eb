"""A plug-in that calls the drivers with what it was granted, and passes a part of it on."""

from __future__ import annotations

from mukernel import Buffer, Interface, Plugin, narrow, redeem
from mukernel.drivers.block import Block
from mukernel.drivers.http import Http
from mukernel.drivers.sql import Sql, transaction


class Calls(Interface):
    async def sql(self, method: str, statement: str) -> str: ...
    async def block(self, method: str) -> str: ...
    async def http(self, method: str, url: str) -> int: ...
    async def pass_on(self, part: str) -> str: ...
    async def http_by(self, token: str, url: str) -> int: ...


class Caller(Plugin, Calls):
    def __init__(self, sql: Sql | None = None, block: Block | None = None, http: Http | None = None) -> None:
        self.databases, self.disk, self.web = sql, block, http

    async def sql(self, method: str, statement: str) -> str:
        sql = self.databases
        assert sql is not None
        if method == "stream":
            return str([rows.rows async for rows in sql.stream(statement)])
        if method == "transaction":
            async with transaction(sql) as changes:
                return str((await changes.execute(statement)).count)
        if method == "execute_many":
            return str((await sql.execute_many(statement, [{}])).count)
        if method == "execute_once":
            return str((await sql.execute_once("key", statement)).count)
        if method == "execute":
            return str((await sql.execute(statement)).count)
        return str((await sql.query(statement)).rows)

    async def block(self, method: str) -> str:
        disk = self.disk
        assert disk is not None
        if method == "write":
            await disk.write(0, Buffer(b"x" * 512))
            return "written"
        return str(await getattr(disk, method)(*(() if method in ("info", "flush", "statistics") else (0,))))

    async def http(self, method: str, url: str) -> int:
        assert self.web is not None
        return (await self.web.request(method, url)).status

    async def pass_on(self, part: str) -> str:
        return await narrow(self, self.web, part)

    async def http_by(self, token: str, url: str) -> int:
        return (await (await redeem(self, token, Http)).get(url)).status
