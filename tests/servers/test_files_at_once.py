"""Mounts of fsspec that several callers use at once: everybody has the bytes that they asked for."""

import asyncio
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mukernel import Kernel
from mukernel.servers.files import Files, FileServer
from mukernel.servers.files.names import layers
from mukernel.servers.files.remote import RemoteFolder

SIZE = 300_000


def archive(folder: Path, kind: str) -> str:
    """A tar of 16 files, of one letter each; its URL."""
    path = folder / f"a.{kind}"
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
        for number in range(16):
            member = tarfile.TarInfo(f"{number}")
            member.size = SIZE
            tar.addfile(member, io.BytesIO(bytes([65 + number]) * SIZE))
    return f"tar://::{path}"


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
async def test_the_bytes_of_an_archive_are_those_that_were_asked_for(tmp_path: Path, kind: str) -> None:
    async with Kernel() as kernel:
        config = {"mounts": {"/archive": archive(tmp_path, kind)}}
        await kernel.load(FileServer, placement="process", config=config)
        files = kernel.get(Files)

        async def wrong(number: int) -> int:
            found = [bytes(await files.read(f"/archive/{number}")) for _ in range(5)]
            return sum(each != bytes([65 + number]) * SIZE for each in found)

        assert await asyncio.gather(*(wrong(number) for number in range(16))) == [0] * 16


@pytest.mark.parametrize(
    ("url", "options", "for_many"),
    [
        ("http://localhost/a", {}, True),
        ("dir://", {"target_protocol": "http", "path": "http://localhost/a"}, True),
        ("simplecache::http://localhost/a", {}, False),
        ("memory://a", {}, False),
        ("dir://", {"target_protocol": "memory", "path": "a"}, False),
        ("simplecache://", {"target_protocol": "memory"}, False),
        ("simplecache::memory://a", {"memory": {}}, False),
    ],
)
def test_a_file_system_is_of_one_mount_and_only_an_async_one_is_used_by_several(
    url: str, options: dict[str, Any], for_many: bool
) -> None:
    one, other = (RemoteFolder("mount", url, options) for _ in range(2))
    assert one.for_many is other.for_many is for_many
    assert {id(each) for each in layers(one.system)}.isdisjoint(id(each) for each in layers(other.system))
