"""The HTTP driver, with real servers: what it may reach, what it gives away, and what a kill -9 does."""

import asyncio
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from waiting import until, until_event
from web_server import LARGE, WebServer

from mukernel import Buffer, ContractError, Kernel, PluginCrashed, RestartPolicy
from mukernel.drivers.http import (
    Http,
    HttpDriver,
    HttpError,
    HttpTimeout,
    OriginRefused,
    OriginUnreachable,
    TooLarge,
    opened,
)
from mukernel.drivers.http.origin import AllowedOrigins, is_public, read_url

TIRELESS = RestartPolicy(intensity=1000, period=1.0, backoff=0.001, longest_backoff=0.01)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(params=["inline", "process"])
async def kernel(request: pytest.FixtureRequest, web: WebServer, other: WebServer) -> AsyncIterator[Kernel]:
    config = {
        "origins": [web.origin, other.origin], "headers": {web.origin: {"X-Key": "of the operator"}},
        "max_response": 4 << 20, "max_request": "4M", "max_stream": "8M", "max_redirects": 3,
    }  # fmt: skip
    async with Kernel() as kernel:
        await kernel.load(HttpDriver, name="http", placement=request.param, config=config, restart=TIRELESS)
        yield kernel


@pytest.fixture
def http(kernel: Kernel) -> Http:
    return kernel.get(Http)


async def test_whole_requests(http: Http, web: WebServer) -> None:
    got = await http.get(f"{web.origin}/a%20b?c=d&e=%2F#part", {"Accept": "text/plain"})
    assert (got.status, got.reason, got.text()) == (200, "OK", "/a%20b?c=d&e=%2F")
    assert got.url == f"{web.origin}/a%20b?c=d&e=%2F"
    assert got.header("content-TYPE") == "text/plain" and got.header("x-none", "-") == "-"
    method, _, headers, _ = web.seen[-1]
    assert (method, headers["accept"], headers["x-key"]) == ("GET", "text/plain", "of the operator")
    assert headers["Accept-Encoding"] == "identity"
    head = await http.head(f"{web.origin}/large")
    assert head.header("Content-Length") == str(LARGE) and len(head.body) == 0
    for method in ("POST", "put", "DELETE"):
        made = await http.request(method, f"{web.origin}/x", {"Content-Type": "text/x"}, Buffer(b'{"a": 1}'))
        assert (made.header("X-Method"), made.json()) == (method.upper(), {"a": 1})
        assert web.seen[-1][2]["content-type"] == "text/x"
    assert (await http.get(f"{web.origin}/missing")).status == 404
    large = Buffer(bytes(range(256)) * (LARGE // 256))
    assert (await http.request("POST", f"{web.origin}/x", {}, large)).body == large
    assert (await http.get(f"{web.origin}/large")).body == large
    await http.get(f"{web.origin}/cookie")
    await http.get(f"{web.origin}/after")
    assert "Cookie" not in web.seen[-1][2], "nothing of one caller is another's"


async def test_streams_both_ways(http: Http, web: WebServer) -> None:
    async def given() -> AsyncIterator[Buffer]:
        for number in range(40):
            yield Buffer(bytes([number]) * 100_000)

    async with opened(http, "POST", f"{web.origin}/x", body=given()) as response:
        assert (response.status, response.header("x-method")) == (200, "POST")
        content = b"".join([bytes(piece) async for piece in response])
    assert content == b"".join(bytes([number]) * 100_000 for number in range(40))
    async with opened(http, "GET", f"{web.origin}/to?302=/y") as response:
        assert (response.url, [bytes(piece) async for piece in response]) == (f"{web.origin}/y", [b"/y"])


async def test_a_stream_is_fetched_no_faster_than_it_is_read_and_can_be_left(http: Http, web: WebServer) -> None:
    async with opened(http, "GET", f"{web.origin}/endless") as response:
        async with aclosing(aiter(response)) as pieces:  # type: ignore[type-var]
            assert len(await anext(pieces)) > 0
        assert web.counts["sent"] < 64 << 20
    await asyncio.to_thread(web.left.wait)


async def test_sizes_are_bounded(http: Http, web: WebServer) -> None:
    with pytest.raises(TooLarge, match=r"max_request"):
        await http.request("POST", f"{web.origin}/x", {}, Buffer(bytes((4 << 20) + 1)))
    with pytest.raises(TooLarge, match=rf"{web.origin} answers with more than 4,194,304 bytes"):
        await http.get(f"{web.origin}/endless")
    with pytest.raises(TooLarge, match="max_stream"):
        async with opened(http, "GET", f"{web.origin}/endless") as response:
            async for _ in response:
                pass

    async def endless() -> AsyncIterator[Buffer]:
        while True:
            yield Buffer(bytes(1 << 20))

    with pytest.raises(TooLarge, match="max_stream"):
        async with opened(http, "POST", f"{web.origin}/x", body=endless()):
            pass
    assert (await http.get(f"{web.origin}/after")).status == 200


async def test_time_is_bounded(http: Http, web: WebServer) -> None:
    with pytest.raises(HttpTimeout, match=rf"{web.origin} did not answer within 0.05 s"):
        await http.get(f"{web.origin}/held", {}, 0.05)
    with pytest.raises(HttpTimeout):
        async with opened(http, "GET", f"{web.origin}/held", timeout=0.05):
            pass
    with pytest.raises(ValueError, match="timeout"):
        await http.get(f"{web.origin}/x", {}, 0)


async def test_what_breaks_off_is_told(http: Http, web: WebServer, other: WebServer) -> None:
    with pytest.raises(OriginUnreachable, match=web.origin):
        await http.get(f"{web.origin}/cut")
    with pytest.raises(HttpError, match="no HTTP"):
        await http.get(f"{web.origin}/nonsense")
    other.shutdown()
    other.server_close()
    with pytest.raises(OriginUnreachable, match=other.origin):
        await http.get(f"{other.origin}/x")


SECRETS = {"Authorization": "Bearer 1", "Cookie": "a=b", "X-Token": "2", "Accept": "text/x"}


async def test_redirects_are_followed_and_secrets_stay_where_they_belong(
    http: Http, web: WebServer, other: WebServer
) -> None:
    got = await http.get(f"{web.origin}/to?302=/here", SECRETS)
    assert (got.url, web.seen[-1][2]["authorization"]) == (f"{web.origin}/here", "Bearer 1")
    got = await http.get(f"{web.origin}/to?301={other.origin}/there", SECRETS)
    assert got.url == f"{other.origin}/there"
    names = {name.lower() for name in other.seen[-1][2]}
    assert names == {"host", "accept", "accept-encoding", "user-agent"}, names
    for status, method, sent in ((303, "GET", b""), (302, "GET", b""), (307, "POST", b"body"), (308, "POST", b"body")):
        got = await http.request("POST", f"{web.origin}/to?{status}=/x", {"Content-Type": "a/b"}, Buffer(b"body"))
        assert (web.seen[-1][0], web.seen[-1][3]) == (method, sent)
        assert ("content-type" in web.seen[-1][2]) == bool(sent)
    got = await http.request("POST", f"{web.origin}/to?307={other.origin}/x", {}, Buffer(b"secret"))
    assert (got.status, got.header("Location")) == (307, f"{other.origin}/x")
    assert all(body != b"secret" for *_, body in other.seen)


@pytest.mark.parametrize(
    "place", ["http://example.com/", "http://localhost:1/", "file:///etc/passwd", "//evil", "http://u:p@127.0.0.1/"]
)
async def test_redirects_to_where_nobody_may_go_are_not_followed(http: Http, web: WebServer, place: str) -> None:
    with pytest.raises(HttpError):
        await http.get(f"{web.origin}/to?302={place}")
    with pytest.raises(HttpError, match="more than 3 redirects"):
        await http.get(f"{web.origin}/to?302=/to?302=/to?302=/to?302=/to?302=/x")


async def test_only_what_is_listed_is_reached(http: Http, web: WebServer) -> None:
    for url in (
        f"http://localhost:{web.server_port}/", f"https://127.0.0.1:{web.server_port}/", "http://127.0.0.1/",
        f"http://127.0.0.2:{web.server_port}/", f"http://127.0.0.1.example.com:{web.server_port}/",
    ):  # fmt: skip
        with pytest.raises(OriginRefused, match=r"is not allowed; the origins of this driver are: http://127\.0\.0\.1"):
            await http.get(url)
    assert web.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pass@127.0.0.1/", "http://127.0.0.1\\@evil/", "http://127.1/", "http://0x7f000001/",
        "http://2130706433/",
        "http://[::1/", "http://exa mple/", "http:///x", "ftp://a/", "/x", "http://a/%2e%2e/b", "http://a/../b", "http://a/b/..%2fc",
        "http://a/b/..%5cc", "http://a/..;/b", "http://é/",
        "http://a/\r\nHost: b", "http://a:0/", "http://a:99999/", "http://a/" + "x" * 9000,
    ],
)  # fmt: skip
def test_urls_that_could_be_read_in_two_ways_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)^url: got .*wanted "):
        read_url(url)


async def test_headers_that_are_the_drivers_or_none_are_refused(http: Http, web: WebServer) -> None:
    bad: list[dict[str, str]] = [
        {"Host": "evil"}, {"Content-Length": "3"}, {"Transfer-Encoding": "chunked"}, {"X": "a\r\nY: b"}, {"a b": "c"},
        {"Connection": "upgrade"}, {"x": "1", "X": "2"}, {"X": "\u2026"}, {"X": "\xe9"}, {"X": "a\0"}, {"": "x"},
    ]  # fmt: skip
    for headers in bad:
        with pytest.raises(ValueError, match="headers: got"):
            await http.get(f"{web.origin}/x", headers)
    for method in ("CONNECT", "GET /x HTTP/1.1", ""):
        with pytest.raises(ValueError, match="method"):
            await http.request(method, f"{web.origin}/x")
    assert web.seen == []


def test_wildcards_mean_subdomains_and_nothing_else() -> None:
    allowed = AllowedOrigins(["https://*.example.com", "http://a.test:81"], [])
    for url in ("https://a.example.com/", "https://A.B.Example.com./x"):
        allowed.check(read_url(url).origin)
    for url in ("https://example.com", "https://notexample.com", "http://a.example.com", "https://a.example.com:444",
                "https://a.example.com.evil", "http://a.test", "http://b.a.test:81"):  # fmt: skip
        with pytest.raises(OriginRefused, match=r"https://\*\.example\.com"):
            allowed.check(read_url(url).origin)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True), ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("::1", False),
        ("fe80::1", False), ("fd00::1", False), ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False), ("255.255.255.255", False), ("192.168.0.1", False), ("::", False),
        ("fec0::1", False), ("64:ff9b:1::a00:1", False), ("::7f00:1", False), ("64:ff9b::808:808", True),
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_known(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


async def test_a_name_that_leads_to_a_private_address_leads_nowhere(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless its operator says so. And the connection goes to the address that was looked at: nobody asks twice."""
    origin, asked = f"http://rebound.test:{web.server_port}", []

    def resolved(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) % 2 else "192.0.2.1"  # another answer each time that it is asked
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    async with Kernel() as kernel:
        await kernel.load(HttpDriver, name="http", config={"origins": [origin]})
        with pytest.raises(OriginRefused, match=r"leads to 127\.0\.0\.1, .*private_origins"):
            await kernel.get(Http).get(f"{origin}/x")
    assert (web.seen, asked) == ([], ["rebound.test"])
    asked.clear()
    async with Kernel() as kernel:
        await kernel.load(HttpDriver, name="http", config={"origins": [origin], "private_origins": [origin]})
        assert (await kernel.get(Http).get(f"{origin}/x")).status == 200
    assert web.seen[-1][2]["Host"] == f"rebound.test:{web.server_port}"
    assert asked == ["rebound.test"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
async def test_certificates_are_checked(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
         "-out", certificate, "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with WebServer(context) as web:
        async with Kernel() as kernel:
            config = {"origins": [web.origin]}
            await kernel.load(HttpDriver, name="http", config=config)
            with pytest.raises(OriginUnreachable, match=f"{web.origin} shows no certificate that is trusted"):
                await kernel.get(Http).get(f"{web.origin}/x")
            await kernel.swap("http", HttpDriver, config={**config, "ca_file": certificate})
            assert (await kernel.get(Http).get(f"{web.origin}/x")).status == 200


async def test_proxies_of_the_environment_are_not_asked(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Kernel() as kernel:
        await kernel.load(HttpDriver, name="http", config={"origins": [web.origin]})
        assert (await kernel.get(Http).get(f"{web.origin}/x")).status == 200


@pytest.mark.parametrize("kernel", ["process"], indirect=True)
async def test_killed_under_load_it_comes_back_and_idempotent_requests_are_made_again(
    kernel: Kernel, web: WebServer
) -> None:
    http, done = kernel.get(Http), asyncio.Event()
    answered, unknown = [0] * 4, 0

    async def looks(number: int) -> None:
        while not done.is_set():
            path = f"/{number}/{answered[number]}"
            call = http.get if number else http.head
            assert (await call(f"{web.origin}{path}")).status == 200
            answered[number] += 1

    async def posts() -> None:
        nonlocal unknown
        while not done.is_set():
            try:
                assert (await http.request("POST", f"{web.origin}/post", {}, Buffer(b"x"))).body == b"x"
            except PluginCrashed:
                unknown += 1
            else:
                answered[3] += 1

    load = [asyncio.create_task(looks(number)) for number in range(3)] + [asyncio.create_task(posts())]
    for kill in range(8):
        reached = [each + 2 for each in answered]
        while not all(each >= want for each, want in zip(answered, reached, strict=True)):
            await asyncio.sleep(0)
            assert not [task for task in load if task.done()], [task.exception() for task in load if task.done()]
        await killed(kernel, kill + 1)
    done.set()
    await asyncio.gather(*load)
    assert answered[3] <= web.counts["POST /post"] <= answered[3] + unknown, "none was made twice"


async def killed(kernel: Kernel, times: int) -> None:
    instance = kernel.registry.entry("http").replicas[0].instance
    assert instance is not None and instance.place.pid is not None
    os.kill(instance.place.pid, signal.SIGKILL)
    await until_event(kernel, "http", "restart", times)


@pytest.mark.parametrize("kernel", ["process"], indirect=True)
async def test_killed_in_the_middle_of_a_request(kernel: Kernel, web: WebServer) -> None:
    """What is certainly being done is done again, or ends as unknown: by what it is."""
    http = kernel.get(Http)
    look = asyncio.create_task(http.get(f"{web.origin}/held"))
    change = asyncio.create_task(http.request("POST", f"{web.origin}/held", {}, Buffer(b"x")))
    await until(lambda: web.counts["GET /held"] == web.counts["POST /held"] == 1)
    await killed(kernel, 1)
    with pytest.raises(PluginCrashed):
        await change
    await until(lambda: web.counts["GET /held"] == 2)
    web.release.set()
    assert (await look).text() == "/held"
    assert web.counts["POST /held"] == 1


async def test_a_swap_under_load_loses_nothing(kernel: Kernel, web: WebServer) -> None:
    http = kernel.get(Http)
    calls = [asyncio.create_task(http.request("POST", f"{web.origin}/x", {}, Buffer(b"%d" % n))) for n in range(50)]
    await asyncio.sleep(0)
    await kernel.swap("http", HttpDriver)
    assert [(await call).body for call in calls] == [b"%d" % number for number in range(50)]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"origins": []}, "wanted at least one"),
        ({"origins": ["https://*"]}, "wanted an origin"),
        ({"origins": ["https://*.com"]}, "wanted an origin"),
        ({"origins": ["https://a.*.com"]}, "wanted an origin"),
        ({"origins": ["https://example.com/path"]}, "wanted an origin"),
        ({"origins": ["example.com"]}, "wanted an origin"),
        ({"origins": ["https://user@example.com"]}, "wanted an origin"),
        ({"private_origins": ["http://10.0.0.1"]}, "wanted one of `origins`"),
        ({"headers": {"http://b.test": {"X": "1"}}}, "wanted one of `origins`"),
        ({"headers": {"http://a.test": {"Host": "1"}}}, "sets itself"),
        ({"timeout": 0}, "config.timeout"),
        ({"max_response": "lots"}, "config.max_response"),
        ({"connections": 0}, "config.connections"),
        ({"ca_file": "/there/is/none"}, "config.ca_file"),
        ({"ca_file": "no\0thing"}, "config.ca_file"),
    ],
)
async def test_what_can_not_be_served_is_refused(config: dict[str, Any], problem: str) -> None:
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match=problem):
            await kernel.load(HttpDriver, config={"origins": ["http://a.test"], **config})
