"""Names on mounts of fsspec: each is a name there, and leads nowhere else, whatever a URL or a library makes of it."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from test_file_grants import Clerk, Keeper

from mukernel import Kernel, RemoteError
from mukernel.servers.files import Files, FileServer
from mukernel.servers.files.names import Names

ODD = ["100%.txt", "a b.txt", "a#b.txt", "a?b=1.txt", "a%20b.txt", "%2e%2e", "x+y=z,[1].txt", "é.txt"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *given: Any) -> None:
        """No."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of the folder `public` of a web server that serves more than that."""
    for folder in ("public/mine", "public/others"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("secret.txt", "public/others/o.txt", "public/mine/a.txt", *(f"public/mine/{name}" for name in ODD)):
        (tmp_path / name).write_text(name)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/public"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("through", ["http", "simplecache", "dir"])
async def test_no_path_leads_out_of_what_was_granted_of_a_web_server(url: str, through: str) -> None:
    mounts = {
        "http": url,
        "simplecache": f"simplecache::{url}",
        "dir": {"url": "dir://", "options": {"target_protocol": "http", "path": url}},
    }
    async with Kernel() as kernel:
        await kernel.load(FileServer, placement="process", config={"mounts": {"/web": mounts[through]}})
        await kernel.load(Keeper, placement="process", grants=["Files:read:/web/mine"])
        keeper = kernel.get(Clerk)
        assert await keeper.read("/web/mine/a.txt") == b"public/mine/a.txt"
        for up in ("%2e%2e/", "%2E%2E/", ".%2e/", "..%2f", "%2e%2e%2f", "%252e%252e/", "..\\", "..%5c", "..;/"):
            for path in (f"{up}others/o.txt", f"{up}{up}secret.txt", f"none/{up}{up}others/o.txt", f"a.txt?/{up}a.txt"):
                with pytest.raises(RemoteError, match=r"FileNotFoundError|wanted a path without"):
                    assert not await keeper.read(f"/web/mine/{path}")


async def test_a_name_of_a_web_server_is_one_whatever_it_looks_like_in_a_url(url: str) -> None:
    async with Kernel() as kernel:
        await kernel.load(FileServer, placement="process", config={"mounts": {"/web/mine": f"{url}/mine"}})
        files = kernel.get(Files)
        assert [each.path for each in await files.list("/web/mine")] == sorted(
            f"/web/mine/{name}" for name in ("a.txt", *ODD)
        )
        for name in ODD:
            assert bytes(await files.read(f"/web/mine/{name}")) == f"public/mine/{name}".encode()
        for none in ("a.txt?x=1", "a.txt#b", "a%2Etxt"):
            with pytest.raises(FileNotFoundError):
                await files.read(f"/web/mine/{none}")


@pytest.mark.parametrize(
    ("protocol", "refused"),
    [
        ("memory", ()), (("s3", "s3a"), ("?versionId=",)), ("sftp", ("\\",)), ("git", (":", "@")),
        ("made-up", ("%", "?", "#", "\\")), (("memory", "made-up"), ("%", "?", "#", "\\")),
    ],
)  # fmt: skip
def test_what_a_file_system_reads_otherwise_is_refused(protocol: Any, refused: tuple[str, ...]) -> None:
    """All that a URL would be read by, where it is not known what a file system makes of it."""
    system = MemoryFileSystem(skip_instance_cache=True)
    system.protocol = protocol
    names = Names(system)
    for mark in ("::", "://", *refused):
        with pytest.raises(OSError, match="wanted a path without"):
            names.written(f"in/a{mark}b")
    for mark in {"%", "?", "#", "\\", ":", "@", " "} - {*refused}:
        assert names.written(f"in/a{mark}b") == f"in/a{mark}b"
