"""A mount over HTTP whose server answers with an error, or not at all: nobody is told that a file is not there."""

import errno
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mukernel import Buffer, Kernel
from mukernel.servers.files import Files, FileServer


class WebServer(ThreadingHTTPServer):
    """Of one file under every name. `status`: what it answers."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def end(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    """Each on a connection of its own."""

    server: WebServer

    def log_message(self, *given: object) -> None:
        """No."""

    def do_HEAD(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", "1")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"x")


@pytest.fixture
def server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    if server.thread.is_alive():
        server.end()


@pytest.fixture
async def files(server: WebServer) -> AsyncIterator[Files]:
    async with Kernel() as kernel:
        mounts = {"/web": f"http://127.0.0.1:{server.server_port}/"}
        await kernel.load(FileServer, placement="process", config={"mounts": mounts})
        yield kernel.get(Files)


async def check_refused(files: Files, number: int) -> None:
    for call in (
        files.stat("/web/x"),
        files.read("/web/x"),
        files.list("/web/x"),
        files.mkdir("/web/x"),
        files.append("/web/x", Buffer(b"y")),
        files.remove("/web/x", recursive=True),
    ):
        with pytest.raises(OSError, match="'/web/x': ") as caught:
            await call
        assert caught.value.errno == number, caught.value


async def test_a_file_that_can_not_be_asked_for_is_not_called_missing(files: Files, server: WebServer) -> None:
    async with aclosing(files.watch("/web/x", interval=0.01)) as changes:  # type: ignore[type-var]
        assert (await anext(changes)).kind == "watching"
        server.status = 503
        with pytest.raises(OSError, match="503"):
            await anext(changes)
    await check_refused(files, errno.EIO)
    server.status = 403
    await check_refused(files, errno.EIO)
    server.end()
    await check_refused(files, errno.ECONNREFUSED)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_file_that_the_server_says_is_missing_is(files: Files, server: WebServer, status: int) -> None:
    server.status = status
    for call in (files.stat("/web/x"), files.read("/web/x"), files.list("/web/x")):
        with pytest.raises(FileNotFoundError, match="'/web/x': "):
            await call


PROGRAM = """
import asyncio, sys
from mukernel import Kernel
from mukernel.servers.files import Files, FileServer

async def main() -> None:
    async with Kernel() as kernel:
        await kernel.load(FileServer, config={"mounts": {"/web": sys.argv[1]}}, drain=0.0)
        calls = [asyncio.create_task(kernel.get(Files).stat(f"/web/{number}")) for number in range(20)]
        await asyncio.to_thread(sys.stdin.readline)
    await asyncio.wait(calls)
    print("ended")

asyncio.run(main())
"""


def test_a_web_server_that_never_answers_keeps_no_program_from_ending() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        command = [sys.executable, "-c", PROGRAM, url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            connection, _ = silent.accept()
            with connection:
                try:
                    said, _ = program.communicate("go on\n", timeout=100)  # the library itself gives up after 300
                finally:
                    program.kill()
    assert (said, program.returncode) == ("ended\n", 0)
