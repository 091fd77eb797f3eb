"""Who may do what with a database, a disk and the web: what the drivers make of their callers' grants."""

from pathlib import Path

import pytest
from drivers_callers import Caller, Calls
from postgres_server import PostgresServer
from web_server import WebServer

from mukernel import ContractError, Kernel, PermissionDenied, RemoteError
from mukernel.drivers.block import BlockDriver
from mukernel.drivers.http import HttpDriver
from mukernel.drivers.sql import Sql, SqlDriver, SqlError, transaction
from mukernel.drivers.sql.statements import controls_transaction

LOOKS = ["query", "stream"]
CHANGES = ["execute", "execute_many", "execute_once", "transaction"]


async def database(kernel: Kernel, url: str, *grants: str) -> Calls:
    await kernel.load(SqlDriver, name="sql", placement="process", config={"url": url})
    await kernel.get(Sql).execute("create table prices (article text primary key, price integer)")
    await kernel.get(Sql).execute("insert into prices values ('tea', 3)")
    await kernel.load(Caller, name="caller", placement="process", grants=grants)
    return kernel.get(Calls)


async def test_who_may_only_read_a_database_reads(url: str) -> None:
    async with Kernel() as kernel:
        caller = await database(kernel, url, "Sql:read")
        for method in LOOKS:
            assert "3" in await caller.sql(method, "select price from prices")
            with pytest.raises(RemoteError, match=r"read-?only|syntax error"):  # PostgreSQL streams by a cursor
                await caller.sql(method, "delete from prices")
        for method in CHANGES:
            with pytest.raises(PermissionDenied, match="write: the caller was granted only: Sql:read"):
                await caller.sql(method, "delete from prices")
        assert (await kernel.get(Sql).query("select count(*) from prices")).rows == [[1]]


async def test_who_may_only_write_a_database_writes(url: str) -> None:
    async with Kernel() as kernel:
        caller = await database(kernel, url, "Sql:write")
        for method in CHANGES:
            assert await caller.sql(method, "update prices set price = price + 1") == "1"
        for method in LOOKS:
            with pytest.raises(PermissionDenied, match="read: the caller was granted only: Sql:write"):
                await caller.sql(method, "select 1")


@pytest.mark.parametrize(
    "statement",
    ["attach database '{folder}/other.db' as other", "detach database main", "pragma query_only = off",
     "PRAGMA Foreign_Keys = off", "pragma max_page_count = 1", "pragma locking_mode = exclusive",
     "pragma writable_schema = on", "pragma schema_version = 7", "pragma temp_store_directory = '/'"],
)  # fmt: skip
async def test_a_statement_keeps_to_its_database_and_changes_no_connection(statement: str, tmp_path: Path) -> None:
    """SQLite opens files by statements, and a connection is everybody's."""
    async with Kernel() as kernel:
        await kernel.load(SqlDriver, config={"url": f"sqlite:///{tmp_path}/x.db", "connections": 1})
        sql = kernel.get(Sql)
        for method in (sql.query, sql.execute):
            for _ in range(2):  # a statement that was compiled once is judged again
                with pytest.raises(SqlError, match="not authorized"):
                    await method(statement.format(folder=tmp_path))
        assert (await sql.execute("pragma user_version = 7")).count == 0
        assert (await sql.query("pragma user_version")).rows == [[7]]
        assert (await sql.query("pragma table_info(mukernel_executed)")).rows
    assert not (tmp_path / "other.db").exists()


async def test_what_a_reader_sets_is_gone_before_the_next_call(postgres: PostgresServer) -> None:
    """A connection is everybody's: the owner's writes would go to another table."""
    async with Kernel() as kernel:
        config = {"url": postgres.new_database(), "connections": 1}
        await kernel.load(SqlDriver, name="sql", placement="process", config=config)
        sql = kernel.get(Sql)
        for statement in ("create schema other", "create table prices (article text)",
                          "create table other.prices (article text)", "create role nobody_else"):  # fmt: skip
            await sql.execute(statement)
        await kernel.load(Caller, name="caller", placement="process", grants=["Sql:read"])
        caller = kernel.get(Calls)
        session = (
            "select current_user, session_user, current_setting('search_path'), current_setting('statement_timeout'), "
            "current_setting('session_replication_role'), current_setting('synchronous_commit')"
        )
        before = (await sql.query(session)).rows
        for statement in (
            "set search_path to other", "set synchronous_commit = off", "set session_replication_role = replica",
            "set statement_timeout = '7s'", "set default_transaction_read_only = on", "listen something",
            "declare kept cursor with hold for select 1", "prepare mine as select 1", "deallocate all",
            "select pg_advisory_lock(7)", "set session authorization nobody_else", "set role nobody_else",
        ):  # fmt: skip
            await caller.sql("query", statement)
            assert (await sql.execute("insert into prices values ('tea')")).count == 1, statement
            assert (await sql.query(session)).rows == before, statement
            left = "select (select count(*) from pg_cursors where is_holdable), "
            left += "(select count(*) from pg_listening_channels()), "
            left += "(select count(*) from pg_locks where locktype = 'advisory'), "
            left += "(select count(*) from pg_prepared_statements where name = 'mine')"
            assert (await sql.query(left)).rows == [[0, 0, 0, 0]], statement
        assert (await sql.query("select count(*) from other.prices")).rows == [[0]]


@pytest.mark.parametrize(
    "statement",
    ["create temp table prices (article text)", "create table temp.prices (article text)",
     "create temp view prices as select 'x' as article"],
)  # fmt: skip
async def test_what_is_temporary_is_gone_before_the_next_call(statement: str, url: str) -> None:
    if "temp." in statement and "sqlite" not in url:
        statement = "create temporary table prices (article text)"
    async with Kernel() as kernel:
        await kernel.load(SqlDriver, name="sql", config={"url": url, "connections": 1})
        sql = kernel.get(Sql)
        await sql.execute("create table prices (article text)")
        await sql.execute("insert into prices values ('tea')")
        await sql.execute(statement)
        assert (await sql.query("select article from prices")).rows == [["tea"]]


@pytest.mark.parametrize(
    "statement",
    ["begin", "COMMIT", " rollback", "savepoint x", "release x", "end", "abort", "start transaction",
     "-- a\n;/* b */ commit", "/* a */ prepare /* */ transaction 'x'", "rollback to x", "commit;"],
)  # fmt: skip
async def test_a_transaction_is_ended_by_its_block_alone(statement: str, url: str) -> None:
    async with Kernel() as kernel:
        await kernel.load(SqlDriver, name="sql", config={"url": url, "connections": 1})
        sql = kernel.get(Sql)
        await sql.execute("create table prices (article text)")
        with pytest.raises(SqlError, match="the driver's: each call is a transaction"):
            async with transaction(sql) as changes:
                await changes.execute("insert into prices values ('tea')")
                await changes.execute(statement)
        for method in (sql.query, sql.execute):
            with pytest.raises(SqlError, match="the driver's: each call is a transaction"):
                await method(statement)
        assert (await sql.query("select count(*) from prices")).rows == [[0]]


def test_comments_within_comments_hide_no_commit() -> None:
    assert controls_transaction("/* /* */ x */ commit", nested=True) == "commit"
    assert controls_transaction("/* /* */ commit", nested=False) == "commit"
    for harmless in ("prepare x as select 1", "select 1 -- commit", "committed", "/* commit", "ending", "'begin'"):
        assert controls_transaction(harmless, nested=True) is None


@pytest.mark.parametrize(
    ("right", "may", "may_not"),
    [("read", ["info", "read", "statistics"], ["write", "discard", "flush"]),
     ("write", ["write", "discard", "flush"], ["info", "read", "statistics"])],
)  # fmt: skip
async def test_the_rights_of_a_disk(right: str, may: list[str], may_not: list[str], tmp_path: Path) -> None:
    async with Kernel() as kernel:
        config = {"path": str(tmp_path / "disk"), "block_size": 512, "size": 4096}
        await kernel.load(BlockDriver, name="disk", placement="process", config=config)
        await kernel.load(Caller, name="caller", placement="process", grants=[f"Block:{right}"])
        caller = kernel.get(Calls)
        for method in may:
            assert await caller.block(method)
        for method in may_not:
            with pytest.raises(PermissionDenied, match=f"the caller was granted only: Block:{right}"):
                await caller.block(method)


async def test_the_origins_and_methods_of_the_web() -> None:
    with WebServer() as web, WebServer() as other:
        async with Kernel() as kernel:
            origins = [web.origin, other.origin]
            await kernel.load(HttpDriver, name="http", placement="process", config={"origins": origins})
            await kernel.load(Caller, name="caller", placement="process", grants=[f"Http:{web.origin}"])
            caller = kernel.get(Calls)
            assert await caller.http("GET", f"{web.origin}/x") == await caller.http("DELETE", f"{web.origin}/x") == 200
            for url in (f"{other.origin}/x", f"{web.origin}/to?302={other.origin}/x"):
                with pytest.raises(PermissionDenied, match="was granted only"):
                    await caller.http("GET", url)
            token = await caller.pass_on(f"{web.origin}/part")
            assert await caller.http_by(token, f"{web.origin}/part/1") == 200
            with pytest.raises(PermissionDenied):
                await caller.http_by(token, f"{web.origin}/x")
            with pytest.raises(PermissionDenied, match="can't pass on"):
                await caller.pass_on(other.origin)

            await kernel.revoke("caller", f"Http:{web.origin}")
            await kernel.grant("caller", f"Http:read:{web.origin}/to")
            await kernel.grant("caller", f"Http:write:{other.origin}")
            assert await caller.http("POST", f"{other.origin}/x") == 200
            for method, url in (
                ("GET", f"{other.origin}/x"), ("POST", f"{web.origin}/to"), ("GET", f"{web.origin}/to?302=/x"),
            ):  # fmt: skip
                with pytest.raises(PermissionDenied, match="was granted only"):
                    await caller.http(method, url)
        assert {path for _, path, *_ in other.seen} == {"/x"} and len(other.seen) == 1


async def test_rights_that_a_driver_does_not_know_are_refused(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        await kernel.load(SqlDriver, name="sql", config={"url": f"sqlite:///{tmp_path}/x.db"})
        with pytest.raises(ContractError, match="knows no right 'drop'; it knows: read, write"):
            await kernel.load(Caller, name="caller", placement="process", grants=["Sql:drop"])
