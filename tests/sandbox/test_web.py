"""A plug-in in a sandbox has no network, and reaches the web through the HTTP driver as far as it was granted."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "drivers"))

import pytest
from sandbox_plugins import Browser, Visitor
from web_server import WebServer

from mukernel import Kernel, PermissionDenied, RemoteError
from mukernel.drivers.http import HttpDriver, OriginRefused


async def test_it_reaches_the_web_through_the_driver_and_not_by_itself() -> None:
    with WebServer() as web, WebServer() as other:
        async with Kernel() as kernel:
            await kernel.load(HttpDriver, name="http", placement="process", config={"origins": [web.origin]})
            grant = f"Http:read:{web.origin}/open"
            await kernel.load(Visitor, name="visitor", placement="sandbox", grants=[grant])
            browser = kernel.get(Browser)
            assert await browser.visit("GET", f"{web.origin}/open/page") == "200 /open/page"
            assert await browser.streamed(f"{web.origin}/open/page") == "/open/page"
            for method, url in (("GET", f"{web.origin}/closed"), ("DELETE", f"{web.origin}/open/page")):
                with pytest.raises(PermissionDenied, match=grant):
                    await browser.visit(method, url)
            for path in ("/open/../closed", "/open/%2e%2e%2fclosed"):
                with pytest.raises(RemoteError, match=r"whose path has '\.'"):
                    await browser.visit("GET", f"{web.origin}{path}")
            await kernel.grant("visitor", f"Http:{other.origin}")
            with pytest.raises(OriginRefused):
                await browser.visit("GET", f"{other.origin}/x")
            assert (await browser.by_itself("127.0.0.1", web.server_port)).startswith("PermissionError")
        assert [path for _, path, *_ in web.seen] == ["/open/page"] * 2
        assert other.seen == []
