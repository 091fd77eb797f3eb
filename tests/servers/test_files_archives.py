"""Archives with links, pipes and devices in them; and with what can't be read."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mukernel import Kernel
from mukernel.servers.files import Files, FileServer


def archive(path: Path) -> None:
    with tarfile.open(path, "w") as written:
        for name in ("file", "empty"):
            entry = tarfile.TarInfo(name)
            entry.size = 3 if name == "file" else 0
            written.addfile(entry, io.BytesIO(b"abc"))
        for name, kind, target in (
            ("link", tarfile.SYMTYPE, "file"),
            ("second", tarfile.LNKTYPE, "file"),
            ("dangling", tarfile.SYMTYPE, "nowhere"),
            ("out", tarfile.SYMTYPE, "../../etc/passwd"),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("device", tarfile.CHRTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            written.addfile(entry)


async def test_what_is_no_file_is_an_error_and_not_an_empty_file(tmp_path: Path) -> None:
    archive(tmp_path / "a.tar")
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/tar": f"tar://::{tmp_path}/a.tar"}})
        files = kernel.get(Files)
        listed = {each.path: each for each in await files.list("/tar")}
        for name, content in (("file", b"abc"), ("link", b"abc"), ("second", b"abc"), ("empty", b"")):
            info = await files.stat(f"/tar/{name}")
            assert (info.kind, info.size) == ("file", len(content))
            assert bytes(await files.read(info.path, version=listed[info.path].version)) == content
            assert bytes(await files.read(info.path, 1)) == content[1:]
        for name, kind, told in (
            ("dangling", FileNotFoundError, "a link to what the archive has not"),
            ("out", FileNotFoundError, "a link to what the archive has not"),
            ("pipe", PermissionError, "no regular file"),
            ("device", PermissionError, "no regular file"),
        ):
            for call in (files.stat(f"/tar/{name}"), files.read(f"/tar/{name}")):
                with pytest.raises(kind, match=f"'/tar/{name}': it is {told}"):
                    await call


async def test_what_a_library_says_of_an_archive_that_is_damaged_is_passed_on(tmp_path: Path) -> None:
    """Its OSError has no number, so the number that stands for it says nothing."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as written:
        written.writestr("name", b"abc" * 100)
    content = (tmp_path / "a.zip").read_bytes()
    begin = content.index(b"BZh")
    (tmp_path / "a.zip").write_bytes(content[:begin] + b"no bzip2" + content[begin + 8 :])
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/zip": f"zip://::{tmp_path}/a.zip"}})
        with pytest.raises(OSError, match="'/zip/name': Invalid data stream"):
            await kernel.get(Files).read("/zip/name")
