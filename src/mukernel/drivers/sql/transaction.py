"""transaction(sql): the caller's side of a transaction, as a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ...contract import Unavailable
from .interface import Outcome, Rows, Sql, Step


class Transaction:
    """One transaction while it lasts. One statement at a time."""

    def __init__(self, sql: Sql) -> None:
        self.steps: asyncio.Queue[Step] = asyncio.Queue()
        self.outcomes = sql.transaction(self.told())

    async def told(self) -> AsyncIterator[Step]:
        while True:
            step = await self.steps.get()
            yield step
            if step.kind != "run":
                return

    async def execute(self, statement: str, parameters: dict[str, Any] | None = None) -> Outcome:
        """Run a statement. Raises SqlError, after which the whole transaction is rolled back."""
        return await self.ask(Step("run", statement, parameters or {}))

    async def query(self, statement: str, parameters: dict[str, Any] | None = None) -> Rows:
        """Look at what is there, with what this transaction has changed."""
        return (await self.execute(statement, parameters)).rows or Rows([], [], [])

    async def ask(self, step: Step) -> Outcome:
        self.steps.put_nowait(step)
        try:
            return await anext(self.outcomes)
        except StopAsyncIteration:
            raise Unavailable("this transaction has ended already: begin another") from None


@asynccontextmanager
async def transaction(sql: Sql) -> AsyncIterator[Transaction]:
    """`async with transaction(sql) as changes:` commits at the end of the block, and rolls back what it raises.

    The commit is not run again after a crash: PluginCrashed there means that it is not known.
    """
    changes = Transaction(sql)
    try:
        yield changes
        await changes.ask(Step("commit"))
    finally:
        await changes.outcomes.aclose()  # type: ignore[attr-defined]
