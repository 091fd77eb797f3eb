"""Mounts of fsspec that several callers use at once: everybody has the bytes that they asked for."""

import asyncio
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mukernel import Buffer, Kernel
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


async def test_a_file_in_an_archive_is_read_once_from_its_beginning_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not from its beginning for each part."""
    data, opened, open_member = os.urandom(1000), list[str](), zipfile.ZipFile.open

    def counted(self: zipfile.ZipFile, name: Any, *given: Any, **options: Any) -> Any:
        opened.append(name)
        return open_member(self, name, *given, **options)

    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as written:
        for name in ("one", "other"):
            written.writestr(name, data)
    monkeypatch.setattr(zipfile.ZipFile, "open", counted)
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/zip": f"zip://::{tmp_path / 'a.zip'}"}})
        files = kernel.get(Files)
        for offset in [*range(0, 1000, 100), 300]:  # the last one goes back
            assert await files.read("/zip/one", offset, 100) == Buffer(data[offset : offset + 100])
        assert opened == ["one"]
        assert await files.read("/zip/other", 900) == Buffer(data[900:])
        assert await files.read("/zip/one", 0, 10) == Buffer(data[:10])
        assert opened == ["one", "other", "one"]
