"""Who may do what with which files: what the file server makes of its callers' grants."""

from pathlib import Path
from typing import Any

import pytest

from mukernel import Buffer, Interface, Kernel, PermissionDenied, Plugin
from mukernel.servers.files import Files, FileServer


class Clerk(Interface):
    async def read(self, path: str) -> bytes: ...
    async def write(self, path: str, data: bytes) -> int: ...
    async def locks(self) -> list[str]: ...


class Keeper(Plugin, Clerk):
    def __init__(self, files: Files) -> None:
        self.files = files

    async def read(self, path: str) -> bytes:
        return bytes(await self.files.read(path))

    async def write(self, path: str, data: bytes) -> int:
        return (await self.files.write(path, Buffer(data))).size

    async def locks(self) -> list[str]:
        return [lock.path for lock in await self.files.locks()]


async def clerk(kernel: Kernel, folder: Path, *grants: str) -> Clerk:
    (folder / "in").mkdir()
    (folder / "in" / "a.txt").write_bytes(b"a")
    (folder / "inner.txt").write_bytes(b"not in")
    config: dict[str, Any] = {"mounts": {"/data": str(folder)}}
    await kernel.load(FileServer, name="files", placement="process", config=config)
    await kernel.load(Keeper, name="keeper", placement="process", grants=grants)
    return kernel.get(Clerk)


async def test_a_scope_and_a_right_are_kept(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        keeper = await clerk(kernel, tmp_path, "Files:read:/data/in")
        assert await keeper.read("/data/in/a.txt") == b"a"
        assert await keeper.read("/data/in/./a.txt") == b"a"
        for path in ("/data/inner.txt", "/data"):
            with pytest.raises(PermissionDenied, match="Files:read:/data/in"):
                await keeper.read(path)
        with pytest.raises(Exception, match=r"without '\.\.'"):
            await keeper.read("/data/in/../inner.txt")
        with pytest.raises(PermissionDenied):
            await keeper.write("/data/in/a.txt", b"b")
        async for _ in kernel.get(Files).lock("/data/inner.txt"):
            assert await keeper.locks() == [], "what it may not read it is not told of"
            break


async def test_who_may_only_write_writes(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        keeper = await clerk(kernel, tmp_path, "Files:write:/data/in")
        assert await keeper.write("/data/in/b.txt", b"bb") == 2
        with pytest.raises(PermissionDenied):
            await keeper.read("/data/in/b.txt")
