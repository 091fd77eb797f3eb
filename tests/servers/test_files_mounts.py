"""Mounts that lie in each other: what is a folder for all who look is none that a file may take the place of."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from uuid import uuid4

import pytest

from mukernel import Buffer, Kernel
from mukernel.servers.files import Files, FileServer


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    """A mount in a folder of another one, which has no such folder."""
    for name in ("data", "deep"):
        (tmp_path / name).mkdir()
    mounts = {"/data": str(tmp_path / "data"), "/data/sub/deep": str(tmp_path / "deep")}
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": mounts})
        yield kernel.get(Files)


async def test_no_file_takes_the_place_of_a_folder_that_mounts_lie_in(files: Files) -> None:
    """Nobody could see it afterwards."""
    await files.write("/data/precious", Buffer(b"kept"))
    upload, data = uuid4().hex, Buffer(b"hidden")
    refused: list[Awaitable[object]] = [
        files.write("/data/sub", data), files.append("/data/sub", data), files.write_part("/data/sub", upload, 0, data),
        files.commit("/data/sub", upload, 0), files.copy("/data/precious", "/data/sub"),
        files.rename("/data/precious", "/data/sub"), files.rename("/data/sub", "/data/other"),
        files.remove("/data/sub"),
    ]  # fmt: skip
    for change in refused:
        with pytest.raises(PermissionError, match="'/data/sub': there are mounts beneath it"):
            await change
    assert [(each.path, each.kind) for each in await files.list("/data")] == [
        ("/data/precious", "file"), ("/data/sub", "directory"),
    ]  # fmt: skip
    assert bytes(await files.read("/data/precious")) == b"kept"
