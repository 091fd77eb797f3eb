"""SqliteGuard: keeps statements to the database that they are meant for, and off what belongs to the connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

ANY_ARGUMENT = {
    "application_id", "collation_list", "compile_options", "data_version", "defer_foreign_keys", "foreign_key_check",
    "foreign_key_list", "function_list", "index_info", "index_list", "index_xinfo", "integrity_check", "quick_check",
    "table_info", "table_list", "table_xinfo", "user_version",
}  # fmt: skip
ONLY_READ = {"encoding", "foreign_keys", "journal_mode", "page_count", "page_size", "query_only", "schema_version"}


class SqliteGuard:
    """Of one connection. `attach` would open any file of the machine, and most pragmas change the connection for
    whoever has it next, or turn off what makes a query read-only."""

    def __init__(self) -> None:
        self.own = False  # what the driver itself does is not judged

    def judge(self, action: int, first: str | None, second: str | None, database: str | None, inner: str | None) -> int:
        """SQLite asks it while it compiles a statement."""
        if self.own:
            return sqlite3.SQLITE_OK
        if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA:
            name = (first or "").lower()
            allowed = name in ANY_ARGUMENT or (name in ONLY_READ and second is None)
            return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    @contextmanager
    def lifted(self) -> Iterator[None]:
        self.own = True
        try:
            yield
        finally:
            self.own = False
