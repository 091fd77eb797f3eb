"""SqlDriver: the plug-in that serves Sql from a database."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ...contract import ContractError, Plugin
from ...core.builtin import Clock
from ...core.checks import checked_count, checked_seconds
from ...core.ending import to_its_end
from ...transports.granted import caller_grant
from . import database
from .interface import DatabaseGone, Outcome, Rows, Sql, SqlError, Step

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("mukernel.sql")
T = TypeVar("T")
Right = Literal["read", "write"]
LONGEST_KEY = 200  # characters
MOST_CONNECTIONS = 1000
DEFAULT_URL = "sqlite:///mukernel.db"
MOST_BATCH = 100_000  # rows
INTERRUPT_AGAIN = 0.1  # seconds
EXECUTED = "create table if not exists mukernel_executed (key text primary key, changed bigint, at float)"


class SqlDriver(Plugin, Sql):
    """`url`: of SQLAlchemy; "postgresql://…" uses psycopg. `connections`: at most so many are open, and so many calls
    run, at once; others wait. `remember`: seconds that keys of `execute_once` are kept."""

    grant_rights = ("read", "write")

    def __init__(
        self, clock: Clock, *, url: str = DEFAULT_URL, connections: int = 5, remember: float = 86400.0
    ) -> None:
        checked_count("config.connections", connections, 1, MOST_CONNECTIONS)
        self.clock, self.remember = clock, checked_seconds("config.remember", remember)
        self.engine = database.new_engine(url, connections)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.free = asyncio.Semaphore(connections)
        self.preparing, self.prepared = asyncio.Lock(), False
        # One thread for each connection: a transaction that goes on never waits for one that only begins.
        self.threads = ThreadPoolExecutor(connections, "sql")

    @staticmethod
    def config_problems(*, url: str = DEFAULT_URL, **others: object) -> list[str]:
        try:
            database.new_engine(url, 1)
        except ContractError as error:
            return [str(error).removeprefix("config.")]
        return []

    async def start(self) -> None:
        """Serve, though the database can't be reached: it may come back, and nobody would start this again."""
        where = "config.url: " + (repr(self.engine.url.database) if self.is_sqlite else "the database")
        try:
            await self.prepare()
        except DatabaseGone as error:
            log.warning("%s can't be reached: %s; calls raise DatabaseGone until it can", where, in_one_line(error))
        except (SqlError, ValueError) as error:
            raise ContractError(
                f"{where} can't be used: {in_one_line(error)}; wanted a database that can be written to"
            ) from None

    async def prepare(self) -> None:
        """Once: have the table of keys, without those that are too old."""

        def work(connection: Connection) -> None:
            database.run(connection, EXECUTED, {})
            oldest = self.clock.wall().timestamp() - self.remember
            database.run(connection, "delete from mukernel_executed where at < :oldest", {"oldest": oldest})

        async with self.preparing:
            if not self.prepared:
                try:
                    await self.work(work)
                except SqlError as error:
                    if self.is_sqlite or isinstance(error, DatabaseGone):
                        raise
                    # PostgreSQL says so, too, where another driver makes the table at this moment: now it is there.
                    await self.work(work)
                self.prepared = True

    async def stop(self) -> None:
        await asyncio.to_thread(self.engine.dispose)
        self.threads.shutdown(wait=False)

    # -- what is served -----------------------------------------------------------------------------------------

    async def query(self, statement: str, parameters: dict[str, Any] = {}) -> Rows:  # noqa: B006
        self.allowed("read")
        outcome = await self.work(lambda connection: database.run(connection, statement, parameters), read_only=True)
        return outcome.rows or Rows([], [], [])

    async def execute(self, statement: str, parameters: dict[str, Any] = {}) -> Outcome:  # noqa: B006
        self.allowed("write")
        return await self.work(lambda connection: database.run(connection, statement, parameters))

    async def execute_many(self, statement: str, parameters: list[dict[str, Any]]) -> Outcome:
        self.allowed("write")
        if not parameters:
            return Outcome(0)
        return await self.work(lambda connection: database.run(connection, statement, parameters))

    async def execute_once(
        self, key: str, statement: str, parameters: dict[str, Any] = {}  # noqa: B006
    ) -> Outcome:  # fmt: skip
        self.allowed("write")
        if not 0 < len(key) <= LONGEST_KEY:
            raise ValueError(f"key: got {len(key)} characters, wanted 1 to {LONGEST_KEY}, such as str(uuid4())")

        def once(connection: Connection) -> Outcome:
            claim = (  # waits for whoever is at it with the same key, and then finds what that did
                "insert into mukernel_executed (key, changed, at) values (:key, 0, :at) on conflict (key) do nothing"
            )
            if not database.run(connection, claim, {"key": key, "at": self.clock.wall().timestamp()}).count:
                found = database.run(connection, "select changed from mukernel_executed where key = :key", {"key": key})
                assert found.rows is not None
                return Outcome(found.rows.rows[0][0])
            outcome = database.run(connection, statement, parameters)
            note = "update mukernel_executed set changed = :count where key = :key"
            database.run(connection, note, {"count": outcome.count, "key": key})
            return outcome

        await self.prepare()  # the database may have been away when this was started
        return await self.work(once)

    async def stream(
        self, statement: str, parameters: dict[str, Any] = {}, batch: int = 500  # noqa: B006
    ) -> AsyncIterator[Rows]:  # fmt: skip
        self.allowed("read")
        if not 1 <= batch <= MOST_BATCH:
            raise ValueError(f"batch: got {batch}, wanted 1 to {MOST_BATCH:,} rows")
        async with self.connected(read_only=True) as connection:

            def begin() -> Any:
                connection.execution_options(stream_results=True, max_row_buffer=batch)
                return database.begun(connection, statement, parameters)

            result = await self.in_thread(connection, begin)

            def fetch() -> Rows | None:
                with database.explained():
                    rows = result.fetchmany(batch) if result.returns_rows else []
                    return database.made(result, rows) if rows else None

            try:
                while (rows := await self.in_thread(connection, fetch)) is not None:
                    yield rows
            finally:
                await self.in_thread(connection, lambda: database.close_result(result))

    async def transaction(self, steps: AsyncIterator[Step]) -> AsyncIterator[Outcome]:
        self.allowed("write")
        async with self.connected(read_only=False) as connection:
            async for step in steps:
                if step.kind == "commit":
                    await self.in_thread(connection, lambda: commit(connection))
                if step.kind != "run":
                    yield Outcome(0)
                    return
                run = functools.partial(database.run, connection, step.statement, step.parameters)
                yield await self.in_thread(connection, run)

    def allowed(self, right: Right) -> None:
        """Raises PermissionDenied for what the caller was not granted. "read" is what runs in a read-only transaction;
        statements are not read here, so there are no scopes: the database's own rights bind to tables."""
        grant = caller_grant(self)
        if grant is not None:
            grant.check(right)

    # -- connections --------------------------------------------------------------------------------------------

    async def work(self, work: Callable[[Connection], T], read_only: bool = False) -> T:
        """Do `work` in a transaction of its own."""
        async with self.connected(read_only) as connection:

            def whole() -> T:
                result = work(connection)
                commit(connection)
                return result

            return await self.in_thread(connection, whole)

    @asynccontextmanager
    async def connected(self, read_only: bool) -> AsyncIterator[Connection]:
        """A connection of one's own; what is not committed in the end is rolled back. A cancelled call, too, gives its
        connection back before another takes it."""
        async with self.free:
            opening = self.thread(lambda: database.connect(self.engine, read_only))
            try:
                connection = await asyncio.shield(opening)
            except asyncio.CancelledError:
                await to_its_end(self.opened_for_nobody(opening))
                raise
            try:
                yield connection
            finally:
                if cancelled := await to_its_end(self.closed(connection)):
                    raise cancelled

    async def in_thread(self, connection: Connection, work: Callable[[], T]) -> T:
        """Do `work`, which uses the connection, in a thread; when its caller waits no more, its statement is ended."""
        running = self.thread(work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await to_its_end(self.interrupted(connection, running))
            raise

    def thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self.threads, work)

    async def opened_for_nobody(self, opening: asyncio.Future[Connection]) -> None:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await self.closed(opening.result())

    async def closed(self, connection: Connection) -> None:
        await self.thread(lambda: close(connection))

    async def interrupted(self, connection: Connection, running: asyncio.Future[Any]) -> None:
        """An interruption reaches a statement that runs, not one that is about to: so again until it has ended."""
        while not running.done():
            await asyncio.to_thread(database.interrupt, connection)  # a database on a network is asked by a message
            await asyncio.wait([running], timeout=INTERRUPT_AGAIN)
        running.exception()  # nobody waits for it any more


def commit(connection: Connection) -> None:
    with database.explained():
        connection.commit()


def close(connection: Connection) -> None:
    """Roll back what is open, and give the connection back; one that is broken is thrown away."""
    try:
        connection.close()
    except Exception:
        with suppress(Exception):  # it may be closed already, and thrown away; what its caller is told comes first
            connection.invalidate()


def in_one_line(error: Exception) -> str:
    """What libpq says has several."""
    return " ".join(str(error).split())
