"""Who may do what with which files: what the file server makes of its callers' grants."""

from pathlib import Path
from typing import Any

import pytest

from mukernel import Buffer, ContractError, Interface, Kernel, PermissionDenied, Plugin, RemoteError
from mukernel.servers.files import Files, FileServer, beneath


class Clerk(Interface):
    async def read(self, path: str) -> bytes: ...
    async def write(self, path: str, data: bytes) -> int: ...
    async def locks(self) -> list[str]: ...
    async def renew(self, path: str, token: int) -> None: ...
    async def change(self, method: str, paths: list[str]) -> None: ...
    async def kinds(self, path: str) -> dict[str, str]: ...


class Keeper(Plugin, Clerk):
    def __init__(self, files: Files) -> None:
        self.files = files

    async def read(self, path: str) -> bytes:
        return bytes(await self.files.read(path))

    async def write(self, path: str, data: bytes) -> int:
        return (await self.files.write(path, Buffer(data))).size

    async def locks(self) -> list[str]:
        return [lock.path for lock in await self.files.locks()]

    async def renew(self, path: str, token: int) -> None:
        await self.files.renew(path, token)

    async def change(self, method: str, paths: list[str]) -> None:
        if method == "append":
            await self.files.append(paths[0], Buffer(b"more"))
        else:
            await getattr(self.files, method)(*paths)

    async def kinds(self, path: str) -> dict[str, str]:
        return {each.path: each.kind for each in await self.files.list(path)}


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


async def test_only_who_may_take_a_lock_prolongs_one(tmp_path: Path) -> None:
    """Its token is no secret: `locks` shows it."""
    async with Kernel() as kernel:
        keeper = await clerk(kernel, tmp_path, "Files:read:/data/in")
        files = kernel.get(Files)
        for path, shared, allowed in [
            ("/data/in/a.txt", True, True), ("/data/in/a.txt", False, False), ("/data/inner.txt", True, False),
        ]:  # fmt: skip
            stream = files.lock(path, shared=shared, lease=60.0)
            token = (await anext(stream)).token
            if allowed:
                await keeper.renew(path, token)
            else:
                with pytest.raises(PermissionDenied, match="Files:read:/data/in"):
                    await keeper.renew(path, token)
            await stream.aclose()  # type: ignore[attr-defined]
        with pytest.raises(RemoteError, match="is held no more"):
            await keeper.renew("/data/in/a.txt", token)
        with pytest.raises(PermissionDenied):
            await keeper.renew("/data/inner.txt", token)


async def test_who_may_only_write_writes(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        keeper = await clerk(kernel, tmp_path, "Files:write:/data/in")
        assert await keeper.write("/data/in/b.txt", b"bb") == 2
        with pytest.raises(PermissionDenied):
            await keeper.read("/data/in/b.txt")


@pytest.mark.parametrize("openat2", [True, False])
async def test_no_link_leads_out_of_a_scope(openat2: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openat2:
        monkeypatch.setattr(beneath, "_known", [False])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_bytes(b"secret")
    async with Kernel() as kernel:
        config: dict[str, Any] = {"mounts": {"/data": str(tmp_path)}}
        await kernel.load(FileServer, name="files", placement="inline", config=config)
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.txt").write_bytes(b"a")
        (tmp_path / "in" / "folder").symlink_to("../out")
        (tmp_path / "in" / "file").symlink_to("../out/secret")
        await kernel.load(Keeper, name="keeper", placement="process", grants=["Files:read,write:/data/in"])
        keeper = kernel.get(Clerk)
        for path in ("/data/in/folder/secret", "/data/in/file"):
            with pytest.raises(Exception, match="symbolic link"):
                await keeper.read(path)
        inner = "/data/in/folder/secret"
        for method, paths in (
            ("append", [inner]), ("append", ["/data/in/file"]), ("mkdir", ["/data/in/folder/new"]), ("remove", [inner]),
            ("copy", [inner, "/data/in/b"]), ("copy", ["/data/in/a.txt", "/data/in/folder/b"]), ("list", [inner]),
            ("rename", [inner, "/data/in/b"]), ("rename", ["/data/in/a.txt", "/data/in/folder/b"]),
            ("list", ["/data/in/folder"]), ("stat", [inner]),
        ):  # fmt: skip
            with pytest.raises(Exception, match="symbolic link"):
                await keeper.change(method, paths)
        with pytest.raises(Exception, match="symbolic link"):
            await keeper.write("/data/in/folder/b", b"b")
        kinds = {"/data/in/a.txt": "file", "/data/in/file": "other", "/data/in/folder": "other"}
        assert await keeper.kinds("/data/in") == kinds
        assert await keeper.write("/data/in/file", b"own") == 3, "a link is replaced, and not written through"
        await keeper.change("remove", ["/data/in/folder"])
        assert [each.name for each in (tmp_path / "out").iterdir()] == ["secret"]
        assert (tmp_path / "out" / "secret").read_bytes() == b"secret"


async def test_who_was_granted_a_whole_mount_follows_links_within_it(tmp_path: Path) -> None:
    if not beneath.has_openat2():
        pytest.skip("this system has no openat2: no link is followed")
    async with Kernel() as kernel:
        keeper = await clerk(kernel, tmp_path, "Files:read:/data")
        (tmp_path / "in" / "link").symlink_to("../inner.txt")
        assert await keeper.read("/data/in/link") == b"not in"


async def test_folders_above_mounts_are_shown_to_who_holds_something_beneath_them(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        mounts = {"/shop/data": str(tmp_path), "/deep/secret": str(tmp_path)}
        await kernel.load(FileServer, name="files", placement="process", config={"mounts": mounts})
        await kernel.load(Keeper, name="keeper", placement="process", grants=["Files:read:/shop/data/in"])
        keeper = kernel.get(Clerk)
        for path in ("/", "/shop"):
            await keeper.change("stat", [path])
        await keeper.change("mkdir", ["/shop"])
        with pytest.raises(RemoteError, match="there are mounts beneath it"):
            await keeper.change("remove", ["/shop"])
        for method in ("stat", "mkdir", "remove"):
            with pytest.raises(
                PermissionDenied, match="'/deep': the caller was granted only: Files:read:/shop/data/in"
            ):
                await keeper.change(method, ["/deep"])


@pytest.mark.parametrize("scope", ["data/in", "/data//in", "/data/./in", "."])
async def test_a_scope_in_which_nothing_can_lie_is_refused(tmp_path: Path, scope: str) -> None:
    problem = rf"grant 'Files:read:{scope}': got the scope '{scope}', in which 'files' has nothing; wanted an absolute"
    async with Kernel() as kernel:
        await kernel.load(FileServer, name="files", config={"mounts": {"/data": str(tmp_path)}})
        with pytest.raises(ContractError, match=problem):
            await kernel.load(Keeper, name="keeper", grants=[f"Files:read:{scope}"])
        await kernel.load(Keeper, name="keeper", grants=["Files:read:/data/*"])
        with pytest.raises(ContractError, match=problem):
            await kernel.grant("keeper", f"Files:read:{scope}")
        await kernel.grant("keeper", "Files:read:/")
