"""Without the extras: folders of this machine are served all the same, and what needs more says what to install."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mukernel.drivers.http import HttpDriver
from mukernel.drivers.sql import SqlDriver
from mukernel.servers.files import FileServer, Mount

PROGRAM = """
import asyncio, sys
for name in ("fsspec", "fsspec.core", "sqlalchemy", "aiohttp"):
    sys.modules[name] = None
from mukernel import ContractError, Kernel
from mukernel.drivers.http import Http, HttpDriver
from mukernel.drivers.sql import SqlDriver
from mukernel.servers.files import Files, FileServer
async def main():
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/here": "."}})
        print((await kernel.get(Files).stat("/here")).kind)
        web = {"origins": ["https://example.com"]}
        for plugin, config in ((FileServer, {"mounts": {"/m": "memory://"}}), (SqlDriver, {}), (HttpDriver, web)):
            try:
                await kernel.load(plugin, name="other", config=config)
            except ContractError as error:
                print(error)
asyncio.run(main())
"""


def test_a_library_of_a_mount_is_missed_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    mounts: dict[str, Any] = {"/a": "folder", "/b": "file:///x", "/c": "zip::/a.zip", "/d": Mount("gs://bucket/in")}
    (problem,) = FileServer.config_problems(mounts=mounts)
    assert problem.startswith("mounts.'/d': 'gs://bucket/in' needs a library that is not installed: ")


@pytest.mark.parametrize(
    ("library", "driver", "config", "problem"),
    [
        ("sqlalchemy", SqlDriver, {}, "url: the SQL driver needs SQLAlchemy: pip install 'mukernel[sql]'"),
        ("psycopg", SqlDriver, {"url": "postgresql:///shop"}, "url: 'postgresql+psycopg' needs a library that is not"),
        (
            "aiohttp",
            HttpDriver,
            {"origins": []},
            "origins: the HTTP driver needs aiohttp: pip install 'mukernel[http]'",
        ),
    ],
)
def test_a_library_of_a_driver_is_missed_before_it_is_started(
    monkeypatch: pytest.MonkeyPatch, library: str, driver: Any, config: dict[str, Any], problem: str
) -> None:
    assert driver.config_problems(**config) == []
    monkeypatch.setitem(sys.modules, library, None)
    (found,) = driver.config_problems(**config)
    assert found.startswith(problem)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    here, files, sql, http = done.stdout.splitlines()
    assert here == "directory"
    assert "pip install 'mukernel[files]'" in files
    assert "pip install 'mukernel[sql]'" in sql
    assert "pip install 'mukernel[http]'" in http
