"""A mount over HTTP: the bytes that were asked for, or an error, whatever the server takes a range for."""

import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mukernel import Buffer, Kernel, KernelThread
from mukernel.servers.files import Files, FileServer, connect_files, disconnect_files

CONTENT = bytes(range(256)) * 1000


class Server(BaseHTTPRequestHandler):
    """Of one file under several names, each of which says how a range is answered."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *given: object) -> None:
        """No."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        name, body, status = self.path.strip("/"), CONTENT, 200
        if asked and name in ("ranges", "more", "fewer"):
            start, last = int(asked[1]), int(asked[2])
            body, status = CONTENT[start : last + {"ranges": 1, "more": 11, "fewer": -9}[name]], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(CONTENT)}")
        if name != "unsized":
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if with_body:
            self.wfile.write(body)


class Listing(SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None:
        """No."""


@contextmanager
def served(handler: Any) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def url() -> Iterator[str]:
    with served(Server) as url:
        yield url


@pytest.fixture
async def files(url: str) -> AsyncIterator[Files]:
    async with Kernel() as kernel:
        await kernel.load(FileServer, placement="process", config={"mounts": {"/web": url}})
        yield kernel.get(Files)


@pytest.mark.parametrize("name", ["ranges", "whole", "unsized"])
async def test_a_part_is_the_part_that_was_asked_for(files: Files, name: str) -> None:
    """Also of a server that sends all of it whatever is asked, and of one that doesn't say how much that is."""
    path = f"/web/{name}"
    assert (await files.stat(path)).size == len(CONTENT)
    for offset, length in ((5, 10), (0, 10), (len(CONTENT) - 5, 10), (100, None), (0, None)):
        end = None if length is None else offset + length
        assert await files.read(path, offset, length) == Buffer(CONTENT[offset:end]), (offset, length)


@pytest.mark.parametrize(("name", "got"), [("more", "got 20"), ("fewer", "got 0")])
async def test_another_part_is_an_error(files: Files, name: str, got: str) -> None:
    with pytest.raises(OSError, match=f"'/web/{name}': asked for 10 bytes from 5 on of {len(CONTENT)}, {got}: "):
        await files.read(f"/web/{name}", 5, 10)


async def test_folders_of_a_web_server_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a folder#1" / "deeper").mkdir(parents=True)
    (tmp_path / "a folder#1" / "50%.txt").write_text("found")
    handler = partial(Listing, directory=str(tmp_path))
    with served(handler) as url:
        async with Kernel() as kernel:
            await kernel.load(FileServer, placement="process", config={"mounts": {"/web": url}})
            files = kernel.get(Files)
            assert [(each.path, each.kind) for each in await files.list("/web")] == [("/web/a folder#1", "directory")]
            assert (await files.stat("/web/a folder#1")).kind == "directory"
            within = [(each.path.rpartition("/")[2], each.kind) for each in await files.list("/web/a folder#1")]
            assert within == [("50%.txt", "file"), ("deeper", "directory")]
            assert await files.read("/web/a folder#1/50%.txt") == Buffer(b"found")
            assert await files.list("/web/a folder#1/deeper") == []
            with pytest.raises(NotADirectoryError):
                await files.list("/web/a folder#1/50%.txt")


def test_an_open_file_has_the_part_that_was_asked_for(url: str) -> None:
    with KernelThread() as kernel:
        kernel.load(FileServer, placement="process", config={"mounts": {"/web": url}})
        connect_files(kernel.get(Files), "parts")
        system = fsspec.filesystem("mukernel", app="parts")
        try:
            for name in ("whole", "unsized"):
                with system.open(f"/web/{name}", "rb", block_size=1000) as file:
                    file.seek(5000)
                    assert file.read(300) == CONTENT[5000:5300]
                assert system.cat_file(f"/web/{name}", -300, -100) == CONTENT[-300:-100]
        finally:
            disconnect_files("parts")
