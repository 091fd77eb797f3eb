"""Sql: the interface by which plug-ins reach a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec

from ...contract import Interface, idempotent
from .values import read_value

Parameters = dict[str, Any]


class SqlError(Exception):
    """The database refused a statement; what it says is the message."""


class ConstraintViolated(SqlError):
    """A unique, foreign, check or not-null constraint would not hold."""


class DatabaseGone(SqlError):
    """The database can't be reached, or the connection broke while the statement ran."""


class Rows(msgspec.Struct):
    """Rows of a result. `kinds`: for each column what its texts stand for ("decimal", "date" …), "" where they are what
    they are; `records()` and `tuples()` have the values as they were."""

    columns: list[str]
    kinds: list[str]
    rows: list[list[Any]]

    def tuples(self) -> list[tuple[Any, ...]]:
        return [tuple(map(read_value, self.kinds, row)) for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.tuples()]


class Outcome(msgspec.Struct):
    """What a statement did. `count`: rows that it changed; `rows`: what it returned, if anything."""

    count: int
    rows: Rows | None = None


class Step(msgspec.Struct):
    """What a transaction is told: run a statement, or end."""

    kind: Literal["run", "commit", "rollback"]
    statement: str = ""
    parameters: dict[str, Any] = {}


class Sql(Interface, version="1.0", raises=(ConstraintViolated, DatabaseGone, SqlError, ValueError)):
    """Runs SQL. A statement names its parameters, `:article`, and gets their values beside it: they are bound by the
    database and never become a part of its text. A colon that is none is written `\\\\:`.

    Values are None, bool, int, float, str, bytes, Decimal, date, time, datetime, timedelta and UUID.
    """

    @idempotent
    async def query(self, statement: str, parameters: Parameters = {}) -> Rows:  # noqa: B006
        """Look, in a transaction that can change nothing. Raises ValueError for more than 100,000 rows: stream them."""
        raise NotImplementedError

    async def execute(self, statement: str, parameters: Parameters = {}) -> Outcome:  # noqa: B006
        """Run a statement in a transaction of its own. After a crash in the middle it is not known whether it was: the
        caller gets PluginCrashed."""
        raise NotImplementedError

    @idempotent
    async def execute_once(self, key: str, statement: str, parameters: Parameters = {}) -> Outcome:  # noqa: B006
        """The same, safe to repeat: `key`, which the caller makes up (a uuid4), is kept in the same transaction, so a
        second call with it changes nothing and answers with the count of the first."""
        raise NotImplementedError

    async def execute_many(self, statement: str, parameters: list[dict[str, Any]]) -> Outcome:
        """Run a statement once for each of `parameters`, all in one transaction."""
        raise NotImplementedError

    def stream(
        self, statement: str, parameters: Parameters = {}, batch: int = 500  # noqa: B006
    ) -> AsyncIterator[Rows]:  # fmt: skip
        """The rows of a query, `batch` at a time, fetched no faster than they are read."""
        raise NotImplementedError

    def transaction(self, steps: AsyncIterator[Step]) -> AsyncIterator[Outcome]:
        """A transaction that lives as long as this channel: each step is answered. Without a step "commit" nothing
        stays, whether the steps end, the channel is closed, or its caller dies. `transaction(sql)` makes it handy."""
        raise NotImplementedError
