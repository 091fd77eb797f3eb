"""What the tests of the drivers share: their own modules, and how to wait."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "core"))

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import INITDB, POSTGRES, PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own, on a Unix socket, for all tests."""
    if INITDB is None or POSTGRES is None:
        pytest.skip("no PostgreSQL server is installed (initdb and postgres are not on the path)")
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()
