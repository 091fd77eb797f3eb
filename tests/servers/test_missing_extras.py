"""Without the extras: folders of this machine are served all the same, and what needs more says what to install."""

import subprocess
import sys
from pathlib import Path

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


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    here, files, sql, http = done.stdout.splitlines()
    assert here == "directory"
    assert "pip install 'mukernel[files]'" in files
    assert "pip install 'mukernel[sql]'" in sql
    assert "pip install 'mukernel[http]'" in http
