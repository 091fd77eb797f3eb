"""Database: an engine of SQLAlchemy, and what differs between databases."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ...contract import ContractError
from .interface import ConstraintViolated, DatabaseGone, Outcome, Rows, SqlError
from .sqlite_guard import SqliteGuard
from .statements import controls_transaction
from .values import bound, written

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult, Engine

MOST_ROWS = 100_000  # in one reply
BUSY = 30.0  # seconds that SQLite waits for a writer in another process
CONNECT = 5  # seconds that PostgreSQL has to take a connection, unless the URL says otherwise
READ_ONLY = "mukernel_read_only"  # an execution option of a connection


def new_engine(url: str, connections: int) -> Engine:
    """Connects to nothing yet. Raises ContractError, which begins with "config.url: ", for a URL that can't be served
    and for a library that is missing."""
    try:
        import sqlalchemy
    except ImportError:
        raise ContractError("config.url: the SQL driver needs SQLAlchemy: pip install 'mukernel[sql]'") from None
    try:
        where = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:  # what it says has the whole URL, the password too
        raise ContractError(
            "config.url: got what is no URL, wanted one such as 'sqlite:///shop.db' or 'postgresql://user@host/shop'"
        ) from None
    if where.drivername == "postgresql":
        where = where.set(drivername="postgresql+psycopg")
    sqlite = where.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {"check_same_thread": False, "timeout": BUSY} if sqlite else {}
    if sqlite:
        arguments["cached_statements"] = 0  # the guard is asked when a statement is compiled, so for each of them
    if where.drivername == "postgresql+psycopg":
        arguments["prepare_threshold"] = 0  # what is prepared is one statement: none can end a read-only transaction
        if "connect_timeout" not in where.query:
            arguments["connect_timeout"] = CONNECT  # a host that hangs answers nothing, where one that is off refuses
    cleaned = sqlite or where.drivername == "postgresql+psycopg"  # of others a connection is used once
    pool: dict[str, Any] = {"poolclass": sqlalchemy.NullPool}
    if cleaned:
        pool = {"poolclass": sqlalchemy.QueuePool, "pool_size": connections, "max_overflow": 0}
    try:
        engine = sqlalchemy.create_engine(
            where, connect_args=arguments, hide_parameters=True, pool_pre_ping=cleaned and not sqlite, **pool
        )  # fmt: skip
    except ImportError as error:
        raise ContractError(
            f"config.url: {where.drivername!r} needs a library that is not installed: {error}"
        ) from None
    except sqlalchemy.exc.ArgumentError as error:
        raise ContractError(f"config.url: {where.drivername!r} is no database that SQLAlchemy knows: {error}") from None
    if sqlite:
        sqlalchemy.event.listen(engine, "connect", set_up_sqlite)
        sqlalchemy.event.listen(engine, "begin", begin_sqlite)
    if cleaned:
        sqlalchemy.event.listen(
            engine, "checkin", functools.partial(check_in, clean_sqlite if sqlite else clean_psycopg)
        )
    return engine


def set_up_sqlite(connection: Any, record: Any) -> None:
    """Transactions begin when we say so; readers don't wait for the writer; what is committed survives kill -9. Raises
    SqlError for a database in memory, by whichever of its many names."""
    connection.isolation_level = None
    [(journal,)] = connection.execute("pragma journal_mode = wal").fetchall()
    file = next(row[2] for row in connection.execute("pragma database_list").fetchall() if row[1] == "main")
    if journal == "memory" or not file:
        raise SqlError("it is in memory, and would end with its process: name a file, such as 'sqlite:///shop.db'")
    for pragma in ("synchronous = full", "foreign_keys = on"):
        connection.execute(f"pragma {pragma}").close()
    guard = record.info["guard"] = SqliteGuard()
    connection.set_authorizer(guard.judge)


def begin_sqlite(connection: Connection) -> None:
    """Who is going to write waits for the other writer at the beginning, and not half way, where one would fail."""
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    with connection.info["guard"].lifted():
        connection.exec_driver_sql(f"pragma query_only = {'on' if read_only else 'off'}")
        connection.exec_driver_sql("begin" if read_only else "begin immediate")


def check_in(clean: Callable[[Any, Any], bool], connection: Any, record: Any) -> None:
    """Called when a connection goes back to the pool. What a statement has left in it would be there for whoever has it
    next, so one that does not come clean is thrown away."""
    if connection is None:  # it was thrown away already
        return
    try:
        kept = clean(connection, record)
    except Exception:
        kept = False
    if not kept:
        record.invalidate()


def clean_psycopg(connection: Any, record: Any) -> bool:
    """Undo `set`, `set role`, `listen`, `prepare`, `declare … with hold`, temporary tables and locks of the session."""
    connection.rollback()
    connection.autocommit = True
    connection.execute("discard all", prepare=False).close()
    connection.autocommit = False
    # psycopg forgets what it had prepared, which is gone as well, when it rolls something back.
    connection.execute("select 1", prepare=False).close()
    connection.rollback()
    return True


def clean_sqlite(connection: Any, record: Any) -> bool:
    """Temporary tables, views and triggers come before those of the database, and last as long as the connection."""
    return not connection.execute("select count(*) from sqlite_temp_master").fetchone()[0]


def connect(engine: Engine, read_only: bool) -> Connection:
    """A connection whose transactions can, or can't, change anything. Raises SqlError."""
    with explained():
        connection = engine.connect()
        options: dict[str, Any] = {READ_ONLY: read_only}
        if engine.dialect.name == "postgresql":
            options["postgresql_readonly"] = read_only
        return connection.execution_options(**options)


def run(connection: Connection, statement: str, parameters: dict[str, Any] | list[dict[str, Any]]) -> Outcome:
    """Run a statement to its end. Raises SqlError, and ValueError for parameters and too many rows."""
    result = begun(connection, statement, parameters)
    with explained():
        try:
            if not result.returns_rows:
                return Outcome(max(0, result.rowcount))
            rows = result.fetchmany(MOST_ROWS + 1)
            if len(rows) > MOST_ROWS:
                raise ValueError(f"{statement[:60]!r} has more than {MOST_ROWS:,} rows: stream them, or ask for fewer")
            return Outcome(max(0, result.rowcount), made(result, rows))
        finally:
            result.close()


def begun(
    connection: Connection, statement: str, parameters: dict[str, Any] | list[dict[str, Any]]
) -> CursorResult[Any]:
    """A statement's result before anything of it is fetched."""
    from sqlalchemy import text

    if not statement.strip():
        raise SqlError("the statement is empty")
    if (word := controls_transaction(statement, nested=connection.dialect.name == "postgresql")) is not None:
        raise SqlError(
            f"{word!r} would end or change a transaction that is the driver's: each call is a transaction of its own; "
            "`async with transaction(sql)` makes one of several statements, and an exception in it rolls back"
        )
    given = [bound(statement, each) for each in parameters] if isinstance(parameters, list) else bound(
        statement, parameters
    )  # fmt: skip
    with explained():
        return connection.execute(text(statement), given)


def made(result: CursorResult[Any], rows: Any) -> Rows:
    columns = list(result.keys())
    kinds, plain = written(rows, len(columns))
    return Rows(columns, kinds, plain)


def close_result(result: CursorResult[Any]) -> None:
    """Let go of what was not fetched; a connection that is broken has let go already."""
    with suppress(Exception):
        result.close()


def interrupt(connection: Connection) -> None:
    """Let a statement that runs in another thread end; called for a caller that waits no more."""
    with suppress(Exception):
        raw: Any = connection.connection.driver_connection
        stop = getattr(raw, "interrupt", None) or getattr(raw, "cancel_safe", None) or getattr(raw, "cancel", None)
        if stop is not None:
            stop()


@contextmanager
def explained() -> Iterator[None]:
    """What SQLAlchemy raises, as the errors of the interface; neither the URL nor a parameter is in their text."""
    from sqlalchemy import exc

    try:
        yield
    except exc.IntegrityError as error:
        raise ConstraintViolated(said(error)) from None
    except (exc.InterfaceError, exc.TimeoutError) as error:
        raise DatabaseGone(said(error)) from None
    except exc.DBAPIError as error:
        unreachable = error.connection_invalidated or (
            isinstance(error, exc.OperationalError) and getattr(error.orig, "sqlstate", "") is None
        )
        raise (DatabaseGone if unreachable else SqlError)(said(error)) from None
    except exc.StatementError as error:
        raise SqlError(f"{error.orig or error.args[0]}") from None
    except exc.SQLAlchemyError as error:
        raise SqlError(str(error)) from None


def said(error: Any) -> str:
    text = str(getattr(error, "orig", None) or error).strip()
    if text.startswith("COPY cannot be used"):  # and it says what a user of psycopg would do
        return "rows don't travel by `copy` from stdin or to stdout: `execute_many` writes them, `stream` reads them"
    return text
