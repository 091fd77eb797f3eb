"""A real S3 server on 127.0.0.1, in a process of its own: moto's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

START = (
    "import sys; from werkzeug.serving import make_server; from moto.moto_server.werkzeug_app import *\n"
    "server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)\n"
    "print('port', server.port, flush=True); server.serve_forever()"
)
ACCOUNT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Yields its URL."""
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", START], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | ACCOUNT,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        found = re.match(r"port (\d+)", server.stdout.readline())
        assert found is not None, "the S3 server did not start"
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def bucket(server: str, name: str) -> None:
    """Make a bucket."""
    with urlopen(Request(f"{server}/{name}", method="PUT")) as answer:
        assert answer.status == 200


def put(server: str, path: str, data: bytes) -> None:
    """Make an object, as another program does: `path` may end in a slash."""
    with urlopen(Request(f"{server}/{path}", data, method="PUT")) as answer:
        assert answer.status == 200


def mounted(server: str, folder: str, **more: Any) -> dict[str, Any]:
    """A mount of a folder of a bucket, as a configuration has it."""
    options = {"key": "key", "secret": "secret", "client_kwargs": {"endpoint_url": server, "region_name": "us-east-1"}}
    return {"url": f"s3://{folder}", "options": options, **more}
