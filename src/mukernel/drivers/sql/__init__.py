"""Sql: a database behind an interface."""

from .driver import SqlDriver
from .interface import ConstraintViolated, DatabaseGone, Outcome, Rows, Sql, SqlError, Step
from .transaction import Transaction, transaction

__all__ = [
    "ConstraintViolated", "DatabaseGone", "Outcome", "Rows", "Sql", "SqlDriver", "SqlError", "Step", "Transaction",
    "transaction",
]  # fmt: skip
