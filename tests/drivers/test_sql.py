"""The SQL driver, with SQLite and with a real PostgreSQL."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy
from killing import kill
from postgres_server import PostgresServer
from waiting import until_event

from mukernel import (
    ContractError,
    DeadlineExceeded,
    Kernel,
    PluginCrashed,
    RestartPolicy,
    Unavailable,
    deadline,
)
from mukernel.drivers.sql import (
    ConstraintViolated,
    DatabaseGone,
    Outcome,
    Sql,
    SqlDriver,
    SqlError,
    database,
    transaction,
)
from mukernel.drivers.sql.database import MOST_ROWS
from mukernel.drivers.sql.driver import EXECUTED

TIRELESS = RestartPolicy(intensity=1000, period=1.0, backoff=0.001, longest_backoff=0.01)
NUMBERS = (
    "with recursive series(number) as (select 1 union all select number + 1 from series where number < :upto) "
    "select number from series"
)


@pytest.fixture(params=["inline", "process"])
async def kernel(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Kernel]:
    async with Kernel() as kernel:
        await kernel.load(
            SqlDriver, name="sql", placement=request.param, config={"url": url, "connections": 3}, restart=TIRELESS
        )
        await kernel.get(Sql).execute("create table prices (article text primary key, price integer not null)")
        yield kernel


@pytest.fixture
def sql(kernel: Kernel) -> Sql:
    return kernel.get(Sql)


async def count(sql: Sql) -> int:
    return int((await sql.query("select count(*) from prices")).rows[0][0])


async def add(sql: Any, article: str, price: int = 1) -> Outcome:
    outcome: Outcome = await sql.execute(
        "insert into prices values (:article, :price)", {"article": article, "price": price}
    )
    return outcome


async def test_statements_are_run_and_rows_come_back(sql: Sql) -> None:
    assert (await add(sql, "tea", 3)).count == 1
    many = [{"article": f"a{number}", "price": number} for number in range(10)]
    assert (await sql.execute_many("insert into prices values (:article, :price)", many)).count == 10
    assert (await sql.execute_many("insert into prices values (:article, :price)", [])).count == 0
    found = await sql.query("select article, price from prices where price >= :least order by price desc", {"least": 8})
    assert found.records() == [{"article": "a9", "price": 9}, {"article": "a8", "price": 8}]
    returned = await sql.execute("update prices set price = price + 1 where article = 'tea' returning price")
    assert returned.rows is not None and (returned.count, returned.rows.tuples()) == (1, [(4,)])


async def test_parameters_are_bound_and_never_a_part_of_the_statement(sql: Sql) -> None:
    evil = "x'); drop table prices; --"
    await add(sql, evil)
    assert (await sql.query("select article from prices where article = :it", {"it": evil})).rows == [[evil]]
    for wrong in ({}, {"other": 1}):
        with pytest.raises(SqlError, match="it"):
            await sql.query("select article from prices where article = :it", wrong)
    for value in ([1, 2], {"a": 1}):
        with pytest.raises(ValueError, match=r"parameter 'it'.*wanted one value"):
            await sql.query("select :it", {"it": value})


async def test_values_keep_their_types(sql: Sql, url: str) -> None:
    values = {
        "amount": Decimal("12.30"), "day": date(2026, 11, 25), "moment": datetime(2026, 11, 25, 12, 30, 1, 5),
        "stamp": datetime(2026, 11, 25, 12, 30, tzinfo=UTC), "hour": time(12, 30), "id": UUID(int=7),
        "body": b"\0\xff", "yes": True, "ratio": 0.5, "none": None, "text": "é",
    }  # fmt: skip
    types = {
        "amount": "numeric(9,2)", "day": "date", "moment": "timestamp", "stamp": "timestamptz", "hour": "time",
        "id": "uuid", "body": "bytea" if url.startswith("postgresql") else "blob", "yes": "boolean",
        "ratio": "double precision", "none": "integer", "text": "text",
    }  # fmt: skip
    columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
    await sql.execute(f"create table kinds ({columns})")
    await sql.execute(f"insert into kinds values ({', '.join(':' + name for name in values)})", values)
    (found,) = (await sql.query("select * from kinds")).records()
    if url.startswith("postgresql"):
        assert found == values
        spans = await sql.query("select interval '90 minutes' as span, '{1,2}'::int[] as many")
        assert spans.tuples() == [(timedelta(minutes=90), [1, 2])]
        await sql.execute(
            "create table lists as select array[:day\\:\\:date, null] as days, array[[1.5, 2]] as amounts, "
            "array[:id\\:\\:uuid] as ids, array[interval '1 minute'] as spans, '{}'\\:\\:date[] as none, "
            "'[\"2026-11-25\", 1]'\\:\\:json as plain",
            {"day": values["day"], "id": values["id"]},
        )
        (lists,) = (await sql.query("select * from lists")).records()
        assert lists == {
            "days": [values["day"], None], "amounts": [[Decimal("1.5"), Decimal(2)]], "ids": [UUID(int=7)],
            "spans": [timedelta(minutes=1)], "none": [], "plain": ["2026-11-25", 1],
        }  # fmt: skip
    else:  # SQLite has no such types: it keeps their texts
        assert (found["day"], found["body"], found["ratio"], found["text"]) == ("2026-11-25", b"\0\xff", 0.5, "é")


async def test_rows_do_not_travel_by_copy(postgres: PostgresServer) -> None:
    """A statement that leaves its connection in the middle of something; more of them than there are connections."""
    async with Kernel() as kernel:
        config = {"url": postgres.new_database(), "connections": 2}
        await kernel.load(SqlDriver, name="sql", placement="process", config=config)
        sql = kernel.get(Sql)
        await sql.execute("create table prices (article text)")
        for statement in ["copy prices from stdin", "copy prices to stdout"] * 3:
            with pytest.raises(SqlError, match="`execute_many` writes them"):
                await sql.execute(statement)
            with pytest.raises(SqlError, match="`execute_many` writes them"):
                async with transaction(sql) as changes:
                    await changes.execute("insert into prices values ('tea')")
                    await changes.execute(statement)
        assert (await sql.query("select count(*) from prices")).rows == [[0]]


async def test_a_query_can_change_nothing(sql: Sql) -> None:
    for statement in ("insert into prices values ('tea', 1)", "drop table prices", "delete from prices"):
        with pytest.raises(SqlError, match=r"read-?only"):
            await sql.query(statement)
    await add(sql, "tea")
    for statement in ("commit; delete from prices", "select 1; commit; begin; delete from prices; commit"):
        with pytest.raises(SqlError):
            await sql.query(statement)
    assert await count(sql) == 1


async def test_errors_arrive_as_themselves(sql: Sql) -> None:
    await add(sql, "tea")
    with pytest.raises(ConstraintViolated):
        await add(sql, "tea")
    with pytest.raises(ConstraintViolated):
        await sql.execute("insert into prices (article) values ('ink')")
    for broken in ("selct 1", "select * from nowhere", "", "select 1; select 2 where 1 = :x"):
        with pytest.raises(SqlError):
            await sql.execute(broken, {"x": 1})
    with pytest.raises(ConstraintViolated):  # all of many or nothing
        await sql.execute_many("insert into prices values (:a, 1)", [{"a": "new"}, {"a": "tea"}])
    assert await count(sql) == 1
    with pytest.raises(ValueError, match="stream them"):
        await sql.query(NUMBERS, {"upto": MOST_ROWS + 1})


async def test_rows_stream_no_faster_than_they_are_read(sql: Sql) -> None:
    total = 0
    async for rows in sql.stream(NUMBERS, {"upto": 5000}, 300):
        assert len(rows.rows) <= 300
        total += sum(number for (number,) in rows.tuples())
    assert total == 5000 * 5001 // 2
    for _ in range(7):  # more often than there are connections: a stream that is left gives its own back
        async with aclosing(sql.stream(NUMBERS, {"upto": 1_000_000}, 10)) as stream:  # type: ignore[type-var]
            assert len((await anext(stream)).rows) == 10
    with pytest.raises(ValueError, match="batch"):
        await anext(sql.stream("select 1", {}, 0))
    assert await count(sql) == 0


async def test_a_transaction_is_kept_whole_or_not_at_all(sql: Sql) -> None:
    async with transaction(sql) as changes:
        await add(changes, "tea")
        await add(changes, "ink")
        assert (await changes.query("select count(*) from prices")).rows == [[2]]
    assert await count(sql) == 2
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with transaction(sql) as changes:
            await changes.execute("delete from prices")
            raise RuntimeError("changed my mind")
    with pytest.raises(ConstraintViolated):
        async with transaction(sql) as changes:
            await add(changes, "pen")
            await add(changes, "tea")
    assert await count(sql) == 2
    with pytest.raises(Unavailable, match="ended already"):
        await changes.ask(changes.steps.get_nowait() if not changes.steps.empty() else step())


def step() -> Any:
    from mukernel.drivers.sql import Step

    return Step("run", "select 1")


async def test_a_cancelled_transaction_is_rolled_back(sql: Sql) -> None:
    begun = asyncio.Event()

    async def never_ends() -> None:
        async with transaction(sql) as changes:
            await add(changes, "tea")
            begun.set()
            await asyncio.get_running_loop().create_future()

    for _ in range(4):
        begun.clear()
        task = asyncio.create_task(never_ends())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await add(sql, "tea")  # nobody holds the row, or a connection


async def test_a_statement_ends_at_its_callers_deadline(sql: Sql) -> None:
    for _ in range(4):
        with pytest.raises(DeadlineExceeded):
            async with deadline(0.05):
                await sql.query(f"select count(*) from ({NUMBERS}) as endless", {"upto": 1 << 60})
    await add(sql, "tea")


@pytest.mark.parametrize("kernel", ["inline"], indirect=True)
async def test_a_statement_ends_though_its_call_is_cancelled_twice_and_before_it_began(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption that comes too early is lost, and no connection is given back while a statement uses it."""
    loop, reached = asyncio.get_running_loop(), asyncio.Queue[str]()
    begin, interrupt, lost = database.begun, database.interrupt, iter(range(3))

    def begun(*given: Any) -> Any:
        loop.call_soon_threadsafe(reached.put_nowait, "begun")
        return begin(*given)

    def too_early_at_first(connection: Any) -> None:
        loop.call_soon_threadsafe(reached.put_nowait, "interrupted")
        if next(lost, None) is None:
            interrupt(connection)

    monkeypatch.setattr(database, "begun", begun)
    monkeypatch.setattr(database, "interrupt", too_early_at_first)
    endless = f"select count(*) from ({NUMBERS}) as endless"
    calls = [asyncio.create_task(sql.query(endless, {"upto": 1 << 60})) for _ in range(3)]  # one for each connection
    for what in ("begun", "interrupted"):
        for _ in calls:
            assert await reached.get() == what
        for call in calls:
            call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 3
    monkeypatch.undo()
    await add(sql, "tea")
    assert await count(sql) == 1


async def test_a_key_makes_a_statement_run_once(sql: Sql) -> None:
    key, statement = str(uuid4()), "insert into prices values (:article, 1)"
    outcomes = await asyncio.gather(*[sql.execute_once(key, statement, {"article": f"a{n}"}) for n in range(8)])
    assert [each.count for each in outcomes] == [1] * 8
    assert await count(sql) == 1
    with pytest.raises(ConstraintViolated):  # one that failed is not taken for done
        await sql.execute_once("other", "insert into prices select article, price from prices")
    assert (await sql.execute_once("other", "update prices set price = 2")).count == 1
    with pytest.raises(ValueError, match="key"):
        await sql.execute_once("", statement)


@pytest.mark.parametrize("kernel", ["process"], indirect=True)
async def test_killed_under_load_it_comes_back_and_callers_see_a_pause(kernel: Kernel) -> None:
    """What was answered is there, once; what was not is there once or not at all."""
    sql, done = kernel.get(Sql), asyncio.Event()
    answered: list[list[str]] = [[] for _ in range(4)]
    unknown: list[str] = []

    async def once(number: int) -> None:
        while not done.is_set():
            key = str(uuid4())
            outcome = await sql.execute_once(key, "insert into prices values (:article, 1)", {"article": key})
            assert outcome.count == 1
            answered[number].append(key)
            assert (await sql.query("select price from prices where article = :key", {"key": key})).rows == [[1]]

    async def pairs(number: int) -> None:
        while not done.is_set():
            key = str(uuid4())
            try:
                async with transaction(sql) as changes:
                    await add(changes, key)
                    await add(changes, f"{key} too")
            except (PluginCrashed, Unavailable):
                unknown.append(key)
            else:
                answered[number] += [key, f"{key} too"]

    load = [asyncio.create_task((pairs if number == 0 else once)(number)) for number in range(4)]
    for death in range(8):
        reached = [len(each) + 2 for each in answered]
        while not all(len(each) >= want for each, want in zip(answered, reached, strict=True)):
            await asyncio.sleep(0)
            assert not [task for task in load if task.done()], [task.exception() for task in load if task.done()]
        instance = kernel.registry.entry("sql").replicas[0].instance
        assert instance is not None and instance.place.pid is not None
        os.kill(instance.place.pid, signal.SIGKILL)
        await until_event(kernel, "sql", "restart", death + 1)
    done.set()
    await asyncio.gather(*load)
    there = {article for (article,) in (await sql.query("select article from prices")).tuples()}
    known = {article for each in answered for article in each}
    assert known <= there
    assert there - known <= {article for key in unknown for article in (key, f"{key} too")}
    assert all((key in there) == (f"{key} too" in there) for key in unknown)


async def test_a_database_that_goes_is_told_and_comes_back(postgres: PostgresServer) -> None:
    async with Kernel() as kernel:
        await kernel.load(SqlDriver, name="sql", placement="process", config={"url": postgres.new_database()})
        sql = kernel.get(Sql)
        assert (await sql.query("select 1")).rows == [[1]]
        await asyncio.to_thread(postgres.stop)
        try:
            with pytest.raises(DatabaseGone):
                await sql.query("select 1")
        finally:
            await asyncio.to_thread(postgres.start)
        assert (await sql.query("select 1")).rows == [[1]]


async def test_a_driver_that_dies_while_the_database_is_away_serves_when_it_is_back(postgres: PostgresServer) -> None:
    async with Kernel() as kernel:
        config = {"url": postgres.new_database()}
        await kernel.load(SqlDriver, name="sql", placement="process", config=config, restart=TIRELESS)
        sql = kernel.get(Sql)
        await sql.execute("create table prices (article text primary key, price integer not null)")
        await sql.execute("drop table mukernel_executed")  # as of a database that was never prepared
        await asyncio.to_thread(postgres.stop)
        try:
            await kill(kernel, "sql")
            with pytest.raises(DatabaseGone):
                await sql.query("select 1")
        finally:
            await asyncio.to_thread(postgres.start)
        insert = "insert into prices values ('tea', 1)"
        await asyncio.gather(*(sql.execute_once("a", insert) for _ in range(4)))
        assert await count(sql) == 1


async def test_a_database_that_can_t_be_reached_is_told_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    async with Kernel() as kernel:
        url = "postgresql://user:secret@/x?host=/there/is/none"
        await kernel.load(SqlDriver, name="sql", placement="inline", config={"url": url})
        with pytest.raises(DatabaseGone) as caught:
            await kernel.get(Sql).execute_once("a", "select 1")
    [said] = [each.getMessage() for each in caplog.records if each.name == "mukernel.sql"]
    assert said.startswith("config.url: the database can't be reached: ") and "\n" not in said
    assert "secret" not in said + str(caught.value)


async def test_a_driver_starts_while_another_makes_the_table_of_keys(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    engine = database.new_engine(url, 2)
    async with Kernel() as kernel:
        with engine.connect() as other, engine.connect() as watcher:
            other.exec_driver_sql(EXECUTED)
            loading = asyncio.create_task(kernel.load(SqlDriver, name="sql", config={"url": url}))
            waits = (
                "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%%mukernel_executed%%'"
            )
            while not loading.done() and watcher.exec_driver_sql(waits).first() is None:
                watcher.rollback()  # the activity is looked at once for each transaction
                await asyncio.sleep(0)
            other.commit()
            await loading
        assert (await kernel.get(Sql).query("select 1")).rows == [[1]]
    engine.dispose()


async def test_a_database_that_hangs_is_gone_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT", 2)  # the least that libpq takes
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it is connected to, and says nothing
        engine = database.new_engine(f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/x", 1)
        with pytest.raises(DatabaseGone, match="timeout"):
            await asyncio.to_thread(database.connect, engine, True)


@pytest.mark.parametrize(("query", "seconds"), [("", 5), ("?connect_timeout=60", 60)])
def test_a_url_may_say_how_long_a_connection_takes(query: str, seconds: int) -> None:
    engine, asked = database.new_engine(f"postgresql://user@x/x{query}", 1), list[int]()

    def note(dialect: Any, record: Any, positional: Any, named: dict[str, Any]) -> None:
        asked.append(int(named["connect_timeout"]))
        raise InterruptedError

    sqlalchemy.event.listen(engine, "do_connect", note)
    with pytest.raises(InterruptedError):
        engine.connect()
    assert asked == [seconds]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"url": "nonsense"}, "no URL"),
        ({"url": "sqlite://"}, "in memory"),
        ({"url": "sqlite:///:memory:"}, "in memory"),
        ({"url": "sqlite:///file::memory:?uri=true"}, "in memory"),
        ({"url": "sqlite:///file:?uri=true"}, "in memory"),
        ({"url": "sqlite:///file:/x?vfs=memdb&uri=true"}, "in memory"),
        ({"url": "unheard://x/y"}, "no database that SQLAlchemy knows"),
        (
            {"url": "sqlite:////there/is/no/such/folder/x.db"},
            r"config.url: '/there/is.*x.db' can't be used: unable to open",
        ),
        ({"url": "sqlite:////etc/passwd"}, r"config.url: '/etc/passwd' can't be used: "),
        ({"url": "sqlite:///a\0b"}, r"config.url: .* can't be used: embedded null byte"),
        ({"connections": 0}, "at most 1,000"),
        ({"remember": -1.0}, "config.remember"),
    ],
)
async def test_what_can_not_be_served_is_refused(
    config: dict[str, Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letter.txt").write_text("Dear database" * 100)
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match=problem) as caught:
            await kernel.load(SqlDriver, placement="process", config={"url": f"sqlite:///{tmp_path}/x.db", **config})
        assert "\n" not in str(caught.value) and not hasattr(caught.value, "__notes__"), "more than a sentence"
