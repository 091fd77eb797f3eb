"""A real HTTP server on 127.0.0.1, in threads; what it was asked is kept, and some paths do as tests want."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

LARGE = 3 << 20  # bytes of /large


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def taken(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.counts[f"{self.command} {path}"] += 1
        if path == "/held":
            self.server.reached.set()
            self.server.release.wait()
        body = self.taken()
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        if path == "/to":
            status, _, place = query.partition("=")
            self.answer(int(status), b"moved", Location=place)
        elif path == "/large":
            self.answer(200, bytes(range(256)) * (LARGE // 256))
        elif path == "/endless":
            self.answer_endlessly()
        elif path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        elif path == "/nonsense":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            self.close_connection = True
        elif path == "/cookie":
            self.answer(200, Set_Cookie="session=1; Path=/")
        elif path == "/missing":
            self.answer(404, b"there is none")
        else:
            self.answer(200, body or self.path.encode(), X_Method=self.command, Content_Type="text/plain")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def answer_endlessly(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.server.release.is_set():
                self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                self.server.counts["sent"] += 0x10000
        except OSError:
            self.close_connection = True
            self.server.left.set()


class WebServer(ThreadingHTTPServer):
    """A context manager."""

    daemon_threads = True
    block_on_close = True
    request_queue_size = 200

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if context is not None:
            self.socket, self.scheme = context.wrap_socket(self.socket, server_side=True), "https"
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.counts: Counter[str] = Counter()
        self.reached, self.release, self.left = threading.Event(), threading.Event(), threading.Event()

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what the tests are about."""

    def __enter__(self) -> WebServer:
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self.shutdown()
        self.thread.join()
        self.server_close()
